"""Arnoldi and Nyström influences: exact at full rank, and closer to it the larger the rank."""

from itertools import pairwise

import numpy as np
import pytest
from curvatures import (
    MODES,
    NAMESPACES,
    STRUCTURES,
    Saddle,
    dense_curvature,
    dense_factors,
    namespace,
    problem,
)
from oracle import gradients, relative_error

from upweight.models import ArnoldiInfluence, NystroemSketchInfluence

DAMPING = 0.05
EXACT = {"float64": 1e-9, "float32": 1e-4}
METHODS = {"arnoldi": ArnoldiInfluence, "nystroem": NystroemSketchInfluence}


@pytest.fixture(params=NAMESPACES)
def xp(request):
    return namespace(request.param)


@pytest.fixture(params=METHODS.values(), ids=METHODS)
def method(request):
    return request.param


def fitted(method, objective, train, *, rank=15, regularization=DAMPING, **options):
    model = method(objective, regularization=regularization, rank=rank, **options)
    return model.fit(train if isinstance(train, list) else [train])


def error(actual, expected):
    return np.linalg.norm(np.asarray(actual) - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_full_rank_is_the_dense_solution(xp, method, structure, mode, dtype):
    objective, train, test = problem(xp, dtype=dtype)
    matrix = dense_curvature(objective, train, mode=mode, structure=structure)
    expected = dense_factors(matrix, gradients(objective, test), damping=DAMPING)
    model = fitted(method, objective, train, block_structure=structure, second_order_mode=mode)
    assert relative_error(model.influence_factors(*test), expected) < EXACT[dtype]


@pytest.mark.parametrize("n", [1, 2, 40], ids=["one row", "rows", "more rows than parameters"])
def test_influences_at_full_rank_are_those_of_the_dense_solution(xp, method, n):
    objective, train, _ = problem(xp)
    x, y = problem(xp, n=n, seed=3)[1]
    factors = dense_factors(
        dense_curvature(objective, train), gradients(objective, (x, y)), damping=DAMPING
    )
    actual = fitted(method, objective, train).influences(x, y, *train)
    assert relative_error(actual, factors @ gradients(objective, train).T) < EXACT["float64"]


def test_a_rank_beyond_the_parameters_is_full_rank(method):
    objective, train, test = problem()
    expected = fitted(method, objective, train).influence_factors(*test)
    actual = fitted(method, objective, train, rank=1000).influence_factors(*test)
    assert relative_error(actual, expected) < EXACT["float64"]


@pytest.mark.parametrize("n", [1, 4])
def test_a_rank_of_the_samples_is_enough_for_the_empirical_fisher(xp, method, n):
    objective, train, test = problem(xp, n=n)
    matrix = dense_curvature(objective, train, mode="empirical_fisher")
    expected = dense_factors(matrix, gradients(objective, test), damping=DAMPING)
    model = fitted(method, objective, train, rank=n, second_order_mode="empirical_fisher")
    assert relative_error(model.influence_factors(*test), expected) < EXACT["float64"]


@pytest.mark.parametrize("mode", MODES)
def test_the_error_falls_as_the_rank_grows(method, mode):
    objective, train, test = problem()
    matrix = dense_curvature(objective, train, mode=mode)
    expected = dense_factors(matrix, gradients(objective, test), damping=DAMPING)
    errors = [
        np.mean(
            [
                error(
                    fitted(
                        method, objective, train, rank=rank, seed=seed, second_order_mode=mode
                    ).influence_factors(*test),
                    expected,
                )
                for seed in range(10)
            ]
        )
        for rank in (1, 3, 6, 9, 15)
    ]
    assert all(later < earlier for earlier, later in pairwise(errors))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rank", [4, 15])
def test_factors_do_not_depend_on_the_batches(xp, method, rank, mode):
    objective, (x, y), test = problem(xp)
    options = {"rank": rank, "second_order_mode": mode}
    whole = fitted(method, objective, (x, y), **options).influence_factors(*test)
    batches = [(x[:29, :], y[:29]), (x[29:, :], y[29:])]
    split = fitted(method, objective, batches, **options).influence_factors(*test)
    assert relative_error(split, whole) < EXACT["float64"]


@pytest.mark.parametrize("rank", [4, 15])
def test_factors_do_not_depend_on_the_order_of_the_samples(xp, method, rank):
    objective, (x, y), test = problem(xp)
    order = xp.asarray(np.random.default_rng(1).permutation(30))
    shuffled = (xp.take(x, order, axis=0), xp.take(y, order, axis=0))
    expected = fitted(method, objective, (x, y), rank=rank).influence_factors(*test)
    actual = fitted(method, objective, shuffled, rank=rank).influence_factors(*test)
    assert relative_error(actual, expected) < EXACT["float64"]


def test_a_seed_gives_the_same_numbers_each_time(xp, method):
    objective, train, test = problem(xp)
    first, second = (
        np.asarray(fitted(method, objective, train, rank=4, seed=7).influence_factors(*test))
        for _ in range(2)
    )
    assert np.array_equal(first, second)


def test_another_seed_gives_other_numbers(method):
    objective, train, test = problem()
    options = {"krylov_dimension": 2} if method is ArnoldiInfluence else {}
    first, second = (
        fitted(method, objective, train, rank=2, seed=seed, **options).influence_factors(*test)
        for seed in range(2)
    )
    assert error(first, second) > 1e-12


def test_the_global_random_state_is_left_alone(method):
    objective, train, _ = problem()
    before = np.random.get_state()[1].copy()  # noqa: NPY002  # it is the subject of the test
    fitted(method, objective, train)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("rank", [2, 15])
def test_factors_approach_the_scaled_gradients_as_the_damping_grows(xp, method, rank):
    objective, train, test = problem(xp)
    model = fitted(method, objective, train, rank=rank, regularization=1e8)
    scaled = 1e8 * np.asarray(model.influence_factors(*test))
    assert relative_error(scaled, gradients(objective, test)) < 1e-6


@pytest.mark.parametrize("rank", [4, 15])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_another_regularization_is_that_of_a_fresh_fit(xp, method, structure, rank):
    objective, train, test = problem(xp)
    options = {"rank": rank, "block_structure": structure}
    other = fitted(method, objective, train, **options).with_regularization(0.3)
    fresh = fitted(method, objective, train, regularization=0.3, **options)
    expected = fresh.influence_factors(*test)
    assert relative_error(other.influence_factors(*test), expected) < 1e-14


def test_another_regularization_leaves_the_model_as_it_is(method):
    objective, train, test = problem()
    model = fitted(method, objective, train)
    before = model.influence_factors(*test)
    model.with_regularization(0.3)
    assert np.array_equal(model.influence_factors(*test), before)


def test_another_regularization_reads_no_training_data(method):
    objective, train, test = problem()
    batches = [train]
    model = fitted(method, objective, batches)
    batches.clear()
    train[0][:] = np.nan
    assert np.all(np.isfinite(model.with_regularization(0.3).influence_factors(*test)))


def test_a_regularization_for_each_block_is_its_own(method):
    objective, train, test = problem()
    damping = {"weight": 0.1, "bias": 2.0}
    model = fitted(
        method, objective, train, regularization=damping, block_structure="parameter_wise"
    )
    matrix = dense_curvature(objective, train, structure="parameter_wise")
    matrix = matrix + np.diag([0.1] * 12 + [2.0] * 3)
    expected = dense_factors(matrix, gradients(objective, test), damping=0)
    assert relative_error(model.influence_factors(*test), expected) < EXACT["float64"]


def test_the_gauss_newton_matrix_is_not_the_hessian(method):
    objective, train, test = problem(kind=Saddle)
    model = fitted(method, objective, train, second_order_mode="gauss_newton")
    expected = dense_factors(
        dense_curvature(objective, train), gradients(objective, test), damping=DAMPING
    )
    assert relative_error(model.influence_factors(*test), expected) < EXACT["float64"]


def test_the_captured_share_of_the_trace_is_all_of_it_at_full_rank(xp, method):
    objective, train, _ = problem(xp)
    share = fitted(method, objective, train).fit_diagnostics["full"].captured_trace
    assert share == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("rank", [2, 5, 9])
def test_the_captured_share_of_the_trace_is_about_that_of_the_dense_curvature(method, rank):
    objective, train, _ = problem()
    values = np.linalg.eigvalsh(dense_curvature(objective, train))
    share = np.mean(
        [
            fitted(method, objective, train, rank=rank, seed=seed)
            .fit_diagnostics["full"]
            .captured_trace
            for seed in range(10)
        ]
    )
    most = np.sum(values[-rank:]) / np.sum(values)
    assert 0.5 * most < share < 1.05 * most


def test_the_largest_eigenvalue_is_that_of_the_dense_curvature(xp, method):
    objective, train, _ = problem(xp)
    largest = np.linalg.eigvalsh(dense_curvature(objective, train))[-1]
    seen = fitted(method, objective, train).fit_diagnostics["full"].largest_eigenvalue
    assert seen == pytest.approx(largest, rel=1e-9)
