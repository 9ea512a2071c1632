"""Torch datasets as Dask arrays."""

from __future__ import annotations

from collections.abc import Mapping
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
            computing: an item has another structure, shape or kind of number than the first.
    """
    import dask.array as da
    from dask.delayed import delayed

    n = _checked_size(dataset, chunk_size, total_size)
    first = _entries(dataset[0])
    by_place = _flat(first)
    delayed_dataset = delayed(dataset, name=f"dataset-{id(dataset):x}", pure=False)

    def read(dataset: Any, start: int, stop: int) -> list[NDArray[Any]]:
        items = [_flat(_entries(dataset[index])) for index in range(start, stop)]
        for index, item in enumerate(items, start):
            _check_alike(item, by_place, index, types=resulting_dtype is None)
        return [
            np.stack([item[place] for item in items]).astype(
                resulting_dtype or like.dtype, copy=False
            )
            for place, like in by_place.items()
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
        for position, like in enumerate(by_place.values())
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


def _flat(entries: tuple[Tree[NDArray[Any]], ...]) -> dict[str, NDArray[Any]]:
    """Return the arrays of an item by where in the item they are."""
    found = {}
    for index, entry in enumerate(entries):
        keys = list(entry) if isinstance(entry, Mapping) else range(len(leaves(entry)))
        nested = isinstance(entry, Mapping | tuple | list)
        for key, leaf in zip(keys, leaves(entry), strict=True):
            found[f"[{index}][{key!r}]" if nested else f"[{index}]"] = leaf
    return found


def _check_alike(
    item: dict[str, NDArray[Any]], first: dict[str, NDArray[Any]], index: int, *, types: bool
) -> None:
    if item.keys() != first.keys():
        raise DataError(
            f"Item {index} of the dataset has the arrays {sorted(item)}, and item 0 "
            f"{sorted(first)}. Give every item the same structure."
        )
    for place, like in first.items():
        value = item[place]
        if value.shape != like.shape:
            raise DataError(
                f"Item {index} of the dataset has an array of shape {value.shape}, and "
                f"item 0 one of {like.shape}. Pad the items to one shape."
            )
        if types and not np.can_cast(value.dtype, like.dtype, "same_kind"):
            raise DataError(
                f"Item {index} of the dataset has an array of type {value.dtype}, and item 0 one "
                f"of {like.dtype}. Convert the items to one type, or pass `resulting_dtype`."
            )
