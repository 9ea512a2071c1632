"""Torch datasets as Dask arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from upweight.errors import DataError
from upweight.trees import Tree, leaves, map_leaves

if TYPE_CHECKING:
    import dask.array as da
    from numpy.typing import DTypeLike, NDArray


def torch_dataset_to_dask_array(
    dataset: torch.utils.data.Dataset[Any],
    chunk_size: int,
    total_size: int | None = None,
    resulting_dtype: DTypeLike | None = None,
) -> tuple[Tree[da.Array], ...]:
    """Return the items of a dataset as Dask arrays, read chunk by chunk when they are computed.

    Args:
        dataset: A dataset with `__getitem__`. Each item is a tuple of entries, an entry an array,
            a number, or a tuple or mapping of these, of the same shape in every item.
        chunk_size: Samples in a chunk; the last one may have fewer.
        total_size: Number of samples to take, from the first on; by default all.
        resulting_dtype: Type to convert every array to; by default the types of the items.

    Returns:
        One Dask array (n, ...) for each entry, or a tuple or mapping of them: `(x, y)` for a
        dataset of pairs.

    Raises:
        ValueError: `chunk_size` is not positive, or `total_size` is not between 1 and the length
            of the dataset.
        DataError: the dataset has no length and no `total_size` is given, or is empty; on
            computing: an item has another shape than the first.
    """
    import dask.array as da
    from dask.delayed import delayed

    n = _checked_size(dataset, chunk_size, total_size)
    first = _entries(dataset[0])
    delayed_dataset = delayed(dataset, name=f"dataset-{id(dataset):x}", pure=False)

    def read(dataset: Any, start: int, stop: int) -> list[NDArray[Any]]:
        items = [_flat(_entries(dataset[index])) for index in range(start, stop)]
        return [
            _stacked(column, like, start).astype(resulting_dtype or like.dtype, copy=False)
            for column, like in zip(zip(*items, strict=True), _flat(first), strict=True)
        ]

    starts = range(0, n, chunk_size)
    read_later = delayed(read, pure=False, traverse=False)
    chunks = [read_later(delayed_dataset, start, min(start + chunk_size, n)) for start in starts]
    arrays = [
        da.concatenate(
            [
                da.from_delayed(
                    chunk[position],
                    shape=(min(start + chunk_size, n) - start, *like.shape),
                    dtype=resulting_dtype or like.dtype,
                )
                for start, chunk in zip(starts, chunks, strict=True)
            ]
        )
        for position, like in enumerate(_flat(first))
    ]
    remaining = iter(arrays)
    return tuple(map_leaves(lambda _: next(remaining), entry) for entry in first)


def _checked_size(dataset: Any, chunk_size: int, total_size: int | None) -> int:
    if chunk_size < 1:
        raise ValueError(f"`chunk_size` must be at least 1; got {chunk_size}.")
    length = len(dataset) if hasattr(dataset, "__len__") else None
    if length is None and total_size is None:
        raise DataError("The dataset has no length; pass `total_size`.")
    if length == 0:
        raise DataError("The dataset is empty.")
    n = total_size if total_size is not None else length
    if n is None or n < 1 or (length is not None and n > length):
        raise ValueError(
            f"`total_size` must be between 1 and the length of the dataset, {length}; got {n}."
        )
    return n


def _entries(item: Any) -> tuple[Tree[NDArray[Any]], ...]:
    """Return the entries of an item, its numbers and tensors as NumPy arrays."""
    entries = item if isinstance(item, tuple | list) else (item,)
    return tuple(map_leaves(_to_numpy, entry) for entry in entries)


def _to_numpy(value: Any) -> NDArray[Any]:
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def _flat(entries: tuple[Tree[NDArray[Any]], ...]) -> list[NDArray[Any]]:
    return [leaf for entry in entries for leaf in leaves(entry)]


def _stacked(column: tuple[NDArray[Any], ...], like: NDArray[Any], start: int) -> NDArray[Any]:
    for offset, value in enumerate(column):
        if value.shape != like.shape:
            raise DataError(
                f"Item {start + offset} of the dataset has an array of shape {value.shape}, and "
                f"item 0 one of {like.shape}. Pad the items to one shape."
            )
    return np.stack(column)
