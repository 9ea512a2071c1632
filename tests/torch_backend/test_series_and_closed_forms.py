"""LiSSA, harmonic mean and gradient influence of torch models, against autograd and dense NumPy."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from upweight_torch import (
    DirectInfluence,
    GradientInfluence,
    InverseHarmonicMeanInfluence,
    LissaInfluence,
)
from upweight_torch.backend import torch_backend

REGULARIZATION = 2.0
LOSS = torch.nn.functional.cross_entropy


def network(dtype=torch.float64):
    torch.manual_seed(0)
    layers = torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3)
    return torch.nn.Sequential(*layers).to(dtype)


def batch(n, *, seed=0, dtype=torch.float64):
    rng = np.random.default_rng(seed)
    return torch.tensor(rng.standard_normal((n, 5)), dtype=dtype), torch.tensor(
        rng.integers(0, 3, n)
    )


def gradients(model, x, y):
    """Return the gradient of each sample by one backward pass a sample, as float64, (n, p)."""
    rows = [
        torch.autograd.grad(LOSS(model(x[i : i + 1]), y[i : i + 1]), tuple(model.parameters()))
        for i in range(len(x))
    ]
    return np.array([np.concatenate([part.numpy().ravel() for part in row]) for row in rows], float)


def assert_close(actual, expected, rtol=1e-9):
    np.testing.assert_allclose(np.asarray(actual), expected, atol=rtol * np.abs(expected).max())


@pytest.mark.parametrize("structure", ["full", "layer_wise"])
@pytest.mark.parametrize("mode", ["hessian", "gauss_newton", "empirical_fisher"])
def test_lissa_with_a_loader_of_the_user_agrees_with_direct(mode, structure):
    train, test = batch(32), batch(4, seed=1)
    options = {
        "regularization": REGULARIZATION,
        "second_order_mode": mode,
        "block_structure": structure,
    }
    loader = DataLoader(
        [{"x": x, "y": y} for x, y in zip(*train, strict=True)],
        batch_size=16,
        shuffle=True,
        collate_fn=lambda samples: tuple(torch.stack([s[key] for s in samples]) for key in "xy"),
    )
    series = LissaInfluence(network(), LOSS, rtol=1e-6, **options).fit(loader, progress=False)
    dense = DirectInfluence(network(), LOSS, **options).fit([train])
    assert_close(series.influences(*test, *train), dense.influences(*test, *train).numpy(), 1e-5)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_the_harmonic_mean_is_that_of_dense_inverses_layer_by_layer(dtype, rtol):
    train, test = batch(20, dtype=dtype), batch(4, seed=1, dtype=dtype)
    model = network(dtype)
    method = InverseHarmonicMeanInfluence(model, LOSS, regularization=REGULARIZATION)
    actual = method.fit([train]).influence_factors(*test)
    samples, rows = gradients(model, *train), gradients(model, *test)
    expected = np.zeros_like(rows)
    for layer in (slice(0, 24), slice(24, 39)):
        outer = [np.outer(g, g) + REGULARIZATION * np.eye(len(g)) for g in samples[:, layer]]
        expected[:, layer] = rows[:, layer] @ np.mean([np.linalg.inv(m) for m in outer], axis=0)
    assert actual.dtype == dtype
    assert_close(actual, expected, rtol)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
@pytest.mark.parametrize("normalize", [False, True])
def test_gradient_influence_is_that_of_single_backward_passes(normalize, dtype, rtol):
    train, test = batch(20, dtype=dtype), batch(4, seed=1, dtype=dtype)
    model = network(dtype)
    actual = (
        GradientInfluence(model, LOSS, normalize=normalize).fit([train]).influences(*test, *train)
    )
    rows, columns = gradients(model, *test), gradients(model, *train)
    expected = rows @ columns.T
    if normalize:
        expected /= np.linalg.norm(rows, axis=1)[:, None] * np.linalg.norm(columns, axis=1)
    assert actual.dtype == dtype
    assert_close(actual, expected, rtol)


def test_cosines_are_perturbed_by_their_own_derivative():
    (x, y), test = batch(6), batch(3, seed=1)
    model = GradientInfluence(network(), LOSS, normalize=True).fit()
    step = 1e-6 * torch.eye(5, dtype=torch.float64)
    slopes = [
        (model.influences(*test, x + move, y) - model.influences(*test, x - move, y)) / 2e-6
        for move in step
    ]
    expected = torch.stack(slopes, dim=-1).numpy()
    assert_close(model.influences(*test, x, y, mode="perturbation"), expected, 1e-7)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("lissa", LissaInfluence),
        ("inverse_harmonic_mean", InverseHarmonicMeanInfluence),
        ("gradient", GradientInfluence),
    ],
)
def test_the_backend_offers_the_method_by_name(name, method):
    assert torch_backend.models[name] is method
