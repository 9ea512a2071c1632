"""Lanczos and the Nyström sketch on matrices whose spectrum is known."""

import numpy as np
import pytest
from curvatures import NAMESPACES, namespace
from oracle import relative_error

from upweight.linalg.lanczos import lanczos
from upweight.linalg.nystroem import nystroem

ROUNDING = {"float64": 1e-12, "float32": 1e-4}
SPECTRA = {
    "distinct": np.linspace(0.1, 5, 12),
    "repeated": np.repeat([0.0, 1.0, 3.0], 4),
    "unit": np.ones(12),
    "zero": np.zeros(12),
    "wide": np.logspace(-8, 2, 12),
    "one": np.array([2.0]),
}
INDEFINITE = {"signed": np.linspace(-3, 5, 12), "negative": -np.logspace(-2, 1, 12)}


@pytest.fixture(params=NAMESPACES)
def xp(request):
    return namespace(request.param)


def matrix_of(values, *, seed=0):
    """Return a symmetric matrix with the eigenvalues."""
    axes, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal(2 * (len(values),)))
    return (axes * values) @ axes.T


def run(algorithm, xp, matrix, *, dtype="float64", seed=0, **options):
    array = xp.asarray(matrix.astype(dtype))
    rng = np.random.default_rng(seed)
    return algorithm(lambda rows: rows @ array, array[:1, :], rng=rng, **options)


def rebuilt(values, vectors):
    vectors = np.asarray(vectors, float)
    return (vectors.T * np.asarray(values, float)) @ vectors


def close(actual, expected, *, tolerance):
    return np.abs(np.asarray(actual, float) - expected).max() <= tolerance * max(
        np.abs(expected).max(), 1e-30
    )


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("name", [*SPECTRA, *INDEFINITE])
def test_lanczos_of_all_dimensions_finds_the_matrix(xp, name, dtype):
    matrix = matrix_of({**SPECTRA, **INDEFINITE}[name])
    subspace = run(lanczos, xp, matrix, dtype=dtype, dimension=len(matrix))
    found = rebuilt(subspace.values, subspace.vectors(len(matrix)))
    assert close(found, matrix, tolerance=ROUNDING[dtype])


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("name", [*SPECTRA, *INDEFINITE])
def test_the_lanczos_basis_is_orthonormal(xp, name, dtype):
    matrix = matrix_of({**SPECTRA, **INDEFINITE}[name])
    basis = np.asarray(run(lanczos, xp, matrix, dtype=dtype, dimension=99).basis, float)
    assert np.abs(basis @ basis.T - np.eye(len(matrix))).max() < ROUNDING[dtype]


def test_lanczos_needs_few_steps_for_extreme_eigenvalues(xp):
    values = np.concatenate([np.linspace(0, 1, 297), [10.0, 20.0, -30.0]])
    subspace = run(lanczos, xp, matrix_of(values), dimension=20)
    assert close(subspace.values[:3], np.array([-30.0, 20.0, 10.0]), tolerance=1e-10)


def test_many_steps_give_no_copy_of_an_eigenvalue(xp):
    values = np.concatenate([np.linspace(0, 1, 197), [10.0, 20.0, -30.0]])
    subspace = run(lanczos, xp, matrix_of(values), dimension=150)
    assert np.sum(np.abs(subspace.values) > 2) == 3


@pytest.mark.parametrize("dimension", [1, 5, 12])
def test_the_residuals_are_those_of_the_ritz_pairs(dimension):
    matrix = matrix_of(SPECTRA["distinct"])
    subspace = run(lanczos, np, matrix, dimension=dimension)
    vectors = subspace.vectors(dimension)
    measured = np.linalg.norm(vectors @ matrix - subspace.values[:, None] * vectors, axis=1)
    assert np.abs(subspace.residuals - measured).max() < 1e-12


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("name", SPECTRA)
def test_a_sketch_of_all_dimensions_finds_the_matrix(xp, name, dtype):
    matrix = matrix_of(SPECTRA[name])
    sketch = run(nystroem, xp, matrix, dtype=dtype, rank=99)
    assert close(rebuilt(sketch.values, sketch.vectors), matrix, tolerance=ROUNDING[dtype])


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("rank", [3, 5, 12])
def test_a_sketch_finds_a_matrix_of_no_larger_rank(xp, rank, dtype):
    matrix = matrix_of(np.array([1.0, 2.0, 7.0] + 9 * [0.0]))
    sketch = run(nystroem, xp, matrix, dtype=dtype, rank=rank)
    assert close(rebuilt(sketch.values, sketch.vectors), matrix, tolerance=10 * ROUNDING[dtype])


@pytest.mark.parametrize("rank", [1, 4, 8])
def test_a_sketch_is_the_formula_of_its_random_subspace(rank):
    matrix = matrix_of(SPECTRA["distinct"])
    drawn = np.random.default_rng(0).standard_normal((rank, 12)).T
    images = matrix @ drawn
    expected = images @ np.linalg.solve(drawn.T @ images, images.T)
    sketch = run(nystroem, np, matrix, rank=rank)
    assert relative_error(rebuilt(sketch.values, sketch.vectors), expected) < 1e-10


@pytest.mark.parametrize("rank", [1, 4, 8])
def test_a_sketch_is_below_the_matrix(rank):
    matrix = matrix_of(SPECTRA["wide"])
    sketch = run(nystroem, np, matrix, rank=rank)
    gap = np.linalg.eigvalsh(matrix - rebuilt(sketch.values, sketch.vectors))
    assert gap[0] > -1e-12 * np.abs(matrix).max()


@pytest.mark.parametrize("name", INDEFINITE)
def test_negative_curvature_in_the_sketch_is_seen(xp, name):
    sketch = run(nystroem, xp, matrix_of(INDEFINITE[name]), rank=12)
    assert sketch.indefinite
    assert sketch.lowest == pytest.approx(np.min(INDEFINITE[name]))


def test_the_trace_is_unbiased():
    matrix = matrix_of(SPECTRA["distinct"])
    traces = [run(nystroem, np, matrix, rank=4, seed=s, probes=8).trace for s in range(400)]
    assert np.mean(traces) == pytest.approx(np.trace(matrix), abs=4 * np.std(traces) / 20)


@pytest.mark.parametrize("name", ["distinct", "repeated", "wide"])
def test_the_trace_of_a_positive_matrix_is_no_less_than_that_of_its_approximation(name):
    matrix = matrix_of(SPECTRA[name])
    for seed in range(50):
        sketch = run(nystroem, np, matrix, rank=4, seed=seed, probes=2)
        assert sketch.trace >= np.sum(sketch.values) - 1e-9
