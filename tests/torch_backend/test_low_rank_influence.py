"""Arnoldi and Nyström influences of torch networks, against the dense curvature."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.func import functional_call, jacrev  # noqa: E402

from upweight_torch import ArnoldiInfluence, NystroemSketchInfluence  # noqa: E402
from upweight_torch.backend import torch_backend  # noqa: E402

DAMPING = 1.0  # above the negative curvature of a network that is not trained
METHODS = {"arnoldi": ArnoldiInfluence, "nystroem": NystroemSketchInfluence}


@pytest.fixture(params=METHODS.values(), ids=METHODS)
def method(request):
    return request.param


def problem(dtype=torch.float64):
    """Return a network of 24 parameters and samples (20, 3) with labels of 3 classes."""
    random = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    layers = (torch.nn.Linear(3, 3), torch.nn.Tanh(), torch.nn.Linear(3, 3))
    model = torch.nn.Sequential(*layers).to(dtype)
    x = torch.randn(20, 3, generator=random, dtype=torch.float64).to(dtype)
    return model, (x, torch.randint(0, 3, (20,), generator=random))


def dense_factors(model, batch, *, mode):
    """Return the factors of the samples from dense derivatives of torch itself, (n, p)."""
    shapes = {name: p.shape for name, p in model.named_parameters()}
    flat = torch.cat([p.detach().reshape(-1) for p in model.parameters()])

    def outputs(flat):
        parts = torch.split(flat, [shape.numel() for shape in shapes.values()])
        named = {n: part.reshape(shapes[n]) for n, part in zip(shapes, parts, strict=True)}
        return functional_call(model, named, (batch[0],))

    def losses(flat):
        return torch.nn.functional.cross_entropy(outputs(flat), batch[1], reduction="none")

    rows = jacrev(losses)(flat).numpy()
    if mode == "empirical_fisher":
        matrix = rows.T @ rows / len(rows)
    elif mode == "hessian":
        matrix = jacrev(jacrev(lambda flat: losses(flat).mean()))(flat).numpy()
    else:
        jacobian = jacrev(outputs)(flat).numpy()  # (n, c, p)
        p = torch.softmax(outputs(flat), 1).numpy()
        curved = np.einsum("nc,cd->ncd", p, np.eye(3)) - np.einsum("nc,nd->ncd", p, p)
        matrix = np.einsum("ncp,ncd,ndq->pq", jacobian, curved, jacobian) / len(rows)
    return np.linalg.solve(matrix + DAMPING * np.eye(len(flat)), rows.T).T


def modes(method):
    # Nyström refuses the Hessian, which is indefinite.
    return ["gauss_newton", "empirical_fisher"] + ["hessian"] * (method is ArnoldiInfluence)


@pytest.mark.parametrize(
    ("method", "mode"), [(method, mode) for method in METHODS.values() for mode in modes(method)]
)
def test_full_rank_is_the_dense_solution(method, mode):
    model, batch = problem()
    loss = torch.nn.functional.cross_entropy
    fitted = method(model, loss, regularization=DAMPING, rank=24, second_order_mode=mode)
    actual = fitted.fit([batch], progress=False).influence_factors(*batch).numpy()
    expected = dense_factors(model, batch, mode=mode)
    assert np.abs(actual - expected).max() < 1e-9 * np.abs(expected).max()


def test_single_precision_stays_single(method):
    model, batch = problem(torch.float32)
    loss = torch.nn.functional.cross_entropy
    fitted = method(model, loss, regularization=DAMPING, rank=5, second_order_mode="gauss_newton")
    factors = fitted.fit([batch], progress=False).influence_factors(*batch)
    assert factors.dtype == torch.float32


def test_the_backend_knows_the_methods():
    models = torch_backend.models
    assert models["arnoldi"] is ArnoldiInfluence
    assert models["nystroem_sketch"] is NystroemSketchInfluence
