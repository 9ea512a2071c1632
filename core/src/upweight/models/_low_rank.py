"""What the methods that keep a curvature of low rank ask of their options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from upweight.checks import check_finite
from upweight.models._curvature import CurvatureOperator

#: Random rows that estimate the trace of the curvature outside the subspace.
TRACE_PROBES = 8


def checked_count(value: object, *, name: str, least: int) -> int:
    """Return an option that counts something.

    Raises:
        ValueError: it is no integer, or below `least`.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"`{name}` must be an integer, at least {least}; got {value!r}.")
    return int(value)


def checked_choice(value: str, *, name: str, choices: tuple[str, ...]) -> str:
    """Return an option that is one of a few names.

    Raises:
        ValueError: it is none of them.
    """
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {choices}; got {value!r}.")
    return value


def check_positive(regularization: Mapping[str, float], *, advice: str) -> None:
    """Refuse to divide by no damping.

    Raises:
        ValueError: the damping of a block is zero.
    """
    undamped = [block for block, damping in regularization.items() if damping == 0]
    if undamped:
        raise ValueError(
            "`regularization` must be positive, for it is all that stands for the curvature "
            f"outside the subspace that is kept; got 0 for the blocks {undamped}. {advice}"
        )


def finite_product(
    operator: CurvatureOperator[Any], block: str, advance: Callable[[int], object] = lambda _: None
) -> Callable[[Any], Any]:
    """Return the products with a curvature, refused where they are NaN or infinite."""

    def product(rows: Any) -> Any:
        images = operator(rows)
        check_finite(images, what=f"product with the curvature of block {block!r}")
        advance(1)
        return images

    return product


def captured_share(captured: float, trace: float | None, *, lowest: float) -> float | None:
    """Return the share of a trace, or None where negative curvature makes it meaningless."""
    if trace is None or trace <= 0 or lowest < 0:
        return None
    return captured / trace
