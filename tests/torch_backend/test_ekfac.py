"""EK-FAC against dense Fisher matrices in NumPy."""

import numpy as np
import pytest
import torch
from layer_problems import (
    F64,
    NETWORKS,
    distance,
    eigenvalue_errors,
    fitted,
    jacobians,
    loss_gradients,
    problem,
    softmax_fisher,
)
from torch import nn
from torch.nn import functional


@pytest.mark.parametrize("corrected", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_regression_is_solved_exactly(corrected, bias):
    torch.manual_seed(0)
    model = nn.Linear(4, 3, bias=bias).to(F64)
    batch = torch.randn(30, 4, dtype=F64), torch.randn(30, 3, dtype=F64)
    influence = fitted(
        model,
        batch,
        functional.mse_loss,
        fisher="exact",
        corrected=corrected,
        damping="absolute",
        regularization=0.05,
    )
    J = jacobians(model, batch[0])["root"]
    fisher = np.einsum("nap,naq->pq", J, J) * (2 / 3) / 30
    gradients = loss_gradients(model, functional.mse_loss, batch)
    expected = np.linalg.solve(fisher + 0.05 * np.eye(len(fisher)), gradients.T).T
    np.testing.assert_allclose(influence.influence_factors(*batch), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        influence.influences(*batch), expected @ gradients.T, rtol=1e-9, atol=1e-11
    )


@pytest.mark.parametrize("corrected", [True, False])
def test_the_empirical_fisher_of_one_sample_is_exact(corrected):
    model, batch = problem(n=1)
    influence = fitted(
        model,
        batch,
        fisher="empirical",
        corrected=corrected,
        damping="absolute",
        regularization=0.1,
    )
    gradient = loss_gradients(model, functional.cross_entropy, batch)
    sizes = [4 * 5 + 5, 5 * 3 + 3]
    parts = np.split(gradient, np.cumsum(sizes)[:-1], axis=1)
    expected = [g @ np.linalg.inv(g.T @ g + 0.1 * np.eye(g.shape[1])) for g in parts]
    np.testing.assert_allclose(
        influence.influence_factors(*batch), np.concatenate(expected, axis=1), rtol=1e-8, atol=1e-10
    )


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_exact_eigenvalues_are_the_diagonal_of_the_dense_fisher(name, trained):
    model, batch = problem(name, trained=trained)
    fishers = softmax_fisher(model, batch[0])
    assert eigenvalue_errors(fitted(model, batch, fisher="exact"), fishers).max() < 1e-8


@pytest.mark.parametrize("trained", [False, True])
def test_sampled_eigenvalues_approach_the_diagonal_as_the_root_of_the_draws(trained):
    model, batch = problem(trained=trained)
    fishers = softmax_fisher(model, batch[0])
    error = {
        draws: np.mean(
            [
                eigenvalue_errors(fitted(model, batch, draws=draws, seed=seed, size=40), fishers)
                for seed in range(4)
            ]
        )
        for draws in (2, 128)
    }
    assert error[128] < 0.15
    assert 4 < error[2] / error[128] < 16  # the root of 64 is 8


@pytest.mark.parametrize("name", NETWORKS)
def test_corrected_eigenvalues_are_closer_to_the_dense_fisher(name):
    model, batch = problem(name, trained=True)
    fishers = softmax_fisher(model, batch[0])
    with_them = distance(fitted(model, batch, fisher="exact"), fishers)
    without = distance(fitted(model, batch, fisher="exact", corrected=False), fishers)
    assert (with_them < without).all()
