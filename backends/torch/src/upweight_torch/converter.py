"""Between torch and NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray


class TorchNumpyConverter:
    """Convert tensors to NumPy arrays and back.

    Args:
        device: Where `from_numpy` puts tensors; by default torch's own default device.
    """

    def __init__(self, device: torch.device | str | None = None) -> None:
        self.device = None if device is None else torch.device(device)

    def to_numpy(self, x: torch.Tensor) -> NDArray[Any]:
        """Return the values as a NumPy array; on the CPU without a copy."""
        return x.detach().cpu().resolve_conj().resolve_neg().numpy()

    def from_numpy(self, x: NDArray[Any]) -> torch.Tensor:
        """Return a copy of the values as a tensor on the device."""
        # torch knows neither negative strides nor a byte order other than that of the machine.
        native = np.array(x, dtype=x.dtype.newbyteorder("="), order="C")
        return torch.from_numpy(native).to(self.device or torch.get_default_device())
