"""Curvatures and blocks of torch models against dense matrices from torch's own Jacobians."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from upweight_torch import CgInfluence, DirectInfluence, TorchObjective

DAMPING = 0.05
MODES = ["gauss_newton", "empirical_fisher"]
BLOCKS = {
    "full": [["scale", "shift", "first.weight", "first.bias", "last.weight"]],
    "layer_wise": [["scale", "shift"], ["first.weight", "first.bias"], ["last.weight"]],
    "parameter_wise": [["scale"], ["shift"], ["first.weight"], ["first.bias"], ["last.weight"]],
}


class Scaled(nn.Module):
    """Layers, and parameters that belong to the model itself."""

    def __init__(self):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(3))
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 3, bias=False)

    def forward(self, x):
        return self.last(self.first((x * self.scale + self.shift).sin()).tanh())


def problem(k=5):
    """Return a model, training data of 40 and test data of k samples."""
    torch.manual_seed(0)
    model = Scaled().double()
    train, test = ((torch.randn(n, 3).double(), torch.randint(0, 3, (n,))) for n in (40, k))
    return model, train, test


def dense(model, batch):
    """Return Jacobians of the logits (n, 3, p), probabilities (n, 3) and gradients (n, p)."""
    x, y = batch
    names, values = zip(*model.named_parameters(), strict=True)
    jacobian = torch.autograd.functional.jacobian(
        lambda *values: functional_call(model, dict(zip(names, values, strict=True)), x), values
    )
    J = torch.cat([part.flatten(2) for part in jacobian], dim=2).numpy()
    probabilities = model(x).detach().softmax(1).numpy()
    slopes = probabilities - np.eye(3)[y.numpy()]
    return J, probabilities, np.einsum("nc,ncp->np", slopes, J)


def curvature(model, batch, mode):
    J, probabilities, gradients = dense(model, batch)
    if mode == "empirical_fisher":
        return gradients.T @ gradients / len(gradients)
    hessians = np.einsum("nc,cd->ncd", probabilities, np.eye(3))
    hessians -= np.einsum("nc,nd->ncd", probabilities, probabilities)
    return np.einsum("ncp,ncd,ndq->pq", J, hessians, J) / len(J)


def in_blocks(model, matrix, blocks):
    names = [name for name, value in model.named_parameters() for _ in range(value.numel())]
    block = [next(i for i, block in enumerate(blocks) if name in block) for name in names]
    return np.where(np.equal.outer(block, block), matrix, 0)


@pytest.mark.parametrize("k", [1, 7, 60], ids=["one row", "rows", "more rows than samples"])
def test_gauss_newton_products_do_not_depend_on_the_number_of_rows(k):
    model, train, _ = problem()
    matrix = curvature(model, train, "gauss_newton")
    rows = torch.randn(k, len(matrix), dtype=torch.float64)
    product = TorchObjective(model, cross_entropy).gauss_newton_product(rows, train)
    np.testing.assert_allclose(product, rows.numpy() @ matrix, rtol=0, atol=1e-12)


@pytest.mark.parametrize("k", [1, 60])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("structure", BLOCKS)
@pytest.mark.parametrize("solver", ["direct", "lockstep", "block"])
def test_factors_are_those_of_the_dense_matrix(solver, structure, mode, k):
    model, (x, y), test = problem(k)
    options = {
        "regularization": DAMPING,
        "second_order_mode": mode,
        "block_structure": structure,
    }
    if solver == "direct":
        influence = DirectInfluence(model, cross_entropy, **options)
    else:
        influence = CgInfluence(model, cross_entropy, rtol=1e-10, solver=solver, **options)
    influence.fit([(x[:31], y[:31]), (x[31:], y[31:])], progress=False)
    matrix = in_blocks(model, curvature(model, (x, y), mode), BLOCKS[structure])
    damped = matrix + DAMPING * np.eye(len(matrix))
    expected = np.linalg.solve(damped, dense(model, test)[2].T).T
    actual = influence.influence_factors(*test).numpy()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-8 * np.abs(expected).max())


def test_parameters_of_the_model_itself_are_a_block_of_their_own():
    model, train, test = problem()
    influence = DirectInfluence(
        model,
        cross_entropy,
        regularization=DAMPING,
        block_structure="layer_wise",
        second_order_mode="gauss_newton",
    ).fit([train], progress=False)
    shapes = {
        name: tuple(f.shape) for name, f in influence.influence_factors_by_block(*test).items()
    }
    assert shapes == {"root": (5, 6), "first": (5, 16), "last": (5, 12)}
