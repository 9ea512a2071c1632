"""Vectors with factored parts, however the samples fall into pieces."""

import numpy as np
import pytest

from upweight.linalg.gram import Factored, combinations
from upweight.models._landmarks import drawn_vectors
from upweight.models._vectors import FactoredVectors

DIRECTIONS = 2


def pieces(*sizes, layers=True, rest=True):
    """Return vectors of the same samples, two a sample, in pieces of some sizes."""
    rng = np.random.default_rng(0)
    n = sum(sizes)
    inputs, gradients = rng.standard_normal((n, 1, 3)), rng.standard_normal((DIRECTIONS, n, 1, 2))
    dense = rng.standard_normal((DIRECTIONS, n, 4))
    found = []
    for start, stop in zip(np.cumsum([0, *sizes]), np.cumsum(sizes), strict=False):
        part = Factored(inputs[start:stop], gradients[:, start:stop])
        found.append(
            FactoredVectors(
                (part,) if layers else (), dense[:, start:stop].reshape(-1, 4) if rest else None
            )
        )
    return found


def rows(vectors):
    parts = [combinations(np.eye(len(vectors)), layer) for layer in vectors.layers]
    return np.concatenate([*parts, vectors.rest], axis=1)


@pytest.mark.parametrize("sizes", [(9, 1), (1,) * 10, (3, 3, 4)])
def test_pieces_join_to_the_whole(sizes):
    (whole,) = pieces(10)
    np.testing.assert_array_equal(rows(FactoredVectors.joined(pieces(*sizes))), rows(whole))


@pytest.mark.parametrize("sizes", [(9, 1), (1,) * 10, (3, 3, 4)])
def test_the_same_vectors_are_drawn_from_any_pieces(sizes):
    expected, total = drawn(10)
    some, same = drawn(*sizes)
    np.testing.assert_array_equal(some, expected)
    assert same == pytest.approx(total)
    assert total == pytest.approx((rows(pieces(10)[0]) ** 2).sum())


def drawn(*sizes):
    """Return what is drawn, in an order that does not depend on chance, and the total."""
    vectors, total = drawn_vectors(
        pieces(*sizes), 7, directions=DIRECTIONS, rng=np.random.default_rng(1)
    )
    found = rows(vectors)
    return found[np.argsort(found[:, 0])], total


def test_squared_norms_and_pairs_add_up_over_the_parts():
    (whole,) = pieces(10)
    np.testing.assert_allclose(whole.squared_norms(), (rows(whole) ** 2).sum(1))
    np.testing.assert_allclose(whole.inner_products(whole), rows(whole) @ rows(whole).T)
    some, other = whole.take(np.array([3, 15, 9])), whole.take(np.array([19, 15, 0]))
    np.testing.assert_allclose(some.paired(other), (rows(some) * rows(other)).sum(1))
