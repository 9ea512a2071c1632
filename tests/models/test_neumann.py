"""The Neumann series: exact with exact products and with noisy ones, and honest where it is not."""

import itertools

import numpy as np
import pytest
from oracle import relative_error

from upweight.linalg.neumann import GrowthError, largest_eigenvalue, neumann_series
from upweight.linalg.random import gaussian_rows

SHAPES = [(1, 4), (5, 3), (3, 40), (1, 1)]
RTOL = 1e-9
EXACT = 1e-7


def spd(*, k, p, dtype="float64", seed=0):
    """Return a symmetric positive definite matrix of norm below 4 and right-hand sides (k, p)."""
    rng = np.random.default_rng(seed)
    factor = np.linalg.qr(rng.standard_normal((p, p)))[0]
    matrix = (factor * np.linspace(0.3, 3.5, p)) @ factor.T
    return matrix.astype(dtype), rng.standard_normal((k, p)).astype(dtype)


def solve(xp, matrix, rows, *, parts=None, repeats=1, scale=4.0, rtol=RTOL, maxiter=10_000):
    """Solve with samples of the matrix that are taken in turn, by default the matrix itself."""
    parts = [xp.asarray(part) for part in ([matrix] if parts is None else parts)]
    matrix = xp.asarray(matrix)

    def stream():
        for part in itertools.cycle(parts):
            yield lambda v, part=part: v @ part

    return neumann_series(
        lambda v: v @ matrix,
        [stream() for _ in range(repeats)],
        xp.asarray(rows),
        period=len(parts),
        scale=scale,
        rtol=rtol,
        maxiter=maxiter,
    )


def noisy(matrix, *, parts=4):
    """Return positive definite matrices that differ widely and have the given one as their mean."""
    values, vectors = np.linalg.eigh(matrix)
    weights = np.random.default_rng(1).dirichlet(np.ones(parts), len(values)).T * parts
    return [(vectors * (values * weight)) @ vectors.T for weight in weights]


@pytest.mark.parametrize(("k", "p"), SHAPES)
def test_exact_products_give_the_dense_solution(xp, k, p):
    matrix, rows = spd(k=k, p=p)
    expected = np.linalg.solve(matrix, rows.T).T
    assert relative_error(solve(xp, matrix, rows).value, expected) < EXACT


@pytest.mark.parametrize("repeats", [1, 2])
@pytest.mark.parametrize(("k", "p"), SHAPES)
def test_noisy_products_give_the_dense_solution_all_the_same(xp, k, p, repeats):
    matrix, rows = spd(k=k, p=p)
    solution = solve(xp, matrix, rows, parts=noisy(matrix), scale=12.0, repeats=repeats)
    assert relative_error(solution.value, np.linalg.solve(matrix, rows.T).T) < EXACT


def test_the_steps_of_exact_products_sum_the_neumann_series(xp):
    matrix, rows = spd(k=2, p=5)
    h, powers = np.zeros_like(rows), rows
    for _ in range(3):
        h, powers = h + powers / 4, powers - powers @ matrix / 4
    assert relative_error(solve(xp, matrix, rows, maxiter=3).value, h) < 1e-12


def test_residuals_fall_with_every_step(xp):
    matrix, rows = spd(k=3, p=10)
    residuals = [np.asarray(solve(xp, matrix, rows, maxiter=m).residuals) for m in range(1, 30)]
    assert np.all(np.diff(residuals, axis=0) < 0)


@pytest.mark.parametrize("maxiter", [1, 5, 10_000])
def test_residuals_are_those_of_the_solution(xp, maxiter):
    matrix, rows = spd(k=3, p=10)
    solution = solve(xp, matrix, rows, parts=noisy(matrix), scale=12.0, maxiter=maxiter, rtol=1e-3)
    expected = np.linalg.norm(rows - np.asarray(solution.value) @ matrix, axis=1)
    assert relative_error(solution.residuals, expected) < 1e-9


def test_rows_are_solved_independently(xp):
    matrix, rows = spd(k=5, p=6)
    options = {"parts": noisy(matrix), "scale": 12.0, "rtol": 1e-2}
    together = solve(xp, matrix, rows, **options)
    alone = [solve(xp, matrix, rows[i : i + 1], **options) for i in range(5)]
    values = np.concatenate([np.asarray(solution.value) for solution in alone])
    assert relative_error(together.value, values) < 1e-12


def test_every_row_stops_when_it_is_solved(xp):
    rows = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    steps = np.asarray(solve(xp, np.diag([4.0, 0.5]), rows).steps)
    assert steps[1] == 4
    assert steps[0] > 100
    assert steps[2] == 0


def test_a_coordinate_that_does_not_move_neither_hides_nor_delays_the_others(xp):
    matrix, rows = spd(k=3, p=6)
    wide = np.zeros((7, 7))
    wide[:6, :6] = matrix
    plain, constant = solve(xp, matrix, rows), solve(xp, wide, np.pad(rows, ((0, 0), (0, 1))))
    assert np.asarray(constant.steps).tolist() == np.asarray(plain.steps).tolist()
    assert bool(xp.all(constant.converged))


def test_a_row_without_a_solution_is_not_reported_as_solved(xp):
    solution = solve(xp, np.diag([1.0, 0.0]), np.array([[1.0, 1.0]]), maxiter=400, rtol=1e-2)
    assert not bool(xp.any(solution.converged))


@pytest.mark.parametrize("parts", [1, 4])
def test_too_small_a_scale_is_told_from_a_slow_solve(xp, parts):
    matrix, rows = spd(k=3, p=6)
    with pytest.raises(GrowthError) as error:
        solve(xp, matrix, rows, parts=noisy(matrix, parts=parts), scale=1.0)
    direction = np.asarray(error.value.direction)
    assert np.all(np.isfinite(direction))
    assert direction @ matrix @ direction > 2 * direction @ direction


def test_negative_curvature_is_found_by_its_direction(xp):
    with pytest.raises(GrowthError) as error:
        solve(xp, np.diag([1.0, -0.5]), np.array([[1.0, 1.0]]))
    direction = np.abs(np.asarray(error.value.direction))
    assert direction[1] > 10 * direction[0]


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_size_of_a_row_does_not_matter_in_single_precision(xp, scale):
    matrix, rows = spd(k=3, p=5, dtype="float32")
    solution = solve(xp, matrix, (rows * scale).astype("float32"), rtol=1e-5)
    assert solution.value.dtype == xp.float32
    expected = np.linalg.solve(matrix, rows.T).T
    assert relative_error(np.asarray(solution.value) / scale, expected) < 1e-4


@pytest.mark.parametrize("noise", [False, True], ids=["exact", "noisy"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_tolerance_below_the_precision_of_the_numbers_does_not_run_to_the_limit(xp, dtype, noise):
    matrix, rows = spd(k=3, p=10, dtype=dtype)
    parts = [part.astype(dtype) for part in noisy(matrix)] if noise else None
    solution = solve(xp, matrix, rows, parts=parts, scale=12.0, rtol=1e-30, maxiter=20_000)
    precision = float(np.finfo(dtype).eps)
    assert not np.any(np.asarray(solution.converged))
    assert int(xp.max(solution.steps)) < 5_000
    expected = np.linalg.solve(np.asarray(matrix, float), np.asarray(rows, float).T).T
    assert relative_error(solution.value, expected) < 200 * precision


def test_a_solve_that_falls_slowly_does_not_count_as_one_that_has_ended(xp):
    matrix, rows = np.diag([1.0, 1e-3]).astype("float32"), np.ones((1, 2), dtype="float32")
    solution = solve(xp, matrix, rows, scale=1.0, rtol=1e-3)
    assert bool(xp.all(solution.converged))


def test_no_row_is_solved_by_no_row(xp):
    assert solve(xp, np.eye(3), np.zeros((0, 3))).value.shape == (0, 3)


def test_the_right_hand_sides_are_not_changed(xp):
    matrix, rows = spd(k=3, p=5)
    given = xp.asarray(rows, copy=True)
    solve(xp, matrix, given)
    assert np.array_equal(np.asarray(given), rows)


@pytest.mark.parametrize("values", [[3.0, 1, 0.1], [-3.0, 1, 0.1], [0.0, 0, 0]])
def test_the_largest_eigenvalue_is_found_from_below(xp, values):
    start = gaussian_rows(np.random.default_rng(0), xp.zeros((0, 3)), 1)
    matrix = xp.asarray(np.diag(values))
    found, _ = largest_eigenvalue(lambda v: v @ matrix, start)
    assert found == pytest.approx(abs(values[0]), rel=1e-6)


def test_a_similar_matrix_needs_few_products(xp):
    matrix, _ = spd(k=1, p=30)
    start = gaussian_rows(np.random.default_rng(0), xp.zeros((0, 30)), 1)
    _, row = largest_eigenvalue(lambda v: v @ xp.asarray(matrix), start)
    products = []

    def similar(v):
        products.append(v)
        return v @ xp.asarray(1.01 * matrix)

    found, _ = largest_eigenvalue(similar, row, similar=True)
    assert len(products) == 4
    assert found == pytest.approx(1.01 * 3.5, rel=0.05)
