"""Matrix products and convolutions with a weight, as one linear map at many positions.

Which entry of a parameter stands where in an operand is followed as an array of indices, so that
it does not matter how the weight was transposed or reshaped on its way: sorting the indices shows
whether they are those of a matrix (o, i), or of its transpose.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import NDArray

Array = jax.Array
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Form:
    """How a product with a weight is a linear map of inputs (t, i) to outputs (t, o).

    Attributes:
        positions: From the other operand to the inputs, (t, i).
        spread: From outputs (t, o) to the shape of the result.
        n_outputs: o.
        transposed: Whether the weight is stored as (i, o).
        outputs: Which output each number of the result is.
    """

    positions: Callable[[Array], Array]
    spread: Callable[[Array], Array]
    n_outputs: int
    transposed: bool
    outputs: Indices


def form_of(equation: Any, place: int, index: Indices, size: int) -> Form | None:
    """Return the form of an equation, or None if it is no such map.

    Args:
        equation: The equation of a jaxpr.
        place: Which operand the weight is, 0 or 1.
        index: Which entry of the weight each number of that operand is.
        size: Number of entries of the weight.
    """
    if equation.primitive.name == "dot_general":
        return _of_dot(equation, place, index, size)
    if equation.primitive.name == "conv_general_dilated" and place == 1:
        return _of_convolution(equation, index, size)
    return None


def _of_dot(equation: Any, place: int, index: Indices, size: int) -> Form | None:
    contracted, batched = equation.params["dimension_numbers"]
    if batched[0]:
        return None  # as many weights as there are batches, each with inputs of its own
    summed, summed_of_other = contracted[place], contracted[1 - place]
    kept = _others(index.ndim, summed)
    matrix = index.transpose([*kept, *summed]).reshape(-1, _product(index.shape, summed))
    order = _order(matrix, size)
    if order is None:
        return None
    other = equation.invars[1 - place].aval
    free = _others(other.ndim, summed_of_other)
    free_shape = tuple(other.shape[axis] for axis in free)
    kept_shape = tuple(index.shape[axis] for axis in kept)

    def positions(value: Array) -> Array:
        moved = value.transpose([*free, *summed_of_other])
        return _taken(moved.reshape(-1, matrix.shape[1]), order.inputs)

    def placed(array: Any) -> Any:
        if place == 1:
            return array
        axes = np.arange(array.ndim)
        return array.transpose([*axes[len(free) :], *axes[: len(free)]])

    def spread(outputs: Array) -> Array:
        shaped: Array = placed(_taken(outputs, order.ranks).reshape(free_shape + kept_shape))
        return shaped

    ranks = np.broadcast_to(order.ranks.reshape(kept_shape), free_shape + kept_shape)
    return Form(positions, spread, len(matrix), order.transposed, placed(ranks))


def _of_convolution(equation: Any, index: Indices, size: int) -> Form | None:
    params = equation.params
    if params["feature_group_count"] != 1 or params["batch_group_count"] != 1:
        return None
    axes = params["dimension_numbers"]
    kernel = index.transpose(axes.rhs_spec)  # (o, channels, *window)
    matrix = kernel.reshape(len(kernel), -1)
    order = _order(matrix, size)
    if order is None:
        return None
    shape = tuple(equation.outvars[0].aval.shape[axis] for axis in axes.out_spec)
    back = np.argsort(axes.out_spec)

    def positions(value: Array) -> Array:
        patches = lax.conv_general_dilated_patches(
            value.transpose(axes.lhs_spec),
            filter_shape=kernel.shape[2:],
            window_strides=params["window_strides"],
            padding=params["padding"],
            lhs_dilation=params["lhs_dilation"],
            rhs_dilation=params["rhs_dilation"],
            precision=lax.Precision.HIGHEST,  # accelerators would round the entries
        )
        rows = jnp.moveaxis(patches, 1, -1).reshape(-1, matrix.shape[1])
        return _taken(rows, order.inputs)

    def spread(outputs: Array) -> Array:
        channels_last = _taken(outputs, order.ranks).reshape(shape[0], *shape[2:], shape[1])
        return jnp.moveaxis(channels_last, -1, 1).transpose(back)

    column = order.ranks.reshape(-1, *[1] * (len(shape) - 2))
    ranks = np.broadcast_to(column, shape).transpose(back)
    return Form(positions, spread, len(matrix), order.transposed, ranks)


@dataclass(frozen=True)
class _Order:
    """How rows and columns of a matrix of indices are sorted, and whether it is a transpose."""

    inputs: Indices
    ranks: Indices
    transposed: bool


def _order(matrix: Indices, size: int) -> _Order | None:
    """Return how to sort a matrix (o, i) so that its entries are in the order of the parameter."""
    if matrix.size != size:
        return None
    outputs, inputs = np.argsort(matrix[:, 0]), np.argsort(matrix[0, :])
    found = matrix[np.ix_(outputs, inputs)]
    entries = np.arange(size)
    for transposed in (False, True):
        straight = entries.reshape(found.shape[::-1]).T if transposed else None
        if np.array_equal(found, entries.reshape(found.shape) if straight is None else straight):
            return _Order(inputs, np.argsort(outputs), transposed)
    return None


def _taken(rows: Array, columns: Indices) -> Array:
    in_order = np.array_equal(columns, np.arange(len(columns)))
    return rows if in_order else rows[:, columns]


def _others(ndim: int, axes: Sequence[int]) -> list[int]:
    return [axis for axis in range(ndim) if axis not in axes]


def _product(shape: Sequence[int], axes: Sequence[int]) -> int:
    return math.prod(shape[axis] for axis in axes)


def _broadcast(index: Indices, params: Mapping[str, Any]) -> Indices:
    shape, places = params["shape"], params["broadcast_dimensions"]
    own = dict(zip(map(int, places), index.shape, strict=True))
    return np.broadcast_to(
        index.reshape([own.get(axis, 1) for axis in range(len(shape))]), tuple(shape)
    )


#: What operations that only move or repeat entries do to their indices.
MOVES: Mapping[str, Callable[[Indices, Mapping[str, Any]], Indices]] = {
    "broadcast_in_dim": _broadcast,
    "convert_element_type": lambda index, _: index,
    "copy": lambda index, _: index,
    "expand_dims": lambda index, params: np.expand_dims(index, params["dimensions"]),
    "reshape": lambda index, params: index.reshape(params["new_sizes"]),
    "squeeze": lambda index, params: index.squeeze(tuple(params["dimensions"])),
    "transpose": lambda index, params: index.transpose(params["permutation"]),
}
