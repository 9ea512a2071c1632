"""Small networks, and their Fisher matrices in NumPy from Jacobians taken one at a time."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from upweight_torch import EkfacInfluence

F64 = torch.float64


class Twice(nn.Module):
    """A network with a layer that is used twice."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = nn.Linear(4, 3)

    def forward(self, x):
        return self.b(torch.tanh(self.a(torch.tanh(self.a(x)))))


NETWORKS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), (4,)),
    "no bias": (
        lambda: nn.Sequential(nn.Linear(4, 5, bias=False), nn.Tanh(), nn.Linear(5, 3)),
        (4,),
    ),
    "convolution": (
        lambda: nn.Sequential(
            nn.Conv1d(2, 3, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(9, 3)
        ),
        (2, 7),
    ),
    "shared": (Twice, (4,)),
}


def problem(name="mlp", *, n=40, trained=False, seed=0):
    torch.manual_seed(seed)
    make, shape = NETWORKS[name]
    model = make().to(F64)
    batch = torch.randn(n, *shape, dtype=F64), torch.randint(0, 3, (n,))
    if trained:
        optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
        for _ in range(100):
            optimizer.zero_grad()
            functional.cross_entropy(model(batch[0]), batch[1]).backward()
            optimizer.step()
        optimizer.zero_grad()
    return model, batch


def in_batches(batch, size):
    x, y = batch
    return [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]


def fitted(model, batch, loss=functional.cross_entropy, *, size=16, **options):
    return EkfacInfluence(model, loss, **options).fit(in_batches(batch, size), progress=False)


def jacobians(model, x):
    """Return the Jacobian of each sample's outputs in the parameters, (n, c, p) by module."""
    found = {}
    for layer, module in model.named_modules():
        parameters = list(module.parameters(recurse=False))
        if not parameters:
            continue
        rows = []
        for one in x:
            output = model(one[None])[0]
            for value in output:
                g = torch.autograd.grad(value, parameters, retain_graph=True)
                rows.append(torch.cat([part.flatten() for part in g]).numpy())
        found[layer or "root"] = np.stack(rows).reshape(len(x), -1, rows[0].size)
    return found


def softmax_fisher(model, x):
    """Return the dense Fisher matrix of each module for softmax outputs, in NumPy."""
    logits = model(x).detach().numpy()
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    hessians = np.stack([np.diag(row) - np.outer(row, row) for row in p])
    return {
        name: np.einsum("nap,nab,nbq->pq", J, hessians, J) / len(x)
        for name, J in jacobians(model, x).items()
    }


def loss_gradients(model, loss, batch):
    rows = []
    for x, y in zip(*batch, strict=True):
        g = torch.autograd.grad(loss(model(x[None]), y[None]), list(model.parameters()))
        rows.append(torch.cat([part.flatten() for part in g]).numpy())
    return np.stack(rows)


def basis_of(eigen, *, bias):
    """Return the Kronecker eigenbasis as columns over (weight, bias), (p, p)."""
    Q, A = eigen.outputs.numpy(), eigen.inputs.numpy()
    o, i = len(Q), len(A)
    basis = np.einsum("ab,cd->acbd", Q, A).reshape(o, i, o * i)
    if not bias:
        return basis.reshape(-1, o * i)
    return np.concatenate([basis[:, :-1].reshape(-1, o * i), basis[:, -1]])


def eigenvalue_errors(influence, fishers):
    """Return per layer the relative error of the eigenvalues against the dense diagonal."""
    errors = []
    for block, fisher in fishers.items():
        curvature = influence._curvatures[block]
        basis = basis_of(curvature.eigen, bias=curvature.has_bias)
        truth = np.diag(basis.T @ fisher @ basis)
        errors.append(
            np.linalg.norm(curvature.eigen.eigenvalues.numpy().ravel() - truth)
            / np.linalg.norm(truth)
        )
    return np.array(errors)


def distance(influence, fishers):
    """Return per layer how far the represented curvature is from the dense one, Frobenius."""
    found = []
    for block, fisher in fishers.items():
        curvature = influence._curvatures[block]
        basis = basis_of(curvature.eigen, bias=curvature.has_bias)
        dense = (basis * curvature.eigen.eigenvalues.numpy().ravel()) @ basis.T
        found.append(np.linalg.norm(dense - fisher))
    return np.array(found)
