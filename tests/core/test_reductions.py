"""Reductions of any blocks are those of the whole matrix, and orders agree bit for bit."""

import pickle
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
import pytest
from dense_reductions import REDUCTIONS, assert_reduced, cut_matrices, expected
from hypothesis import given, settings
from hypothesis import strategies as st

from upweight import (
    ArgMax,
    BottomK,
    DataError,
    Max,
    Mean,
    NestedLazyChunkSequence,
    NonFiniteError,
    Ranked,
    Sum,
    TopK,
)

OVER = ("training", "test")


class Identity:
    def to_numpy(self, x):
        return x


def lazy_blocks(matrix, rows, columns, *, group=2, **options):
    """Return the blocks of a matrix, computed for groups of so many rows of blocks."""
    bands = [matrix[start:end] for start, end in pairwise(accumulate(rows, initial=0))]
    ends = list(pairwise(accumulate(columns, initial=0)))

    def columns_of(some):
        return ([band[:, start:end] for band in some] for start, end in ends)

    def groups():
        return (columns_of(bands[i : i + group]) for i in range(0, len(bands), group))

    shape = (len(rows), len(columns))
    return NestedLazyChunkSequence(groups, shape=shape, **{"progress": False, **options})


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    cut_matrices(),
    st.sampled_from(list(REDUCTIONS)),
    st.integers(1, 30),
    st.integers(1, 4),
    st.sampled_from(OVER),
)
def test_any_blocks_and_groups_give_what_the_matrix_gives(cut, name, k, group, over):
    matrix, rows, columns = cut
    lazy = lazy_blocks(matrix, rows, columns, group=group)
    result = lazy.reduce(REDUCTIONS[name][0](k), Identity(), over=over)
    assert_reduced(name, result, expected(name, matrix, k=k, over=over))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(cut_matrices(), st.sampled_from(list(REDUCTIONS)), st.integers(1, 30), st.randoms())
def test_neighbours_may_be_merged_in_any_order(cut, name, k, random):
    matrix, _, columns = cut
    reduction = REDUCTIONS[name][0](k)
    ends = pairwise(accumulate(columns, initial=0))
    states = [reduction.of(matrix[:, start:end], start) for start, end in ends]
    while len(states) > 1:
        place = random.randrange(len(states) - 1)
        states[place : place + 2] = [reduction.merge(*states[place : place + 2])]
    assert_reduced(name, reduction.result(states[0]), expected(name, matrix, k=k))


@pytest.mark.parametrize("name", REDUCTIONS)
def test_blocks_and_states_are_not_changed(name):
    block = np.random.default_rng(0).integers(-3, 3, (4, 9)).astype(float)
    before, reduction = block.copy(), REDUCTIONS[name][0](3)
    left, right = reduction.of(block[:, :5], 0), reduction.of(block[:, 5:], 5)
    kept = pickle.dumps((left, right))
    reduction.result(reduction.merge(left, right))
    assert (pickle.dumps((left, right)), block.tobytes()) == (kept, before.tobytes())


@pytest.mark.parametrize("name", REDUCTIONS)
def test_a_state_does_not_hold_on_to_its_block(name):
    block = np.ones((3, 1000))
    state = REDUCTIONS[name][0](2).of(block, 0)
    arrays = [part for part in (state if isinstance(state, tuple) else (state,)) if np.ndim(part)]
    assert not any(np.shares_memory(array, block) for array in arrays)
    assert sum((array if array.base is None else array.base).nbytes for array in arrays) < 1000


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions_can_be_pickled(name):
    reduction = REDUCTIONS[name][0](3)
    assert pickle.loads(pickle.dumps(reduction)) == reduction


def test_sums_of_float32_are_accumulated_in_float64():
    matrix = np.full((1, 3000), 0.1, dtype="float32")
    matrix[0, 0] = 1e8  # of which float32 resolves multiples of 8
    result = lazy_blocks(matrix, (1,), (1,) * 3000).reduce(Sum(), Identity())
    np.testing.assert_allclose(result, [1e8 + 2999 * float(np.float32(0.1))], rtol=1e-12)


def test_finite_numbers_whose_float32_sum_is_not_finite_are_no_error():
    matrix = np.full((1, 4), 3e38, dtype="float32")
    result = lazy_blocks(matrix, (1,), (2, 2)).reduce(Mean(), Identity())
    np.testing.assert_allclose(result, [float(np.float32(3e38))])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("over", OVER)
@pytest.mark.parametrize("reduction", [TopK(2), Max(), Sum()], ids=repr)
def test_a_number_that_is_not_finite_is_named_by_its_samples(reduction, over, bad):
    matrix = np.zeros((6, 10))
    matrix[4, 7] = bad
    lazy = lazy_blocks(matrix, (2, 3, 1), (4, 4, 2))
    with pytest.raises(NonFiniteError, match="training sample 7 on test sample 4 "):
        lazy.reduce(reduction, Identity(), over=over)


@pytest.mark.parametrize("kind", [TopK, BottomK])
@pytest.mark.parametrize(("k", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError)])
def test_a_k_that_is_no_positive_integer_is_refused(kind, k, error):
    with pytest.raises(error, match=r"`k`"):
        kind(k)


@pytest.mark.parametrize("given", [TopK, Max, "max", None, np.max])
def test_what_is_no_reduction_is_refused_before_anything_is_computed(given):
    def unread():
        raise AssertionError("computed too early")

    with pytest.raises(TypeError, match="such as"):
        NestedLazyChunkSequence(unread).reduce(given, Identity())


def test_an_unknown_direction_is_refused():
    with pytest.raises(ValueError, match="'training' or 'test'"):
        lazy_blocks(np.ones((2, 2)), (2,), (2,)).reduce(Max(), Identity(), over="train")


@pytest.mark.parametrize("groups", [(), ((),)])
def test_no_chunks_are_refused(groups):
    with pytest.raises(DataError, match="no influences"):
        NestedLazyChunkSequence(lambda: map(iter, groups)).reduce(Max(), Identity())


def test_results_have_names():
    matrix = np.array([[1.0, 3.0, 2.0]])
    top = lazy_blocks(matrix, (1,), (3,)).reduce(TopK(2), Identity())
    best = lazy_blocks(matrix, (1,), (3,)).reduce(ArgMax(), Identity())
    assert (top.values.tolist(), top.indices.tolist()) == ([[3.0, 2.0]], [[1, 2]])
    assert (best.values.tolist(), best.indices.tolist()) == ([3.0], [1])
    assert isinstance(best, Ranked)


class Range(NamedTuple):
    low: np.ndarray
    high: np.ndarray


class RangeOfInfluences:
    """A reduction of someone's own."""

    def of(self, block, first):
        return Range(block.min(1), block.max(1))

    def merge(self, left, right):
        return Range(np.minimum(left.low, right.low), np.maximum(left.high, right.high))

    def result(self, state):
        return state


def test_a_reduction_of_ones_own_keeps_its_type():
    matrix = np.random.default_rng(0).standard_normal((5, 8))
    result = lazy_blocks(matrix, (2, 2, 1), (3, 5)).reduce(RangeOfInfluences(), Identity())
    assert isinstance(result, Range)
    np.testing.assert_array_equal(result, (matrix.min(1), matrix.max(1)))


def test_the_bar_reaches_the_number_of_chunks(capsys):
    lazy_blocks(np.ones((4, 6)), (1, 2, 1), (3, 3), progress=True).reduce(Max(), Identity())
    assert "6/6" in capsys.readouterr().err


def test_columns_are_taken_from_their_own_computation():
    def unread():
        raise AssertionError("rows are not asked for")

    lazy = NestedLazyChunkSequence(unread, by_column=lambda: iter([iter([[np.ones((1, 2))]])]))
    assert lazy.reduce(Sum(), Identity()).tolist() == [2.0]
