"""Conjugate gradients, in lockstep and by blocks: every row is solved, and says how it fared."""

import numpy as np
import pytest
from linear_systems import SOLVERS, dense_solution, positive_problem, solve, with_eigenvalues
from oracle import relative_error

TIGHT = 1e-12
SHAPES = [(1, 4), (5, 3), (3, 40), (1, 1), (40, 6)]


@pytest.fixture(params=SOLVERS)
def solver(request):
    return request.param


@pytest.mark.parametrize(("k", "p"), SHAPES)
def test_rows_are_those_of_the_dense_solution(xp, solver, k, p):
    matrix, rows = positive_problem(k=k, p=p)
    actual = solve(solver, xp, matrix, rows, rtol=TIGHT).value
    assert relative_error(actual, dense_solution(matrix, rows)) < 1e-10


@pytest.mark.parametrize(("k", "p"), SHAPES)
def test_rows_of_single_precision_are_solved_to_single_precision(xp, solver, k, p):
    matrix, rows = positive_problem(k=k, p=p, dtype="float32")
    solution = solve(solver, xp, matrix, rows, rtol=1e-5)
    assert solution.value.dtype == xp.float32
    assert relative_error(solution.value, dense_solution(matrix, rows)) < 1e-3


@pytest.mark.parametrize(("k", "p"), SHAPES)
def test_every_row_meets_the_tolerance_it_was_given(xp, solver, k, p):
    matrix, rows = positive_problem(k=k, p=p)
    solution = solve(solver, xp, matrix, rows, rtol=1e-6)
    missed = np.linalg.norm(rows - np.asarray(solution.value) @ matrix, axis=1)
    assert np.all(missed <= 1e-6 * np.linalg.norm(rows, axis=1))


def test_the_relative_tolerance_is_not_squared(xp, solver):
    matrix, rows = positive_problem(k=6, p=50)
    residuals = np.asarray(solve(solver, xp, matrix, rows, rtol=1e-2).residuals)
    assert np.all(residuals > 1e-4 * np.linalg.norm(rows, axis=1))


def test_a_row_within_the_absolute_tolerance_takes_no_step(xp, solver):
    matrix, rows = positive_problem(k=2, p=5)
    rows[0, :] *= 1e-3
    solution = solve(solver, xp, matrix, rows, rtol=TIGHT, atol=0.1)
    assert [int(steps) > 0 for steps in np.asarray(solution.steps)] == [False, True]


def test_a_row_of_zeros_is_solved_by_zeros(xp, solver):
    matrix, rows = positive_problem(k=3, p=5)
    rows[1, :] = 0
    solution = solve(solver, xp, matrix, rows)
    assert not np.any(np.asarray(solution.value)[1])
    assert int(solution.steps[1]) == 0


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_equal_rows_have_equal_solutions(xp, solver, dtype):
    matrix, rows = positive_problem(k=6, p=20, dtype=dtype)
    rows[2, :] = rows[0, :]
    rows[5, :] = -3 * rows[0, :]
    tolerance = {"float64": 1e-10, "float32": 1e-5}[dtype]
    value = solve(solver, xp, matrix, rows, rtol=tolerance).value
    assert relative_error(value, dense_solution(matrix, rows)) < 100 * tolerance


def test_the_order_of_the_rows_does_not_matter(xp, solver):
    matrix, rows = positive_problem(k=5, p=20)
    forward = np.asarray(solve(solver, xp, matrix, rows, rtol=TIGHT).value)
    backward = np.asarray(solve(solver, xp, matrix, rows[::-1].copy(), rtol=TIGHT).value)
    assert relative_error(backward[::-1], forward) < 1e-10


@pytest.mark.parametrize(("k", "p"), SHAPES)
def test_a_row_has_the_same_solution_alone(xp, solver, k, p):
    matrix, rows = positive_problem(k=k, p=p)
    together = solve(solver, xp, matrix, rows, rtol=TIGHT)
    alone = [
        np.asarray(solve(solver, xp, matrix, rows[i : i + 1], rtol=TIGHT).value)[0]
        for i in range(k)
    ]
    assert relative_error(together.value, alone) < 1e-10


def test_the_steps_of_a_row_end_at_the_limit(xp, solver):
    matrix, rows = positive_problem(k=3, p=40)
    solution = solve(solver, xp, matrix, rows, rtol=TIGHT, maxiter=4)
    assert np.asarray(solution.steps).tolist() == [4, 4, 4]
    assert not np.any(np.asarray(solution.converged))


def test_steps_are_those_taken(xp, solver):
    matrix, rows = positive_problem(k=3, p=40)
    taken = []

    def product(v):
        taken.append(v)
        return v @ xp.asarray(matrix)

    solution = SOLVERS[solver](product, xp.asarray(rows), rtol=1e-3)
    assert int(xp.max(solution.steps)) == len(taken) - 1  # and one to measure the residual


@pytest.mark.parametrize("maxiter", [1, 3, 1000])
def test_residuals_are_those_of_the_solution(xp, solver, maxiter):
    matrix, rows = positive_problem(k=3, p=40)
    solution = solve(solver, xp, matrix, rows, rtol=1e-3, maxiter=maxiter)
    expected = np.linalg.norm(rows - np.asarray(solution.value) @ matrix, axis=1)
    assert relative_error(solution.residuals, expected) < 1e-8


def test_rounding_is_made_good_where_the_matrix_is_ill_conditioned(xp, solver):
    rows = np.random.default_rng(0).standard_normal((2, 30))
    matrix = np.diag(np.geomspace(1e-4, 1e4, 30))
    solution = solve(solver, xp, matrix, rows, rtol=1e-10, maxiter=5000)
    assert np.all(np.asarray(solution.converged))


def test_rounding_that_comes_again_at_every_start_is_left_room_for(solver):
    converged = []
    for seed in range(5):
        matrix, rows = with_eigenvalues(np.geomspace(1e-2, 1, 60), k=4, seed=seed)
        rng = np.random.default_rng(seed)

        def rounded(v, matrix=matrix, rng=rng):
            image = v @ matrix
            return image + 1e-6 * rng.standard_normal(image.shape) * np.abs(image)

        converged.append(SOLVERS[solver](rounded, rows, rtol=3e-6).converged)
    assert np.all(converged)


def test_a_tolerance_below_the_precision_of_the_numbers_does_not_run_for_ever(xp, solver):
    matrix, rows = positive_problem(k=3, p=20, dtype="float32")
    solution = solve(solver, xp, matrix, rows, rtol=1e-30, maxiter=10**9)
    assert not np.any(np.asarray(solution.converged))


def test_a_preconditioner_that_is_the_inverse_leaves_one_step(xp, solver):
    matrix, rows = positive_problem(k=3, p=20)
    inverse = xp.asarray(np.linalg.inv(matrix))
    solution = solve(solver, xp, matrix, rows, rtol=1e-8, preconditioner=lambda v: v @ inverse)
    assert relative_error(solution.value, dense_solution(matrix, rows)) < 1e-8
    assert np.asarray(solution.steps).tolist() == [1, 1, 1]


@pytest.mark.parametrize("scale", [1e-30, 1e-25, 1e25, 1e30])
def test_the_size_of_a_row_does_not_matter_in_single_precision(xp, solver, scale):
    matrix, rows = positive_problem(k=3, p=5, dtype="float32")
    solution = solve(solver, xp, matrix, (rows * scale).astype("float32"), rtol=1e-5)
    value = np.asarray(solution.value, float) / scale
    assert relative_error(value, dense_solution(matrix, rows)) < 1e-3


def test_rows_of_very_different_sizes_are_all_solved(xp, solver):
    matrix, rows = positive_problem(k=3, p=20, dtype="float32")
    sizes = np.asarray([[1e-20], [1.0], [1e15]])
    solution = solve(solver, xp, matrix, (rows * sizes).astype("float32"), rtol=1e-5)
    value = np.asarray(solution.value, float) / sizes
    assert relative_error(value, dense_solution(matrix, rows)) < 1e-3


def test_a_row_that_meets_negative_curvature_stops_where_it_is(xp, solver):
    solution = solve(solver, xp, np.diag([1.0, -3.0]), np.array([[0.0, 1]]))
    assert np.asarray(solution.value).tolist() == [[0.0, 0.0]]
    assert np.asarray(solution.curvatures).tolist() == [-3.0]
    assert not bool(solution.converged[0])


def test_products_that_are_not_finite_show_in_the_residual(xp, solver):
    with np.errstate(invalid="ignore"):
        solution = solve(solver, xp, np.diag([1.0, float("nan")]), np.array([[1.0, 1]]))
    assert not np.any(np.isfinite(np.asarray(solution.residuals)))


def test_no_row_is_solved_by_no_row(xp, solver):
    assert solve(solver, xp, np.eye(3), np.zeros((0, 3))).value.shape == (0, 3)


def test_the_right_hand_sides_are_not_changed(xp, solver):
    matrix, rows = positive_problem(k=3, p=5)
    given = xp.asarray(rows, copy=True)
    SOLVERS[solver](lambda v: v @ xp.asarray(matrix), given)
    assert np.array_equal(np.asarray(given), rows)
