"""JAX works in single precision unless told otherwise, and converts without a word."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

ENABLE_X64 = (
    "JAX works in float32 unless told otherwise, and would convert it. Call "
    'jax.config.update("jax_enable_x64", True) first (in worker processes, set the environment '
    "variable JAX_ENABLE_X64=1), or convert it to float32 yourself."
)


def loses_precision(dtype: np.dtype[Any]) -> bool:
    """Return whether JAX, as it is set, would turn numbers of this type into shorter ones."""
    return bool(dtype == np.float64 and jax.dtypes.canonicalize_dtype(dtype) != dtype)
