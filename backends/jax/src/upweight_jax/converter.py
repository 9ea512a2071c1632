"""Between JAX and NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from upweight.errors import BatchError
from upweight_jax.precision import ENABLE_X64, loses_precision

if TYPE_CHECKING:
    from numpy.typing import NDArray


class JaxNumpyConverter:
    """Convert JAX arrays to NumPy arrays and back.

    Args:
        device: Where `from_numpy` puts arrays; by default JAX's own default device.
    """

    def __init__(self, device: jax.Device | None = None) -> None:
        self.device = device

    def to_numpy(self, x: jax.Array) -> NDArray[Any]:
        """Return the values as a NumPy array, read-only; on the CPU without a copy."""
        return np.asarray(x)

    def from_numpy(self, x: NDArray[Any]) -> jax.Array:
        """Return the values as an array on the device; on the CPU it may share their memory.

        Raises:
            BatchError: the values are float64, and JAX is set to single precision.
        """
        if loses_precision(x.dtype):
            raise BatchError(f"The array is float64. {ENABLE_X64}")
        # JAX knows no byte order other than that of the machine.
        native = np.asarray(x, dtype=x.dtype.newbyteorder("="))
        array: jax.Array = jax.device_put(native, self.device)
        return array
