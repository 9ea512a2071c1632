"""The inverse of a damped dense matrix, definite or not."""

import numpy as np
import pytest
from oracle import TOLERANCES, relative_error

from upweight import IndefiniteCurvatureError
from upweight.linalg.dense import DenseInverse

DAMPING = 0.3


def symmetric(eigenvalues, *, dtype="float64"):
    """Return a matrix with these eigenvalues and random eigenvectors."""
    p = len(eigenvalues)
    vectors, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((p, p)))
    matrix = (vectors * np.asarray(eigenvalues)) @ vectors.T
    return ((matrix + matrix.T) / 2).astype(dtype)


MATRICES = {
    "definite": symmetric([0.5, 1, 2, 7]),
    "semidefinite": symmetric([0, 0, 1, 2]),
    "indefinite": symmetric([-2, -1, 1, 2]),
    "one parameter": symmetric([3.0]),
    "large": symmetric(np.geomspace(1e-3, 10, 131)),
}


@pytest.mark.parametrize("matrix", MATRICES.values(), ids=MATRICES)
@pytest.mark.parametrize("k", [1, 3, 9])
def test_rows_are_those_of_the_dense_solution(xp, matrix, k):
    rows = np.random.default_rng(1).standard_normal((k, len(matrix)))
    solved = DenseInverse.of(xp.asarray(matrix), damping=DAMPING).solve(xp.asarray(rows))
    expected = np.linalg.solve(matrix + DAMPING * np.eye(len(matrix)), rows.T).T
    assert relative_error(solved, expected) < TOLERANCES["float64"]


def test_single_precision_stays_single(xp):
    matrix = symmetric([1, 2, 3], dtype="float32")
    rows = np.ones((2, 3), dtype="float32")
    solved = DenseInverse.of(xp.asarray(matrix), damping=DAMPING).solve(xp.asarray(rows))
    expected = np.linalg.solve(matrix + DAMPING * np.eye(3), rows.T).T
    assert solved.dtype == xp.float32
    assert relative_error(solved, expected) < TOLERANCES["float32"]


@pytest.mark.parametrize("name", ["definite", "indefinite"])
def test_the_inverse_is_symmetric_to_rounding(xp, name):
    solver = DenseInverse.of(xp.asarray(MATRICES[name]), damping=DAMPING)
    inverse = np.asarray(solver.solve(xp.eye(4)))
    assert relative_error(inverse, inverse.T) < 1e-14


def test_the_lowest_eigenvalue_is_that_without_the_damping(xp):
    inverse = DenseInverse.of(xp.asarray(MATRICES["indefinite"]), damping=DAMPING)
    assert inverse.lowest == pytest.approx(-2)


@pytest.mark.parametrize("name", ["definite", "semidefinite"])
def test_a_definite_matrix_has_no_lowest_eigenvalue_to_report(xp, name):
    assert DenseInverse.of(xp.asarray(MATRICES[name]), damping=DAMPING).lowest is None


@pytest.mark.parametrize(
    ("eigenvalues", "damping"),
    [((0, 1, 2), 0.0), ((-0.5, 1, 2), 0.5), ((1, 1e-17, 2), 0.0), ((0, 0, 0), 0.0)],
)
def test_a_singular_matrix_is_refused_with_its_damping(xp, eigenvalues, damping):
    matrix = xp.asarray(np.diag(np.asarray(eigenvalues, float)))
    with pytest.raises(IndefiniteCurvatureError, match=f"damping {damping:g} is singular"):
        DenseInverse.of(matrix, damping=damping)


def test_what_is_singular_depends_on_the_precision_of_the_numbers(xp):
    matrix = np.diag([1.0, 1e-9])
    DenseInverse.of(xp.asarray(matrix), damping=0)
    with pytest.raises(IndefiniteCurvatureError, match="larger regularization"):
        DenseInverse.of(xp.asarray(matrix.astype("float32")), damping=0)


def test_a_large_matrix_of_moderate_condition_is_inverted_in_single_precision(xp):
    eigenvalues = np.repeat([1e-3, 1.0], 200)
    matrix = symmetric(eigenvalues, dtype="float32")
    solved = DenseInverse.of(xp.asarray(matrix), damping=0).solve(xp.asarray(matrix))
    assert relative_error(solved, np.eye(400)) < 1e-2


def test_the_matrix_is_not_changed(xp):
    matrix = xp.asarray(MATRICES["definite"], copy=True)
    DenseInverse.of(matrix, damping=DAMPING)
    assert np.array_equal(np.asarray(matrix), MATRICES["definite"])
