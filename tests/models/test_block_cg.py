"""Rows in one Krylov space: fewer steps for all, and no harm where rows depend on each other."""

import numpy as np
import pytest
from linear_systems import SOLVERS, dense_solution, positive_problem, solve, with_eigenvalues
from oracle import relative_error

SPECTRA = {
    "spread evenly": np.geomspace(1e-4, 1, 200),
    "some large": np.r_[np.geomspace(1, 1e4, 20), np.linspace(0.5, 1.5, 180)],
    "low rank and damping": np.r_[np.geomspace(0.01, 10, 60), np.zeros(140)] + 1e-3,
}


@pytest.fixture(params=SPECTRA)
def spectrum(request):
    return SPECTRA[request.param]


def widths_of(solver, matrix, rows, **options):
    """Return how many rows each product had, the last one to measure the residuals."""
    widths = []

    def product(v):
        widths.append(v.shape[0])
        return v @ matrix

    solution = SOLVERS[solver](product, rows, maxiter=5000, **options)
    assert np.all(solution.converged)
    return widths


def rows_multiplied(solver, matrix, rows, **options):
    """Return the number of products, and of the rows multiplied in all of them."""
    widths = widths_of(solver, matrix, rows, **options)
    return len(widths), sum(widths)


@pytest.mark.parametrize("k", [8, 32])
def test_an_ill_conditioned_matrix_takes_less_than_half_the_steps_and_products(spectrum, k):
    matrix, rows = with_eigenvalues(spectrum, k=k)
    steps, products = rows_multiplied("block", matrix, rows, rtol=1e-6)
    apart_steps, apart_products = rows_multiplied("lockstep", matrix, rows, rtol=1e-6)
    assert 2 * steps < apart_steps
    assert 2 * products < apart_products


def test_a_single_row_takes_the_steps_of_plain_conjugate_gradients(spectrum):
    matrix, rows = with_eigenvalues(spectrum, k=1)
    steps, _ = rows_multiplied("block", matrix, rows, rtol=1e-3)
    plain, _ = rows_multiplied("lockstep", matrix, rows, rtol=1e-3)
    assert abs(steps - plain) <= 0.1 * plain


def test_as_many_rows_as_parameters_need_one_step(xp):
    matrix, rows = positive_problem(k=8, p=8)
    assert int(xp.max(solve("block", xp, matrix, rows, rtol=1e-8).steps)) == 1


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_rows_that_depend_on_others_add_no_direction(dtype):
    matrix, rows = with_eigenvalues(np.geomspace(0.1, 10, 100), k=4, dtype=dtype)
    mixed = np.random.default_rng(1).standard_normal((6, 4)).astype(dtype) @ rows
    widths = widths_of("block", matrix, np.concatenate([rows, mixed, rows]), rtol=1e-4)
    assert set(widths[:-1]) == {4}


def test_a_direction_that_is_used_up_is_dropped():
    rows = np.random.default_rng(0).standard_normal((3, 40))
    rows[0, :] = 0
    rows[0, 7] = 1  # an eigenvector
    widths = widths_of("block", np.diag(np.geomspace(0.1, 10, 40)), rows, rtol=1e-6)
    assert widths[0] == 3
    assert set(widths[1:-1]) == {2}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_rows_that_nearly_depend_on_others_are_solved(xp, dtype):
    matrix, rows = positive_problem(k=4, p=30, dtype=dtype)
    noise = np.random.default_rng(1).standard_normal((4, 30))
    near = [rows + size * noise for size in (1e-3, 1e-6, 1e-9, 1e-13)]
    rows = np.concatenate([rows, *near]).astype(dtype)
    tolerance = {"float64": 1e-10, "float32": 1e-5}[dtype]
    solution = solve("block", xp, matrix, rows, rtol=tolerance)
    assert np.all(np.asarray(solution.converged))
    assert relative_error(solution.value, dense_solution(matrix, rows)) < 100 * tolerance


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_singular_matrix_is_solved_for_rows_in_its_range(dtype):
    values = np.r_[np.geomspace(0.1, 10, 30), np.zeros(20)]
    matrix, rows = with_eigenvalues(values, k=8, dtype=dtype)
    rows = rows @ matrix
    tolerance = {"float64": 1e-8, "float32": 1e-4}[dtype]
    solution = solve("block", np, matrix, rows, rtol=tolerance)
    assert np.all(solution.converged)


def test_the_smallest_curvature_is_that_of_all_directions_together(xp):
    matrix, rows = with_eigenvalues(np.r_[-0.01, np.linspace(1, 2, 29)], k=5)
    solution = solve("block", xp, matrix, rows, rtol=1e-10)
    curvatures = np.asarray(solution.curvatures)
    assert np.all(curvatures == curvatures[0])
    assert -0.01 - 1e-12 <= curvatures[0] <= 0
    assert not np.any(np.asarray(solution.converged))


def test_negative_curvature_is_found_in_the_first_step_that_contains_it(xp):
    solution = solve("block", xp, np.diag([1.0, -3.0]), np.array([[1.0, 0], [0, 1]]))
    assert relative_error(solution.curvatures, [-3.0, -3.0]) < 1e-12
    assert np.asarray(solution.steps).tolist() == [1, 1]


def test_a_stronger_preconditioner_leaves_fewer_steps(xp):
    values = np.geomspace(1e-4, 1, 200)
    matrix, rows = with_eigenvalues(values, k=4)
    steps = []
    for power in (0.0, 0.5, 1.0):
        eigenvalues, vectors = np.linalg.eigh(matrix)
        close = xp.asarray((vectors / (eigenvalues + 1e-3) ** power) @ vectors.T)
        solution = solve(
            "block", xp, matrix, rows, rtol=1e-6, preconditioner=lambda v, m=close: v @ m
        )
        assert relative_error(solution.value, dense_solution(matrix, rows)) < 1e-3
        steps.append(int(xp.max(solution.steps)))
    assert steps[0] > 1.5 * steps[1] > 1.5 * 1.5 * steps[2]
