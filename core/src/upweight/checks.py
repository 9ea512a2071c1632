"""Checks of what users pass in, made once at the boundary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from upweight.errors import BatchError, DataError, NonFiniteError, UpweightError
from upweight.trees import Batch, Tree, leaves


def batch_size(*trees: Tree[Any]) -> int:
    """Return the number of samples n that all arrays of `trees` share.

    Raises:
        BatchError: an array has no axis, there is no sample, or the lengths differ.
    """
    arrays = [leaf for tree in trees for leaf in leaves(tree)]
    for leaf in arrays:
        if not hasattr(leaf, "shape"):
            raise BatchError(
                f"A batch is made of arrays; got an object of type {type(leaf).__name__!r}. "
                "Convert it, for example in the collate function of the loader."
            )
        if len(leaf.shape) == 0:
            raise BatchError(
                "Each array of a batch must have the samples as its first axis; got a scalar. "
                "A single sample is a batch of one: add the axis."
            )
    lengths = [int(leaf.shape[0]) for leaf in arrays]
    if len(set(lengths)) != 1:
        raise BatchError(
            "All arrays of a batch must have the same number of samples on their first axis; "
            f"got lengths {lengths}."
        )
    if lengths[0] == 0:
        raise BatchError("A batch must hold at least one sample; got an empty one.")
    return lengths[0]


def as_batch(item: Any) -> Batch[Any]:
    """Check that an item of a data collection is a batch `(x, y)` and return it as a tuple.

    Raises:
        BatchError: the item is not a pair, or its arrays do not share their samples.
    """
    if not isinstance(item, tuple | list) or len(item) != 2:
        arrived = (
            f"{len(item)} items" if isinstance(item, tuple | list) else f"a {type(item).__name__!r}"
        )
        raise BatchError(
            f"Each batch must be a pair (x, y); got {arrived}. "
            "Several inputs go into x as a tuple or a mapping: ((x1, x2), y)."
        )
    x, y = item
    batch_size(x, y)
    return x, y


def check_reusable(data: Iterable[Any]) -> None:
    """Refuse what is not a collection of batches, or can be read only once.

    Raises:
        TypeError: `data` cannot be iterated.
        DataError: `data` is an iterator, such as a generator.
    """
    if not isinstance(data, Iterable):
        raise TypeError(
            f"Pass a collection of batches (x, y), such as a list or a data loader; "
            f"got {type(data).__name__!r}."
        )
    if isinstance(data, Iterator):
        raise DataError(
            f"The batches are read more than once, and a {type(data).__name__!r} can be read only "
            "once. Pass a list, a data loader, or an object whose __iter__ starts afresh."
        )


def check_finite(values: Any, *, what: str, axis: int = 0) -> None:
    """Refuse NaN and infinity, and say in which samples they are.

    Args:
        values: Numbers to check.
        what: What they are, for the message.
        axis: The axis of the samples.

    Raises:
        NonFiniteError: a number is NaN or infinite.
    """
    xp = array_namespace(values)
    with np.errstate(all="ignore"):  # what follows says it better
        if bool(xp.isfinite(xp.sum(values))):  # a single one of them would spread to the sum
            return
    bad = ~xp.isfinite(values)
    if not bool(xp.any(bad)):
        return
    other_axes = tuple(i for i in range(values.ndim) if i != axis)
    by_sample = xp.any(bad, axis=other_axes) if other_axes else bad
    found = xp.nonzero(by_sample)[0]
    samples = tuple(int(found[i]) for i in range(found.shape[0]))
    error = NonFiniteError(
        f"The {what} is NaN or infinite, first at samples {[*samples[:10]]} of the batch. "
        "Look there for NaN in the data, or for a loss that is not finite."
    )
    error.samples = samples
    raise error


@contextmanager
def located(place: str) -> Iterator[None]:
    """Add to any error of ours raised in this block where in the data it arose."""
    try:
        yield
    except UpweightError as error:
        error.add_note(f"This arose at {place}.")
        raise
