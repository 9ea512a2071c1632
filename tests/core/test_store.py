"""Chunks are written to their places in one Zarr array, wherever it is and however they fall."""

from itertools import accumulate, pairwise

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import MemoryStore

from upweight import LazyChunkSequence, NestedLazyChunkSequence

SIZES = st.lists(st.integers(1, 5), min_size=1, max_size=6)


class Numpy:
    def to_numpy(self, x):
        return np.asarray(x)


def numbered(*shape, dtype="float64"):
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


def cuts(sizes):
    return [slice(start, stop) for start, stop in pairwise(accumulate(sizes, initial=0))]


def in_rows(values, sizes):
    return LazyChunkSequence(lambda: iter([values[rows] for rows in cuts(sizes)]))


def in_blocks(values, rows, columns, *, groups=None):
    """Return a sequence of blocks, `groups` rows of blocks at a time."""

    def factory():
        row_slices = cuts(rows)
        for group in cuts(groups or [len(rows)]):
            yield ([values[r, c] for r in row_slices[group]] for c in cuts(columns))

    return NestedLazyChunkSequence(factory)


def test_a_sequence_is_joined_along_its_first_axis(target, converter):
    values = numbered(7, 3)
    in_rows(values, [3, 3, 1]).to_zarr(target, converter)
    assert np.array_equal(zarr.open_array(target, mode="r")[...], values)


def test_nested_chunks_are_joined_along_both_axes(target, converter):
    values = numbered(7, 10)
    in_blocks(values, [3, 3, 1], [4, 4, 2]).to_zarr(target, converter)
    assert np.array_equal(zarr.open_array(target, mode="r")[...], values)


def test_what_was_stored_is_returned_on_request(target, converter):
    values = numbered(7, 10)
    stored = in_blocks(values, [3, 4], [10]).to_zarr(target, converter, return_stored=True)
    assert np.array_equal(stored[...], values)


def test_nothing_is_returned_unless_it_is_asked_for(target, converter):
    assert in_rows(numbered(4, 2), [2, 2]).to_zarr(target, converter) is None


def test_the_array_that_is_returned_cannot_be_written_to(target, converter):
    stored = in_rows(numbered(4, 2), [2, 2]).to_zarr(target, converter, return_stored=True)
    with pytest.raises(ValueError, match="read-only"):
        stored[0, 0] = 1


def test_a_complete_array_says_so(target, converter):
    in_rows(numbered(7, 3), [3, 3, 1]).to_zarr(target, converter)
    assert zarr.open_array(target, mode="r").attrs["upweight"]["complete"] is True


@settings(deadline=None, derandomize=True, database=None, max_examples=30)
@given(sizes=SIZES)
def test_rows_of_any_sizes_are_written_to_their_places(sizes):
    values = numbered(sum(sizes), 3)
    stored = in_rows(values, sizes).to_zarr(MemoryStore(), Numpy(), return_stored=True)
    assert np.array_equal(stored[...], values)


@settings(deadline=None, derandomize=True, database=None, max_examples=30)
@given(rows=SIZES, columns=SIZES, data=st.data())
def test_blocks_of_any_sizes_and_groups_are_written_to_their_places(rows, columns, data):
    first = data.draw(st.integers(1, len(rows)))
    groups = [first, len(rows) - first] if first < len(rows) else [first]
    values = numbered(sum(rows), sum(columns))
    blocks = in_blocks(values, rows, columns, groups=groups)
    assert np.array_equal(blocks.to_zarr(MemoryStore(), Numpy(), return_stored=True)[...], values)


@pytest.mark.parametrize("rest", [(), (5,), (2, 4, 3)])
def test_axes_after_the_samples_are_kept_whole(converter, rest):
    values = numbered(3, 7, *rest)
    blocks = in_blocks(values, [2, 1], [3, 3, 1])
    stored = blocks.to_zarr(MemoryStore(), converter, return_stored=True)
    assert np.array_equal(stored[...], values)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64"])
def test_the_type_is_that_of_the_chunks(converter, dtype):
    values = numbered(4, 2, dtype=dtype)
    stored = in_rows(values, [2, 2]).to_zarr(MemoryStore(), converter, return_stored=True)
    assert stored.dtype == dtype


def test_the_chunks_of_the_array_are_those_of_the_first_block(converter):
    blocks = in_blocks(numbered(7, 10), [3, 3, 1], [4, 4, 2])
    assert blocks.to_zarr(MemoryStore(), converter, return_stored=True).chunks == (7, 4)


def test_an_array_that_is_cut_keeps_nothing_beyond_its_end(converter):
    store = MemoryStore()
    in_blocks(numbered(9, 9), [1] * 9, [1] * 9, groups=[1] * 9).to_zarr(store, converter)
    names = {key for key in store._store_dict if key.startswith("c/")}
    assert names == {f"c/{row}/{column}" for row in range(9) for column in range(9)}


def test_chunks_go_through_the_converter():
    class Doubling:
        def to_numpy(self, x):
            return 2 * np.asarray(x)

    stored = in_rows(numbered(4, 2), [4]).to_zarr(MemoryStore(), Doubling(), return_stored=True)
    assert np.array_equal(stored[...], 2 * numbered(4, 2))


def test_a_chunk_is_written_before_the_next_is_computed(converter):
    store, seen = MemoryStore(), []

    def factory():
        yield np.ones((2, 3))
        seen.append(zarr.open_array(store, mode="r")[:2].tolist())
        yield np.zeros((2, 3))

    LazyChunkSequence(factory).to_zarr(store, converter)
    assert seen == [np.ones((2, 3)).tolist()]


def test_writing_shows_a_bar_with_the_label_of_the_sequence(capsys, converter):
    lazy = LazyChunkSequence(lambda: iter([np.ones((2, 3))]), length=1, label="Factors")
    lazy.to_zarr(MemoryStore(), converter)
    assert "Factors: 100%" in capsys.readouterr().err
