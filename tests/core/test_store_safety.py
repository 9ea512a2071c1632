"""What is there already is safe, and what is incomplete cannot be taken for complete."""

import numpy as np
import pytest
import zarr
from zarr.storage import MemoryStore

from upweight import LazyChunkSequence, NestedLazyChunkSequence


class InterruptedWorkError(Exception):
    """Something went wrong half way."""


def ones(rows=2):
    return LazyChunkSequence(lambda: iter([np.ones((rows, 3))]))


def interrupted_sequence():
    yield np.ones((2, 3))
    yield np.ones((2, 3))
    raise InterruptedWorkError


def interrupted_group(dtype="float64"):
    yield [np.ones((2, 3), dtype), np.ones((2, 3), dtype)]
    raise InterruptedWorkError


INTERRUPTED = {
    "sequence": LazyChunkSequence(interrupted_sequence),
    "nested": NestedLazyChunkSequence(lambda: iter([interrupted_group()])),
}


@pytest.fixture(params=INTERRUPTED.values(), ids=INTERRUPTED)
def interrupted(request):
    return request.param


def test_an_interrupted_array_says_that_it_is_not_complete(target, converter, interrupted):
    with pytest.raises(InterruptedWorkError):
        interrupted.to_zarr(target, converter)
    assert zarr.open_array(target, mode="r").attrs["upweight"]["complete"] is False


def test_an_interrupted_array_keeps_what_was_written(converter, interrupted):
    store = MemoryStore()
    with pytest.raises(InterruptedWorkError):
        interrupted.to_zarr(store, converter)
    assert np.all(zarr.open_array(store, mode="r")[:4, :3] == 1)


def test_what_was_not_written_reads_as_nan(converter):
    store = MemoryStore()

    def group(first):
        yield [np.ones((2, 3))]
        if not first:
            raise InterruptedWorkError
        yield [np.ones((2, 3))]

    with pytest.raises(InterruptedWorkError):
        NestedLazyChunkSequence(lambda: map(group, (True, False))).to_zarr(store, converter)
    values = zarr.open_array(store, mode="r")[...]
    assert np.all(np.isnan(values[2:4, 3:6]))


def test_an_array_is_not_complete_while_it_is_being_written(converter):
    store, seen = MemoryStore(), []

    def factory():
        yield np.ones((2, 3))
        seen.append(zarr.open_array(store, mode="r").attrs["upweight"]["complete"])

    LazyChunkSequence(factory).to_zarr(store, converter)
    assert seen == [False]


def test_an_interrupted_array_can_be_written_again_on_request(target, converter, interrupted):
    with pytest.raises(InterruptedWorkError):
        interrupted.to_zarr(target, converter)
    stored = ones().to_zarr(target, converter, overwrite=True, return_stored=True)
    assert stored.attrs["upweight"]["complete"] is True


def test_an_array_that_is_there_is_not_overwritten(target, converter):
    ones(rows=5).to_zarr(target, converter)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        ones().to_zarr(target, converter)
    assert zarr.open_array(target, mode="r").shape == (5, 3)


def test_an_array_that_is_there_is_overwritten_on_request(target, converter):
    ones(rows=5).to_zarr(target, converter)
    stored = ones().to_zarr(target, converter, overwrite=True, return_stored=True)
    assert stored.shape == (2, 3)


def test_nothing_of_the_array_that_was_overwritten_is_left(tmp_path, converter):
    many = LazyChunkSequence(lambda: iter([np.ones((1, 3))] * 9))
    many.to_zarr(tmp_path / "a.zarr", converter)
    ones().to_zarr(tmp_path / "a.zarr", converter, overwrite=True)
    written = {path.name for path in (tmp_path / "a.zarr" / "c").iterdir()}
    assert written == {"0"}


def test_overwriting_where_there_is_nothing_is_writing(target, converter):
    stored = ones().to_zarr(target, converter, overwrite=True, return_stored=True)
    assert stored.shape == (2, 3)


def test_the_array_that_is_there_is_safe_until_there_is_something_to_replace_it(target, converter):
    ones(rows=5).to_zarr(target, converter)

    def fails():
        raise InterruptedWorkError
        yield

    with pytest.raises(InterruptedWorkError):
        LazyChunkSequence(fails).to_zarr(target, converter, overwrite=True)
    assert zarr.open_array(target, mode="r").attrs["upweight"]["complete"] is True


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_group_is_never_replaced(tmp_path, converter, overwrite):
    group = zarr.open_group(tmp_path, mode="w")
    group.create_array("precious", shape=(1,), dtype="float64")
    with pytest.raises(FileExistsError, match="Zarr group"):
        ones().to_zarr(tmp_path, converter, overwrite=overwrite)
    assert "precious" in zarr.open_group(tmp_path, mode="r")


def test_an_array_goes_beside_others_in_a_group(tmp_path, converter):
    zarr.open_group(tmp_path, mode="w").create_array("first", shape=(1,), dtype="float64")
    ones().to_zarr(tmp_path / "second", converter)
    assert set(zarr.open_group(tmp_path, mode="r")) == {"first", "second"}


def test_a_place_that_is_taken_is_refused_before_anything_is_computed(target, converter):
    ones().to_zarr(target, converter)

    def untouchable():
        raise AssertionError("A chunk was computed.")
        yield

    with pytest.raises(FileExistsError):
        LazyChunkSequence(untouchable).to_zarr(target, converter)


@pytest.mark.parametrize("kind", [LazyChunkSequence, NestedLazyChunkSequence])
def test_a_sequence_without_chunks_is_refused(converter, kind):
    with pytest.raises(ValueError, match="nothing to write"):
        kind(lambda: iter(())).to_zarr(MemoryStore(), converter)


@pytest.mark.parametrize("place", [3, None, [1]])
def test_what_is_no_place_is_refused(tmp_path, monkeypatch, converter, place):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TypeError):
        ones().to_zarr(place, converter)
    assert list(tmp_path.iterdir()) == []


def test_any_object_with_a_path_is_a_place(tmp_path, monkeypatch, converter):
    monkeypatch.chdir(tmp_path)

    class Place:
        def __fspath__(self):
            return str(tmp_path / "a.zarr")

    ones().to_zarr(Place(), converter)
    assert zarr.open_array(tmp_path / "a.zarr", mode="r").shape == (2, 3)
