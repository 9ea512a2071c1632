"""What EK-FAC does with its options, with data in other forms, and what it refuses."""

import copy
import pickle
from itertools import combinations

import numpy as np
import pytest
import torch
from layer_problems import F64, fitted, jacobians, loss_gradients, problem
from torch import nn
from torch.nn import functional

from upweight.errors import IndefiniteCurvatureError, UnsupportedCurvatureError
from upweight.models import _fisher
from upweight_torch import EkfacInfluence, TorchObjective


@pytest.mark.parametrize("options", [{"fisher": "exact"}, {"fisher": "empirical"}, {}])
def test_factors_do_not_depend_on_the_division_into_batches(options):
    model, batch = problem("convolution")
    whole = fitted(model, batch, size=40, **options).influence_factors(*batch)
    for size in (1, 39):
        parts = fitted(model, batch, size=size, **options).influence_factors(*batch)
        torch.testing.assert_close(parts, whole, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("fisher", ["exact", "empirical"])
def test_factors_do_not_depend_on_the_order_of_the_samples(fisher):
    model, (x, y) = problem()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    one = fitted(model, (x, y), fisher=fisher).influence_factors(x, y)
    other = fitted(model, (x[order], y[order]), fisher=fisher).influence_factors(x, y)
    torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("fisher", ["sampled", "exact"])
def test_statistics_that_are_not_kept_are_taken_again(fisher, monkeypatch):
    model, batch = problem()
    kept = fitted(model, batch, fisher=fisher).influence_factors(*batch)
    monkeypatch.setattr(_fisher, "KEEP_BYTES", 0)
    monkeypatch.setattr(_fisher, "HESSIAN_NUMBERS", 9 * 7)
    again = fitted(model, batch, fisher=fisher).influence_factors(*batch)
    torch.testing.assert_close(kept, again, rtol=1e-9, atol=1e-9)


def with_norm():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 3)).to(F64)


def test_eigenvalues_are_corrected_unless_they_are_not_to_be():
    model, batch = problem()
    default, corrected, plain = (
        fitted(model, batch, **options).influence_factors(*batch)
        for options in ({}, {"corrected": True}, {"corrected": False})
    )
    torch.testing.assert_close(default, corrected, rtol=0, atol=0)
    assert float((plain - corrected).abs().max()) > 1e-3 * float(corrected.abs().max())


def test_uncovered_parameters_have_the_mean_squared_gradients_as_curvature():
    _, batch = problem()
    model = with_norm()
    influence = fitted(model, batch, damping="absolute", regularization=0.01)
    gradients = loss_gradients(model, functional.cross_entropy, batch)[:, 25:35]
    expected = gradients / ((gradients**2).mean(0) + 0.01)
    found = influence.influence_factors_by_block(*batch)["1"]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_uncovered_parameters_are_refused_by_name():
    _, batch = problem()
    with pytest.raises(UnsupportedCurvatureError, match=r"1\.weight.*1\.bias"):
        fitted(with_norm(), batch, uncovered="refuse")
    model = with_norm()
    model[1].requires_grad_(False)
    assert fitted(model, batch, uncovered="refuse").block_names == ("0", "2")


def test_a_frozen_bias_is_no_part_of_the_curvature():
    model, batch = problem()
    model[0].bias.requires_grad_(False)
    influence = fitted(model, batch)
    assert influence.n_parameters == 20 + 18
    assert influence._curvatures["0"].eigen.eigenvalues.shape == (5, 4)


def test_relative_damping_is_a_multiple_of_the_mean_eigenvalue():
    model, batch = problem()
    relative = fitted(model, batch, regularization=0.3)
    means = {
        name: 0.3 * float(c.eigen.eigenvalues.mean()) for name, c in relative._curvatures.items()
    }
    absolute = fitted(model, batch, regularization=means, damping="absolute")
    torch.testing.assert_close(
        relative.influence_factors(*batch), absolute.influence_factors(*batch)
    )


def test_large_damping_leaves_the_gradients():
    model, batch = problem()
    influence = fitted(model, batch, regularization=1e9, damping="absolute")
    expected = loss_gradients(model, functional.cross_entropy, batch)
    np.testing.assert_allclose(
        1e9 * influence.influence_factors(*batch), expected, rtol=1e-6, atol=1e-8
    )


def test_another_damping_needs_no_fit_and_leaves_the_original_alone():
    model, batch = problem()
    influence = fitted(model, batch)
    before = influence.influence_factors(*batch)
    other = influence.with_regularization(2)
    torch.testing.assert_close(
        other.influence_factors(*batch),
        fitted(model, batch, regularization=2).influence_factors(*batch),
    )
    assert torch.equal(influence.influence_factors(*batch), before)


def test_labels_are_drawn_by_seed():
    model, batch = problem()
    first, same, other = (
        fitted(model, batch, seed=seed).influence_factors(*batch) for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert not torch.allclose(first, other)


def test_eigenvalues_have_labels_of_their_own(monkeypatch):
    drawn = []
    draw = TorchObjective.sampled_directions

    def noted(self, batch, rng):
        drawn.append(draw(self, batch, rng))
        return drawn[-1]

    monkeypatch.setattr(TorchObjective, "sampled_directions", noted)
    model, batch = problem()
    fitted(model, batch, draws=2)
    assert len(drawn) == 4
    assert not any(torch.equal(a, b) for a, b in combinations(drawn, 2))


def test_a_loss_whose_labels_cannot_be_drawn_takes_the_exact_form():
    model, batch = problem()
    one = fitted(model, batch, lambda out, y: 1.0 * functional.cross_entropy(out, y))
    exact = fitted(model, batch, fisher="exact")
    torch.testing.assert_close(one.influence_factors(*batch), exact.influence_factors(*batch))


def test_a_loss_that_is_not_convex_in_the_output_is_refused():
    model, (x, _) = problem()
    batch = x, torch.randn(len(x), 3, dtype=F64)

    def concave(output, y):
        return -((output - y) ** 2).mean()

    with pytest.raises(IndefiniteCurvatureError, match="not convex"):
        fitted(model, batch, concave)
    fitted(model, batch, concave, fisher="empirical")


def test_singular_curvature_is_refused():
    model, batch = problem(n=3)
    with pytest.raises(IndefiniteCurvatureError, match=r"block '0'.*singular"):
        fitted(model, batch, regularization=0)


def test_a_measurement_replaces_the_loss_on_test_samples():
    model, batch = problem()
    influence = fitted(
        model,
        batch,
        measurement=lambda out, y: out[:, 0].sum(),
        regularization=1e9,
        damping="absolute",
    )
    J = jacobians(model, batch[0])
    expected = np.concatenate([J["0"][:, 0], J["2"][:, 0]], axis=1)
    np.testing.assert_allclose(
        1e9 * influence.influence_factors(*batch), expected, rtol=1e-6, atol=1e-8
    )


def test_float32_agrees_with_float64():
    model, (x, y) = problem(trained=True)
    double = fitted(model, (x, y), fisher="exact").influences(x, y)
    single = fitted(copy.deepcopy(model).float(), (x.float(), y), fisher="exact")
    found = single.influences(x.float(), y)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), double, rtol=1e-3, atol=1e-3 * float(double.max()))


def test_a_fitted_model_survives_pickling_and_leaves_the_users_gradients_alone():
    model, batch = problem()
    influence = fitted(model, batch)
    again = pickle.loads(pickle.dumps(influence))
    assert torch.equal(again.influence_factors(*batch), influence.influence_factors(*batch))
    assert all(p.grad is None for p in model.parameters())


def test_diagnostics_tell_the_extreme_eigenvalues():
    model, batch = problem()
    influence = fitted(model, batch)
    for name, found in influence.fit_diagnostics.items():
        values = influence._curvatures[name].eigen.eigenvalues
        assert found.smallest_eigenvalue == float(values.min())
        assert found.largest_eigenvalue == float(values.max())
        assert found.seconds > 0


@pytest.mark.parametrize(
    "options", [{"damping": "much"}, {"uncovered": "drop"}, {"fisher": "true"}, {"draws": 0}]
)
def test_unknown_options_are_refused(options):
    with pytest.raises(ValueError, match=str(*options.values())):
        EkfacInfluence(nn.Linear(2, 2), functional.mse_loss, **options)
