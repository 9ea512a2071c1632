"""Dask arrays whose blocks are computed from chunks of batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from uuid import uuid4

import numpy as np

from upweight.protocols import NumpyConverter
from upweight.trees import Batch, Tree, leaves, map_leaves, rebuild

if TYPE_CHECKING:
    import dask.array as da
    from numpy.typing import NDArray

A = TypeVar("A")

DaskTree: TypeAlias = "Tree[da.Array]"


def blocks(
    model: Any,
    function: Callable[..., NDArray[Any]],
    name: str,
    output_axes: tuple[int, ...],
    first: list[Any],
    batch: tuple[DaskTree, DaskTree],
    *,
    new_axes: dict[int, int],
    dtype: np.dtype[Any],
) -> da.Array:
    """Call `function(model, index, *first, *arrays of the batch)` for each block of the result.

    Nothing is chunked along the axes that are gathered.

    The index is that of the chunk of samples, as a tuple of one number. Axes are numbered: 0 the samples of the batch, negative the others of inputs and result;
    positive ones are gathered whole.
    """
    import dask.array as da
    from dask.layers import ArrayBlockIdDep

    whole = iter(range(2, 1000))
    arrays = [leaf for tree in batch for leaf in leaves(tree)]
    index: Any = ArrayBlockIdDep((arrays[0].chunks[0],))
    arguments: list[Any] = [model, None, index, (0,), *first]
    for leaf in arrays:
        arguments += [leaf, (0, *(next(whole) for _ in leaf.shape[1:]))]

    def with_blocks(model: Any, index: tuple[int], *nested: Any) -> NDArray[Any]:
        return function(model, index, *map(_only_block, nested))

    made: da.Array = da.blockwise(
        with_blocks,
        output_axes,
        *arguments,
        new_axes=new_axes,
        concatenate=False,  # it would copy even a single block
        align_arrays=False,  # they are aligned, which was checked; Dask would warn of many blocks
        dtype=dtype,
        meta=np.empty((0,) * len(output_axes), dtype=dtype),
        # A random name: hashing the model and its data would cost more than it can save.
        token=f"{name}-{uuid4().hex}",
    )
    return made


def _only_block(nested: Any) -> Any:
    while isinstance(nested, list):
        (nested,) = nested
    return nested


def batch_builder(
    converter: NumpyConverter[A], x: DaskTree, y: DaskTree
) -> Callable[[tuple[NDArray[Any], ...]], Batch[A]]:
    """Return what makes a batch of one chunk of each array, in order.

    It travels with every task, so it holds how `x` and `y` are nested and not the arrays
    themselves, whose graphs hold all of the data.
    """
    nested_x, nested_y = (map_leaves(lambda _: None, tree) for tree in (x, y))
    split = len(leaves(x))

    def build(arrays: tuple[NDArray[Any], ...]) -> Batch[A]:
        converted = tuple(converter.from_numpy(array) for array in arrays)
        return rebuild(nested_x, converted[:split]), rebuild(nested_y, converted[split:])

    return build
