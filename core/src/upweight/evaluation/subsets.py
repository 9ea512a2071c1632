"""Which training samples a model is trained on again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def random_subsets(
    n: int, *, count: int = 100, fraction: float = 0.5, seed: int = 0
) -> NDArray[np.int64]:
    """Draw subsets of n samples, each without replacement and independently of the others.

    Args:
        n: Number of training samples.
        count: Number of subsets.
        fraction: Share of the samples in each, between 0 and 1; rounded to whole samples.
        seed: Of the random numbers; the same seed gives the same subsets.

    Returns:
        Indices, each row in rising order, (count, round(fraction * n)).

    Raises:
        ValueError: there would be no subset, or one with none or all of the samples.
    """
    if count < 1:
        raise ValueError(f"`count` must be at least 1; got {count}.")
    size = round(fraction * n)
    if not 0 < size < n:
        raise ValueError(
            f"A subset must leave some of the {n} samples out and keep some; fraction={fraction} "
            f"makes {size}."
        )
    generator = np.random.default_rng(seed)
    rows = [np.sort(generator.choice(n, size, replace=False)) for _ in range(count)]
    return np.stack(rows).astype(np.int64)


def leave_one_out_subsets(n: int, samples: Iterable[int] | None = None) -> NDArray[np.int64]:
    """Return, for each of the samples, all n but this one.

    Args:
        n: Number of training samples.
        samples: Which of them are left out, one at a time; all by default.

    Returns:
        Indices, each row in rising order, (number of `samples`, n - 1).

    Raises:
        ValueError: there are fewer than two samples.
        IndexError: a sample is not among the n.
    """
    if n < 2:
        raise ValueError(f"One of at least two samples is left out; got n = {n}.")
    left_out = np.arange(n) if samples is None else np.array(list(samples), dtype=np.int64)
    return np.stack([without(n, checked_indices([sample], n)) for sample in left_out])


def without(n: int, removed: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the indices of n samples but the removed, in rising order."""
    kept = np.ones(n, dtype=bool)
    kept[removed] = False
    return np.flatnonzero(kept)


def checked_indices(indices: Any, n: int | None = None) -> NDArray[np.int64]:
    """Return the indices of some samples as an array, each of them once.

    Raises:
        TypeError: they are no integers; a mask, for example.
        ValueError: there are none, or one is there twice.
        IndexError: one is negative, or not among the n samples.
    """
    array = np.asarray(indices)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise TypeError(
            "A subset is the indices of its samples, integers along one axis; got "
            f"{array.dtype} of shape {array.shape}. Turn a mask into indices by np.flatnonzero."
        )
    if array.size == 0 or np.unique(array).size != array.size:
        raise ValueError(f"A subset has each of its samples once; got {array.tolist()[:10]}.")
    if array.min() < 0 or (n is not None and array.max() >= n):
        last = "n - 1" if n is None else n - 1
        raise IndexError(f"Indices of samples are 0 to {last}; got {array.tolist()[:10]}.")
    return array.astype(np.int64)
