"""The inverse of a diagonal matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Array = Any


@dataclass(frozen=True)
class DiagonalInverse:
    """The inverse of a positive diagonal matrix."""

    diagonal: Array

    def solve(self, rows: Array) -> Array:
        """Return D⁻¹ times each row, (k, p)."""
        return rows / self.diagonal
