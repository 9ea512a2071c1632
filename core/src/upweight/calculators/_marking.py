"""Samples whose numbers are NaN or infinite: left out, with NaN in their place."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from array_api_compat import array_namespace, device

from upweight.checks import batch_size
from upweight.errors import NonFiniteError, NonFiniteWarning
from upweight.influence import InfluenceMode
from upweight.trees import Batch, leaves, map_leaves, perturbed_leaf

if TYPE_CHECKING:
    import numpy as np

#: What becomes of samples whose numbers are NaN or infinite: an error, or results that are NaN.
NanPolicy: TypeAlias = Literal["raise", "propagate"]


def checked_policy(policy: NanPolicy) -> NanPolicy:
    """Return the policy.

    Raises:
        ValueError: it is something else.
    """
    if policy not in get_args(NanPolicy):
        raise ValueError(f"`nan_policy` must be 'raise' or 'propagate'; got {policy!r}.")
    return policy


def marked_samples(
    compute: Callable[[Any, Any], Any],
    x: Any,
    y: Any,
    *,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    axis: int = 0,
) -> Any:
    """Return `compute(x, y)`, with NaN for the samples that it refuses.

    Args:
        compute: Gives numbers for each sample, or an error that names samples.
        x: Inputs of n samples.
        y: Labels of the samples.
        shape: Of the result, without the axis of the samples.
        dtype: Of the result.
        axis: Where the axis of the samples is.
    """
    n = batch_size(x, y)
    good = list(range(n))
    values: Any = None
    while good and values is None:
        try:
            values = compute(*((x, y) if len(good) == n else _taken((x, y), good)))
        except NonFiniteError as error:
            bad = {*error.samples} & {*range(len(good))}
            if not bad:  # it is not about samples
                raise
            names = [good[i] for i in sorted(bad)]
            warnings.warn(
                f"Samples {names} of a batch have NaN for a result: {error}",
                NonFiniteWarning,
                stacklevel=2,
            )
            good = [sample for i, sample in enumerate(good) if i not in bad]
    if len(good) == n:
        return values
    like = leaves(x)[0] if values is None else values
    xp, where = array_namespace(like), device(like)
    gap = (*shape[:axis], 1, *shape[axis:])
    nan = xp.full(gap, math.nan, dtype=getattr(xp, dtype.name), device=where)
    filled = nan if values is None else xp.concat([values, nan], axis=axis)
    place = {sample: i for i, sample in enumerate(good)}
    indices = xp.asarray([place.get(sample, len(good)) for sample in range(n)], device=where)
    return xp.take(filled, indices, axis=axis)


def marked_pairs(
    compute: Callable[[Any, Any, Any], Any],
    factors: Any,
    x: Any,
    y: Any,
    mode: InfluenceMode,
    *,
    dtype: np.dtype[Any],
) -> Any:
    """Return `compute(factors, x, y)`, with NaN for test samples whose factors are NaN.

    Training samples that `compute` refuses have NaN, too.
    """
    xp = array_namespace(factors)
    bad = ~xp.all(xp.isfinite(factors), axis=1)
    some = bool(xp.any(bad))
    if some:
        factors = xp.where(bad[:, None], xp.zeros_like(factors), factors)
    inputs = tuple(perturbed_leaf(x).shape[1:]) if mode is InfluenceMode.Perturbation else ()
    values = marked_samples(
        lambda x, y: compute(factors, x, y),
        x,
        y,
        shape=(factors.shape[0], *inputs),
        dtype=dtype,
        axis=1,
    )
    if not some:
        return values
    rows = xp.reshape(bad, (-1, *(1 for _ in values.shape[1:])))
    return xp.where(rows, xp.full_like(values, math.nan), values)


def _taken(batch: Batch[Any], samples: Sequence[int]) -> Batch[Any]:
    def taken(leaf: Any) -> Any:
        xp = array_namespace(leaf)
        return xp.take(leaf, xp.asarray(samples, device=device(leaf)), axis=0)

    x, y = batch
    return map_leaves(taken, x), map_leaves(taken, y)
