"""Arrays that are drawn, checked before anything is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def real_array(values: Any, *, ndim: int, shape: str, of: str) -> NDArray[np.float64]:
    """Return real numbers as an array of NumPy.

    Args:
        values: Finite numbers, or NaN for what has been marked.
        ndim: Number of axes.
        shape: How the message calls the shape.
        of: Name of the argument.

    Raises:
        TypeError: the values are no real numbers.
        ValueError: the shape is another, there are no values, or some are infinite.
    """
    found = np.asarray(values)
    if found.dtype.kind not in "buif":
        raise TypeError(f"`{of}` must be real numbers, {shape}; got {found.dtype}.")
    if found.ndim != ndim or not found.size:
        raise ValueError(f"`{of}` must have shape {shape}; got {found.shape}.")
    if np.isinf(found).any():
        places = np.argwhere(np.isinf(found))[:10].squeeze(-1 if ndim == 1 else ()).tolist()
        raise ValueError(f"`{of}` must be finite, or NaN where marked; infinite at {places}.")
    return found.astype(np.float64)


def positive_count(count: int, *, of: str) -> int:
    """Return a number of things to draw that is at least one."""
    if count < 1:
        raise ValueError(f"`{of}` must be at least 1; got {count!r}.")
    return count
