"""Conjugate gradients: every row reaches the dense solution, and says how it fared."""

import numpy as np
import pytest
from oracle import relative_error

from upweight.linalg.cg import conjugate_gradients

TIGHT = 1e-12
SHAPES = [(1, 4), (5, 3), (3, 40), (1, 1), (40, 6)]


def problem(*, k, p, dtype="float64", seed=0):
    """Return a symmetric positive definite matrix (p, p) and right-hand sides (k, p)."""
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((p, p))
    matrix = factor @ factor.T / p + 0.1 * np.eye(p)
    return matrix.astype(dtype), rng.standard_normal((k, p)).astype(dtype)


def solve(xp, matrix, rows, **options):
    matrix = xp.asarray(matrix)
    return conjugate_gradients(lambda v: v @ matrix, xp.asarray(rows), **options)


def mixed():
    """Return a matrix and rows that need 2, 0 and 1 steps: two, no and one of its eigenvectors."""
    return np.diag([1.0, 2.0, 4.0]), np.array([[1.0, 0, 1], [0, 0, 0], [0, 5, 0]])


@pytest.mark.parametrize(("k", "p"), SHAPES)
def test_rows_are_those_of_the_dense_solution(xp, k, p):
    matrix, rows = problem(k=k, p=p)
    expected = np.linalg.solve(matrix, rows.T).T
    assert relative_error(solve(xp, matrix, rows, rtol=TIGHT).value, expected) < 1e-10


@pytest.mark.parametrize(("k", "p"), SHAPES)
def test_rows_of_single_precision_are_solved_to_single_precision(xp, k, p):
    matrix, rows = problem(k=k, p=p, dtype="float32")
    solution = solve(xp, matrix, rows, rtol=1e-5)
    assert solution.value.dtype == xp.float32
    assert relative_error(solution.value, np.linalg.solve(matrix, rows.T).T) < 1e-3


@pytest.mark.parametrize(("k", "p"), SHAPES)
def test_every_row_meets_the_tolerance_it_was_given(xp, k, p):
    matrix, rows = problem(k=k, p=p)
    solution = solve(xp, matrix, rows, rtol=1e-6)
    missed = np.linalg.norm(rows - np.asarray(solution.value) @ matrix, axis=1)
    assert np.all(missed <= 1e-6 * np.linalg.norm(rows, axis=1))


def test_the_relative_tolerance_is_not_squared(xp):
    matrix, rows = problem(k=6, p=50)
    residuals = np.asarray(solve(xp, matrix, rows, rtol=1e-2).residuals)
    assert np.all(residuals > 1e-4 * np.linalg.norm(rows, axis=1))


def test_a_row_within_the_absolute_tolerance_takes_no_step(xp):
    matrix, rows = problem(k=2, p=5)
    rows[0, :] *= 1e-3
    solution = solve(xp, matrix, rows, rtol=TIGHT, atol=0.1)
    assert [int(steps) > 0 for steps in np.asarray(solution.steps)] == [False, True]


@pytest.mark.parametrize(("k", "p"), SHAPES)
def test_rows_are_solved_independently(xp, k, p):
    matrix, rows = problem(k=k, p=p)
    together = solve(xp, matrix, rows, rtol=TIGHT)
    alone = [np.asarray(solve(xp, matrix, rows[i : i + 1], rtol=TIGHT).value)[0] for i in range(k)]
    assert relative_error(together.value, alone) < 1e-10


def test_every_row_takes_as_many_steps_as_it_has_distinct_eigenvectors(xp):
    matrix, rows = mixed()
    assert np.asarray(solve(xp, matrix, rows, rtol=TIGHT).steps).tolist() == [2, 0, 1]


def test_a_row_of_zeros_is_solved_by_zeros(xp):
    matrix, rows = mixed()
    assert not np.any(np.asarray(solve(xp, matrix, rows).value)[1])


def test_a_row_that_has_finished_takes_no_part_in_products(xp):
    matrix, rows = mixed()
    widths = []

    def product(v):
        widths.append(v.shape[0])
        return v @ xp.asarray(matrix)

    conjugate_gradients(product, xp.asarray(rows), rtol=TIGHT)
    assert widths[:2] == [2, 1]


def test_the_steps_of_a_row_end_at_the_limit(xp):
    matrix, rows = problem(k=3, p=40)
    assert np.asarray(solve(xp, matrix, rows, rtol=TIGHT, maxiter=4).steps).tolist() == [4, 4, 4]


def test_a_row_that_was_stopped_has_not_converged(xp):
    rows = np.array([[1.0, 0, 1], [0, 5, 0]])
    solution = solve(xp, np.diag([1.0, 2.0, 4.0]), rows, rtol=TIGHT, maxiter=1)
    assert np.asarray(solution.converged).tolist() == [False, True]


@pytest.mark.parametrize("maxiter", [1, 3, 1000])
def test_residuals_are_those_of_the_solution(xp, maxiter):
    matrix, rows = problem(k=3, p=40)
    solution = solve(xp, matrix, rows, rtol=1e-3, maxiter=maxiter)
    expected = np.linalg.norm(rows - np.asarray(solution.value) @ matrix, axis=1)
    assert relative_error(solution.residuals, expected) < 1e-8


def test_rounding_is_made_good_where_the_matrix_is_ill_conditioned(xp):
    matrix, rows = np.diag(np.geomspace(1e-4, 1e4, 30)), np.ones((2, 30))
    assert np.all(np.asarray(solve(xp, matrix, rows, rtol=1e-10, maxiter=5000).converged))


def test_a_tolerance_below_the_precision_of_the_numbers_does_not_run_for_ever(xp):
    matrix, rows = problem(k=3, p=20, dtype="float32")
    solution = solve(xp, matrix, rows, rtol=1e-30, maxiter=10**9)
    assert not np.any(np.asarray(solution.converged))


def test_negative_curvature_is_named_by_its_size(xp):
    solution = solve(xp, np.diag([1.0, -3.0]), np.array([[1.0, 0], [0, 1]]))
    assert np.asarray(solution.curvatures).tolist() == [1.0, -3.0]


def test_a_row_that_meets_negative_curvature_stops_where_it_is(xp):
    solution = solve(xp, np.diag([1.0, -3.0]), np.array([[0.0, 1]]))
    assert np.asarray(solution.value).tolist() == [[0.0, 0.0]]


def test_a_row_that_meets_negative_curvature_does_not_start_again(xp):
    solution = solve(xp, np.diag([1.0, 2.0, -1.0]), np.array([[1.0, 1, 0.01]]))
    assert np.asarray(solution.steps).tolist() == [3]


def test_a_row_that_meets_negative_curvature_does_not_disturb_the_others(xp):
    solution = solve(xp, np.diag([1.0, -3.0]), np.array([[0.0, 1], [1, 0]]))
    assert np.asarray(solution.converged).tolist() == [False, True]


@pytest.mark.parametrize("scale", [1e-30, 1e-25, 1e25, 1e30])
def test_the_size_of_a_row_does_not_matter_in_single_precision(xp, scale):
    matrix, rows = problem(k=3, p=5, dtype="float32")
    expected = np.linalg.solve(matrix, rows.T).T
    solution = solve(xp, matrix, (rows * scale).astype("float32"), rtol=1e-5)
    assert relative_error(np.asarray(solution.value) / scale, expected) < 1e-3


def test_no_row_is_solved_by_no_row(xp):
    assert solve(xp, np.eye(3), np.zeros((0, 3))).value.shape == (0, 3)


def test_the_right_hand_sides_are_not_changed(xp):
    matrix, rows = problem(k=3, p=5)
    given = xp.asarray(rows, copy=True)
    conjugate_gradients(lambda v: v @ xp.asarray(matrix), given)
    assert np.array_equal(np.asarray(given), rows)
