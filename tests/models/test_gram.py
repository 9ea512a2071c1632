"""Influence in the dual on the reference model, which knows no layers, in several namespaces."""

import numpy as np
import pytest
from curvatures import NAMESPACES, dense_curvature, dense_factors, namespace, problem
from oracle import gradients, relative_error

from upweight.errors import UnsupportedCurvatureError
from upweight.linalg.gram import (
    Factored,
    combinations,
    gram,
    inner_products,
    joined,
    paired,
    squared_norms,
)
from upweight.models import GramInfluence

SHAPES = [(1, 1), (4, 1), (5, 3)]


@pytest.fixture(params=NAMESPACES)
def xp(request):
    return namespace(request.param)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("landmarks", [None, 25])
def test_the_empirical_fisher_needs_no_layers(xp, dtype, landmarks):
    objective, train, test = problem(xp, dtype=dtype)
    influence = GramInfluence(
        objective,
        regularization=0.1,
        damping="absolute",
        second_order_mode="empirical_fisher",
        landmarks=landmarks,
    ).fit([train], progress=False)
    matrix = dense_curvature(objective, train, mode="empirical_fisher")
    factors = dense_factors(matrix, gradients(objective, test), damping=0.1)
    tolerance = {"float64": 1e-8, "float32": 1e-3}[dtype]
    assert relative_error(influence.influence_factors(*test), factors) < tolerance
    expected = factors @ gradients(objective, train).T
    assert relative_error(influence.influences(*test, *train), expected) < tolerance
    assert (
        relative_error(
            influence.self_influences(*test), np.diag(factors @ gradients(objective, test).T)
        )
        < tolerance
    )


def test_the_gauss_newton_matrix_needs_hessians_in_the_output():
    objective, _, _ = problem()
    with pytest.raises(UnsupportedCurvatureError, match="does not give Hessians in the output"):
        GramInfluence(objective)


@pytest.mark.parametrize(("n", "t"), SHAPES)
@pytest.mark.parametrize(("m", "s"), SHAPES)
@pytest.mark.parametrize(("d", "e"), [(1, 1), (2, 3)])
def test_factored_products_are_those_of_the_matrices(xp, monkeypatch, n, t, m, s, d, e):
    monkeypatch.setattr("upweight.linalg.gram.NUMBERS", 20)
    rng = np.random.default_rng(0)
    left = [random_part(rng, d, n, t, 3, 2), random_part(rng, d, n, 1, 1, 4)]
    right = [random_part(rng, e, m, s, 3, 2), random_part(rng, e, m, 1, 1, 4)]
    dense = dense_rows(left) @ dense_rows(right).T
    np.testing.assert_allclose(np.asarray(gram(on(xp, left), on(xp, right))), dense, atol=1e-12)
    norms = np.sum(dense_rows(left) ** 2, axis=1).reshape(d, n)
    np.testing.assert_allclose(np.asarray(squared_norms(on(xp, left))), norms, atol=1e-12)


@pytest.mark.parametrize(("n", "t"), SHAPES)
@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("k", [1, 4])
def test_products_and_combinations_of_rows(xp, monkeypatch, n, t, d, k):
    monkeypatch.setattr("upweight.linalg.gram.NUMBERS", 20)
    rng = np.random.default_rng(0)
    part = random_part(rng, d, n, t, 3, 2)
    (moved,), dense = on(xp, [part]), dense_rows([part])
    rows, weights = rng.standard_normal((k, 6)), rng.standard_normal((k, d * n))
    products = inner_products(xp.asarray(rows), moved)
    np.testing.assert_allclose(np.asarray(products), rows @ dense.T, atol=1e-12)
    sums = combinations(xp.asarray(weights), moved)
    np.testing.assert_allclose(np.asarray(sums), weights @ dense, atol=1e-12)


def test_taking_joining_and_pairing(xp):
    rng = np.random.default_rng(0)
    first, second = random_part(rng, 2, 4, 1, 3, 2), random_part(rng, 2, 3, 2, 3, 2)
    whole = joined(on(xp, [first, second]))
    shaped = [dense_rows([first]).reshape(2, 4, 6), dense_rows([second]).reshape(2, 3, 6)]
    dense = np.concatenate(shaped, axis=1).reshape(14, 6)
    back = Factored(np.asarray(whole.inputs), np.asarray(whole.gradients))
    np.testing.assert_allclose(dense_rows([back]), dense, atol=1e-12)
    some = whole.take(xp.asarray([13, 0, 8]))
    np.testing.assert_allclose(
        np.asarray(squared_norms([some]))[0],
        np.sum(dense[[13, 0, 8]] ** 2, axis=1),
    )
    reversed_ = whole.take(xp.asarray([8, 0, 13]))
    pairs = np.sum(dense[[13, 0, 8]] * dense[[8, 0, 13]], 1)
    np.testing.assert_allclose(np.asarray(paired(some, reversed_)), pairs)


def random_part(rng, d, n, t, o, i):
    return Factored(rng.standard_normal((n, t, i)), rng.standard_normal((d, n, t, o)))


def on(xp, parts):
    return [Factored(xp.asarray(part.inputs), xp.asarray(part.gradients)) for part in parts]


def dense_rows(parts):
    """Return the matrices side by side, one of each part, as rows."""
    rows = [np.einsum("dnto,nti->dnoi", part.gradients, part.inputs) for part in parts]
    return np.concatenate([each.reshape(len(parts[0]), -1) for each in rows], axis=1)
