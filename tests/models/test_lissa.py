"""LiSSA has the dense solution for its limit, whatever the batches, and says when it has none."""

import numpy as np
import oracle
import pytest
from curvatures import Saddle, Softmax, dense_curvature, exact_factors, problem, split
from oracle import relative_error

from upweight import ConvergenceWarning, DivergenceError, IndefiniteCurvatureError
from upweight.models import LissaInfluence

REGULARIZATION = 0.1
RTOL = {"float64": 1e-8, "float32": 2e-5}
TOLERANCES = {"float64": 1e-6, "float32": 1e-3}
CURVATURES = ["hessian", "gauss_newton", "empirical_fisher"]
SPLITS = {"64+36": [64, 36], "99+1": [99, 1], "of 10": [10] * 10, "ragged": [1, 29, 40, 30]}


def fitted(objective, batches, *, regularization=REGULARIZATION, **options):
    options = {"rtol": RTOL[str(objective.dtype)], "maxiter": 50_000, **options}
    model = LissaInfluence(objective, regularization=regularization, **options)
    return model.fit(batches, progress=False)


@pytest.mark.parametrize("structure", ["full", "parameter_wise"])
@pytest.mark.parametrize("mode", CURVATURES)
def test_one_batch_gives_the_dense_solution(xp, mode, structure):
    objective, train, test = problem(xp, n=100)
    options = {"second_order_mode": mode, "block_structure": structure}
    factors = fitted(objective, [train], **options).influence_factors(*test)
    expected = exact_factors(
        objective, train, test, damping=REGULARIZATION, mode=mode, structure=structure
    )
    assert relative_error(factors, expected) < TOLERANCES["float64"]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("k", [1, 40], ids=["one row", "more rows than parameters"])
def test_any_number_of_rows_is_solved_in_either_precision(xp, k, dtype):
    objective, train, test = problem(xp, n=100, k=k, dtype=dtype)
    factors = fitted(objective, [train]).influence_factors(*test)
    expected = exact_factors(objective, train, test, damping=REGULARIZATION)
    assert np.asarray(factors).dtype == dtype
    assert relative_error(factors, expected) < TOLERANCES[dtype]


@pytest.mark.parametrize("mode", ["hessian", "empirical_fisher"])
@pytest.mark.parametrize("sizes", SPLITS.values(), ids=SPLITS)
def test_several_batches_have_the_same_limit(xp, sizes, mode):
    objective, train, test = problem(xp, n=100)
    model = fitted(objective, split(train, sizes), second_order_mode=mode)
    expected = exact_factors(objective, train, test, damping=REGULARIZATION, mode=mode)
    assert relative_error(model.influence_factors(*test), expected) < TOLERANCES["float64"]


def test_batches_of_one_sample_have_the_same_limit():
    objective, train, test = problem(np, n=100)
    model = fitted(objective, split(train, [1] * 100))
    expected = exact_factors(objective, train, test, damping=REGULARIZATION)
    assert relative_error(model.influence_factors(*test), expected) < TOLERANCES["float64"]


@pytest.mark.parametrize("mode", ["up", "perturbation"])
def test_influences_are_those_of_the_factors(xp, mode):
    objective, train, test = problem(xp, n=100)
    rows = exact_factors(objective, train, test, damping=REGULARIZATION)
    expected = rows @ oracle.gradients(objective, train).T
    if mode == "perturbation":
        expected = oracle.perturbations(rows, objective, train)
    actual = fitted(objective, split(train, [60, 40])).influences(*test, *train, mode=mode)
    assert relative_error(actual, expected) < TOLERANCES["float64"]


def test_more_steps_come_closer(xp):
    objective, train, test = problem(xp, n=100)
    expected = exact_factors(objective, train, test, damping=REGULARIZATION)
    errors = []
    for maxiter in (4, 8, 16, 32):
        with pytest.warns(ConvergenceWarning):
            factors = fitted(objective, [train], maxiter=maxiter).influence_factors(*test)
        errors.append(relative_error(factors, expected))
    assert errors == sorted(errors, reverse=True)


def test_averaging_repeats_lessens_the_noise_of_batches():
    objective, train, test = problem(np, n=100)
    expected = exact_factors(objective, train, test, damping=REGULARIZATION)

    def error(repeats, seed):
        options = {"repeats": repeats, "seed": seed, "maxiter": 100}
        model = fitted(objective, split(train, [2] * 50), **options)
        with pytest.warns(ConvergenceWarning):
            return np.linalg.norm(np.asarray(model.influence_factors(*test)) - expected)

    errors = {repeats: np.mean([error(repeats, seed) for seed in range(4)]) for repeats in (1, 4)}
    assert errors[4] < errors[1]


def test_the_same_seed_gives_the_same_factors_and_another_gives_others():
    objective, train, test = problem(np, n=100)
    batches = split(train, [10] * 10)
    first, same, other = (
        fitted(objective, batches, seed=seed, rtol=0.1).influence_factors(*test)
        for seed in (3, 3, 4)
    )
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


def test_the_number_of_samples_asked_at_once_does_not_matter(xp):
    objective, train, (x, y) = problem(xp, n=100)
    model = fitted(objective, split(train, [10] * 10), rtol=0.05)
    alone = [np.asarray(model.influence_factors(x[i : i + 1, :], y[i : i + 1])) for i in range(7)]
    assert relative_error(model.influence_factors(x, y), np.concatenate(alone)) < 1e-10


@pytest.mark.parametrize("sizes", [[100], [30, 70]], ids=str)
def test_every_row_meets_the_tolerance_it_was_given(xp, sizes):
    objective, train, test = problem(xp, n=100)
    model = fitted(objective, split(train, sizes), rtol=1e-3)
    factors = np.asarray(model.influence_factors(*test))
    damped = dense_curvature(objective, train) + REGULARIZATION * np.eye(15)
    rows = oracle.gradients(objective, test)
    missed = np.linalg.norm(rows - factors @ damped, axis=1)
    diagnostics = model.solve_diagnostics["full"]
    assert np.all(missed <= 1e-3 * np.linalg.norm(rows, axis=1))
    assert relative_error(diagnostics.residuals, missed) < 1e-8
    assert len(diagnostics.steps) == 7


def test_a_constant_feature_does_not_change_how_many_steps_are_taken(xp):
    objective, (x, y), (x_test, y_test) = problem(xp, n=100)
    wide = Softmax(xp.concat([objective.weight, objective.weight[:, :1]], axis=1), objective.bias)

    def widened(x):
        return xp.concat([x, xp.zeros_like(x[:, :1])], axis=1)

    plain = fitted(objective, [(x, y)], scale=1.0, rtol=1e-4)
    constant = fitted(wide, [(widened(x), y)], scale=1.0, rtol=1e-4)
    plain.influence_factors(x_test, y_test)
    constant.influence_factors(widened(x_test), y_test)
    assert constant.solve_diagnostics["full"].steps == plain.solve_diagnostics["full"].steps


def test_the_scale_found_is_above_the_largest_eigenvalue_of_every_batch(xp):
    objective, train, _ = problem(xp, n=100)
    batches = split(train, [10, 30, 60])
    found = fitted(objective, batches).fit_diagnostics["full"].largest_eigenvalue
    largest = max(
        3 * len(batch[0]) / 100 * np.linalg.eigvalsh(dense_curvature(objective, batch))[-1]
        for batch in ((np.asarray(x), np.asarray(y)) for x, y in batches)
    )
    assert 0.9 * largest < found <= largest * (1 + 1e-9)


@pytest.mark.parametrize("sizes", [[100], [10] * 10], ids=["100", "of 10"])
def test_too_small_a_scale_is_refused_with_one_that_does(xp, sizes):
    objective, train, test = problem(xp, n=100)
    batches = split(train, sizes)
    model = fitted(objective, batches, scale=0.01)
    with pytest.raises(DivergenceError, match=r"scale 0\.01,.* Use a scale of") as error:
        model.influence_factors(*test)
    named = float(str(error.value).rpartition("scale of ")[2].partition(",")[0])
    expected = exact_factors(objective, train, test, damping=REGULARIZATION)
    factors = fitted(objective, batches, scale=named).influence_factors(*test)
    assert relative_error(factors, expected) < TOLERANCES["float64"]


def test_negative_curvature_is_refused_with_the_regularization_that_does(xp):
    objective, train, test = problem(xp, n=100, kind=Saddle)
    model = fitted(objective, [train], regularization=0.05)
    with pytest.raises(IndefiniteCurvatureError, match="not positive") as error:
        model.influence_factors(*test)
    named = float(str(error.value).rpartition("regularization above ")[2].partition(",")[0])
    assert 0.6 < named < 0.75
    enough = model.with_regularization(named + 0.1).influence_factors(*test)
    expected = exact_factors(objective, train, test, damping=named + 0.1 - 0.7)
    assert relative_error(enough, expected) < TOLERANCES["float64"]


def test_rows_that_have_not_converged_are_counted(xp):
    objective, train, test = problem(xp, n=100)
    model = fitted(objective, [train], maxiter=3)
    with pytest.warns(ConvergenceWarning, match="7 of 7 rows .* at most 3 steps.*a larger maxiter"):
        model.influence_factors(*test)


def test_factors_approach_the_scaled_gradients_as_the_damping_grows(xp):
    objective, train, test = problem(xp, n=100)
    model = fitted(objective, split(train, [10] * 10), regularization=1e8)
    factors = 1e8 * np.asarray(model.influence_factors(*test))
    assert relative_error(factors, oracle.gradients(objective, test)) < 1e-6


@pytest.mark.parametrize("scale", [None, 2.0])
def test_another_damping_needs_no_other_fit(xp, scale):
    objective, train, test = problem(xp, n=100)
    model = fitted(objective, [train], scale=scale)
    before = np.asarray(model.influence_factors(*test))
    other = model.with_regularization(1).influence_factors(*test)
    expected = exact_factors(objective, train, test, damping=1)
    assert relative_error(other, expected) < TOLERANCES["float64"]
    assert np.array_equal(np.asarray(model.influence_factors(*test)), before)
