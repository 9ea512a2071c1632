"""Torch datasets as Dask arrays."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

from upweight.errors import DataError
from upweight_torch import torch_dataset_to_dask_array

X, Y = torch.arange(30.0).reshape(10, 3), torch.arange(10)


class Items(Dataset):
    """Items from a list, which counts how often each is read."""

    def __init__(self, items):
        self.items, self.reads = items, Counter()

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        self.reads[index] += 1
        return self.items[index]


class Endless(Dataset):
    """Items without end, and so without length."""

    def __getitem__(self, index):
        return torch.full((2,), float(index)), index


def computed(*arrays, scheduler="synchronous"):
    import dask

    return dask.compute(*arrays, scheduler=scheduler)


@pytest.mark.parametrize("chunk_size", [1, 3, 5, 10, 99])
def test_pairs_become_two_arrays(chunk_size):
    x, y = torch_dataset_to_dask_array(TensorDataset(X, Y), chunk_size)
    np.testing.assert_array_equal(computed(x)[0], X.numpy())
    np.testing.assert_array_equal(computed(y)[0], Y.numpy())


def test_chunks_are_along_the_samples_only():
    x, y = torch_dataset_to_dask_array(TensorDataset(X, Y), 4)
    assert (x.chunks, y.chunks) == (((4, 4, 2), (3,)), ((4, 4, 2),))


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_declared_types_and_shapes_are_those_computed(scheduler):
    arrays = torch_dataset_to_dask_array(TensorDataset(X, Y), 3)
    values = computed(*arrays, scheduler=scheduler)
    assert [(a.dtype, a.shape) for a in arrays] == [(v.dtype, v.shape) for v in values]


@pytest.mark.parametrize("kind", ["dict", "tuple"])
def test_nested_entries_keep_their_structure(kind):
    items = [
        ({"a": x, "b": 2 * x} if kind == "dict" else (x, 2 * x), int(y))
        for x, y in zip(X, Y, strict=True)
    ]
    entry, _ = torch_dataset_to_dask_array(Items(items), 4)
    first, second = entry.values() if kind == "dict" else entry
    np.testing.assert_array_equal(computed(second)[0], 2 * computed(first)[0])


def test_entries_of_a_mapping_are_matched_by_name():
    items = [({"a": x, "b": -x} if i % 2 else {"b": -x, "a": x}, 0) for i, x in enumerate(X)]
    entry, _ = torch_dataset_to_dask_array(Items(items), 4)
    np.testing.assert_array_equal(computed(entry["a"])[0], X.numpy())


def test_single_entries_become_one_array():
    (x,) = torch_dataset_to_dask_array(Items(list(X)), 4)
    np.testing.assert_array_equal(computed(x)[0], X.numpy())


def test_a_plain_list_is_a_dataset():
    x, _ = torch_dataset_to_dask_array(list(zip(X, Y, strict=True)), 4)
    np.testing.assert_array_equal(computed(x)[0], X.numpy())


@pytest.mark.parametrize("total_size", [1, 4, 10])
def test_total_size_takes_the_first(total_size):
    x, _ = torch_dataset_to_dask_array(TensorDataset(X, Y), 4, total_size=total_size)
    np.testing.assert_array_equal(computed(x)[0], X[:total_size].numpy())


def test_a_dataset_without_length_needs_a_total_size():
    with pytest.raises(DataError, match="pass `total_size`"):
        torch_dataset_to_dask_array(Endless(), 4)


def test_a_dataset_without_length_is_read_up_to_total_size():
    x, _ = torch_dataset_to_dask_array(Endless(), 4, total_size=6)
    np.testing.assert_array_equal(computed(x)[0][:, 0], np.arange(6))


@pytest.mark.parametrize("dtype", ["float64", np.float16, np.int32])
def test_resulting_dtype_is_that_of_every_array(dtype):
    arrays = torch_dataset_to_dask_array(TensorDataset(X, Y), 4, resulting_dtype=dtype)
    assert {a.dtype for a in arrays} | {v.dtype for v in computed(*arrays)} == {np.dtype(dtype)}


def test_building_reads_the_first_item_only():
    dataset = Items(list(zip(X, Y, strict=True)))
    torch_dataset_to_dask_array(dataset, 4)
    assert dataset.reads == {0: 1}


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_computing_all_arrays_reads_each_item_once(scheduler):
    dataset = Items(list(zip(X, Y, strict=True)))
    arrays = torch_dataset_to_dask_array(dataset, 4)
    dataset.reads.clear()
    computed(*arrays, scheduler=scheduler)
    assert dataset.reads == dict.fromkeys(range(10), 1)


def test_a_slice_reads_its_chunks_only():
    dataset = Items(list(zip(X, Y, strict=True)))
    x, _ = torch_dataset_to_dask_array(dataset, 4)
    dataset.reads.clear()
    computed(x[5:6])
    assert set(dataset.reads) == {4, 5, 6, 7}


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ((torch.zeros(4), 0), r"Item 7 .* shape \(4,\), and item 0 one of \(3,\)"),
        ((torch.zeros(3), 0, 0), "Item 7"),
        (({"a": torch.zeros(3)}, 0), "Item 7"),
        ((torch.zeros(3), 0.5), "Item 7"),
    ],
    ids=["ragged", "more entries", "another structure", "another type"],
)
def test_an_item_unlike_the_first_is_refused(item, message):
    items = [(x, int(y)) for x, y in zip(X, Y, strict=True)]
    items[7] = item
    arrays = torch_dataset_to_dask_array(Items(items), 4)
    with pytest.raises(DataError, match=message):
        computed(*arrays)


@pytest.mark.parametrize("chunk_size", [0, -1])
def test_a_chunk_size_that_is_not_positive_is_refused(chunk_size):
    with pytest.raises(ValueError, match=f"at least 1; got {chunk_size}"):
        torch_dataset_to_dask_array(TensorDataset(X, Y), chunk_size)


@pytest.mark.parametrize("total_size", [0, -3, 11])
def test_a_total_size_beyond_the_dataset_is_refused(total_size):
    with pytest.raises(ValueError, match=f"of the dataset, 10; got {total_size}"):
        torch_dataset_to_dask_array(TensorDataset(X, Y), 4, total_size=total_size)


def test_an_empty_dataset_is_refused():
    with pytest.raises(DataError, match="empty"):
        torch_dataset_to_dask_array(TensorDataset(X[:0], Y[:0]), 4)
