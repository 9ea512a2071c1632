"""Attributions as they arrive, and which way they point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: What more weight on a training sample of positive attribution does to the measurement.
Direction: TypeAlias = Literal["lowers", "raises"]


def fall_of_measurement(attributions: Any, positive: Direction) -> NDArray[np.float64]:
    """Return attributions in the convention of this library: how far the measurement falls, (k, n).

    Raises:
        ValueError: they are not a matrix of finite numbers, or `positive` is something else.
    """
    if positive not in ("lowers", "raises"):
        raise ValueError(
            "`positive` says what a training sample of positive attribution does to the "
            f'measurement, "lowers" or "raises"; got {positive!r}. Influences of upweight on a loss, '
            "or on another measurement, lower it."
        )
    matrix = np.asarray(attributions, dtype=np.float64)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(
            "Attributions must have the shape (k, n), a row for each test sample and a column for "
            f"each training sample; got {matrix.shape}."
        )
    if not np.isfinite(matrix).all():
        bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1)).tolist()
        raise ValueError(f"Attributions are NaN or infinite for test samples {bad[:10]}.")
    return matrix if positive == "lowers" else -matrix
