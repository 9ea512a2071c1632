"""Reductions of influences: what is kept of many samples, in memory that does not grow with them.

Each reduces the second axis of blocks (k, n, *x), those of training samples unless it is asked to go
over the test samples. Ties go to the lower index, whatever the blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Ranked(NamedTuple):
    """Influences and the samples that they belong to.

    Attributes:
        values: The influences, the most extreme one first along the second axis.
        indices: The index of the sample of each, counted over all of them.
    """

    values: NDArray[Any]
    indices: NDArray[np.int64]


class Total(NamedTuple):
    """The sum over n samples."""

    sum: NDArray[Any]
    n: int


class _Ranking:
    """Keep the first few in the order of influences. States have the samples as their last axis."""

    largest: ClassVar[bool]

    @property
    def _length(self) -> int:
        return 1

    def of(self, block: NDArray[Any], first: int) -> Ranked:
        """Return the first few of a block (k, n, *x), sorted."""
        values = np.moveaxis(block, 1, -1)
        indices = np.arange(first, first + values.shape[-1], dtype=np.int64)
        return self._sorted(values, np.broadcast_to(indices, values.shape))

    def merge(self, left: Ranked, right: Ranked) -> Ranked:
        """Return the first few of both, sorted."""
        values, indices = (np.concatenate(pair, axis=-1) for pair in zip(left, right, strict=True))
        return self._sorted(values, indices)

    def result(self, state: Ranked) -> Ranked:
        """Return values and indices without an axis of samples, (k, *x)."""
        return Ranked(state.values[..., 0], state.indices[..., 0])

    def _sorted(self, values: NDArray[Any], indices: NDArray[np.int64]) -> Ranked:
        if values.shape[-1] > self._length:
            values, indices = self._selected(values, indices)
        if self.largest:  # a stable sort backwards, read backwards, has the first of equals first
            order = values.shape[-1] - 1 - np.argsort(values[..., ::-1], axis=-1, kind="stable")
            order = order[..., ::-1]
        else:
            order = np.argsort(values, axis=-1, kind="stable")
        return Ranked(*(np.take_along_axis(array, order, axis=-1) for array in (values, indices)))

    def _selected(self, values: NDArray[Any], indices: NDArray[np.int64]) -> Ranked:
        """Return the first few in the order in which they came, without sorting the others."""
        last = values.shape[-1] - self._length if self.largest else self._length - 1
        limit = np.partition(values, last, axis=-1)[..., last : last + 1]
        chosen = values > limit if self.largest else values < limit
        missing = self._length - np.count_nonzero(chosen, axis=-1, keepdims=True)
        equal = values == limit
        if np.any(np.count_nonzero(equal, axis=-1, keepdims=True) > missing):
            equal &= np.cumsum(equal, axis=-1) <= missing
        chosen |= equal
        shape = (*values.shape[:-1], self._length)
        return Ranked(values[chosen].reshape(shape), indices[chosen].reshape(shape))


@dataclass(frozen=True)
class _Several(_Ranking):
    k: int

    def __post_init__(self) -> None:
        k: object = self.k  # what arrived may be anything
        if not isinstance(k, Integral):
            raise TypeError(f"`k` must be an integer; got {k!r}.")
        if k < 1:
            raise ValueError(f"`k` must be at least 1; got {k}.")

    @property
    def _length(self) -> int:
        return self.k

    def result(self, state: Ranked) -> Ranked:
        """Return values and indices, (rows, k, *x), or all if there are fewer samples than k."""
        return Ranked(*(np.moveaxis(array, -1, 1) for array in state))


@dataclass(frozen=True)
class TopK(_Several):
    """The k largest influences and their samples, the largest first.

    Args:
        k: How many to keep; all, if there are fewer.

    Raises:
        ValueError: `k` is not positive.
        TypeError: `k` is not an integer.
    """

    largest = True


@dataclass(frozen=True)
class BottomK(_Several):
    """The k smallest influences and their samples, the smallest first.

    Args:
        k: How many to keep; all, if there are fewer.

    Raises:
        ValueError: `k` is not positive.
        TypeError: `k` is not an integer.
    """

    largest = False


@dataclass(frozen=True)
class ArgMax(_Ranking):
    """The largest influence and its sample."""

    largest = True


@dataclass(frozen=True)
class ArgMin(_Ranking):
    """The smallest influence and its sample."""

    largest = False


@dataclass(frozen=True)
class Max:
    """The largest influence."""

    def of(self, block: NDArray[Any], first: int) -> NDArray[Any]:  # noqa: ARG002  # no index needed
        """Return the largest of a block (k, n, *x), (k, *x)."""
        return np.asarray(np.max(block, axis=1))

    def merge(self, left: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
        """Return the larger of both."""
        return np.asarray(np.maximum(left, right))

    def result(self, state: NDArray[Any]) -> NDArray[Any]:
        """Return the largest, (k, *x)."""
        return state


@dataclass(frozen=True)
class Min:
    """The smallest influence."""

    def of(self, block: NDArray[Any], first: int) -> NDArray[Any]:  # noqa: ARG002  # no index needed
        """Return the smallest of a block (k, n, *x), (k, *x)."""
        return np.asarray(np.min(block, axis=1))

    def merge(self, left: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
        """Return the smaller of both."""
        return np.asarray(np.minimum(left, right))

    def result(self, state: NDArray[Any]) -> NDArray[Any]:
        """Return the smallest, (k, *x)."""
        return state


@dataclass(frozen=True)
class Sum:
    """The sum of influences, accumulated and returned in float64."""

    def of(self, block: NDArray[Any], first: int) -> NDArray[Any]:  # noqa: ARG002  # no index needed
        """Return the sum of a block (k, n, *x), (k, *x)."""
        return np.asarray(np.sum(block, axis=1, dtype=np.float64))

    def merge(self, left: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
        """Return the sum of both."""
        return np.asarray(left + right)

    def result(self, state: NDArray[Any]) -> NDArray[Any]:
        """Return the sum, (k, *x)."""
        return state


@dataclass(frozen=True)
class Mean:
    """The mean of influences, accumulated and returned in float64."""

    def of(self, block: NDArray[Any], first: int) -> Total:
        """Return the sum of a block (k, n, *x) and n."""
        return Total(Sum().of(block, first), block.shape[1])

    def merge(self, left: Total, right: Total) -> Total:
        """Return the sum of both."""
        return Total(left.sum + right.sum, left.n + right.n)

    def result(self, state: Total) -> NDArray[Any]:
        """Return the mean, (k, *x)."""
        return np.asarray(state.sum / state.n)
