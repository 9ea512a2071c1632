"""Damping, one number or one for each block."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real


def checked_regularization(
    value: float | Mapping[str, float], blocks: Sequence[str]
) -> dict[str, float]:
    """Return the damping of each block.

    Raises:
        ValueError: a number is negative or not finite, or the names are not those of the blocks.
    """
    if not isinstance(value, Mapping):
        return dict.fromkeys(blocks, _checked(value))
    if set(value) != set(blocks):
        raise ValueError(
            "`regularization` must have one number for each block; got the unknown names "
            f"{sorted(set(value) - set(blocks))}, and none for "
            f"{sorted(set(blocks) - set(value))}."
        )
    return {block: _checked(value[block]) for block in blocks}


def _checked(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"`regularization` must be a number; got {value!r}.")
    number = float(value)
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"`regularization` must be finite and not negative; got {value!r}.")
    return number
