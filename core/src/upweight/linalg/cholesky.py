"""Solves with a Cholesky factor, by blocks: the Array API standard has no triangular solve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

Array = Any

#: Columns that are solved for at once; diagonal blocks of this size are inverted.
BLOCK = 256


@dataclass(frozen=True)
class CholeskyInverse:
    r"""The inverse of a positive definite matrix \(L L^\top\).

    Attributes:
        factor: L, lower triangular, (p, p).
        diagonal: Inverses of the blocks on its diagonal.
    """

    factor: Array
    diagonal: tuple[Array, ...]

    @classmethod
    def of(cls, matrix: Array) -> CholeskyInverse | None:
        """Factorise a symmetric matrix (p, p); None if it is not positive definite."""
        xp = array_namespace(matrix)
        try:
            factor = xp.linalg.cholesky(matrix)
        except (ValueError, RuntimeError):  # the LinAlgError of NumPy and of torch
            return None
        if not bool(xp.all(xp.isfinite(xp.linalg.diagonal(factor)))):  # JAX returns NaN
            return None
        blocks = [factor[start:end, start:end] for start, end in _blocks(matrix.shape[0])]
        return cls(factor, tuple(xp.linalg.inv(block) for block in blocks))

    def solve(self, rows: Array) -> Array:
        """Return the inverse times each row, (k, p)."""
        xp = array_namespace(rows)
        blocks = list(zip(_blocks(rows.shape[1]), self.diagonal, strict=True))
        forward = rows[:, :0]
        for (start, end), inverse in blocks:
            known = forward @ xp.matrix_transpose(self.factor[start:end, :start])
            part = (rows[:, start:end] - known) @ xp.matrix_transpose(inverse)
            forward = xp.concat([forward, part], axis=1)
        backward = rows[:, :0]
        for (start, end), inverse in reversed(blocks):
            known = backward @ self.factor[end:, start:end]
            backward = xp.concat([(forward[:, start:end] - known) @ inverse, backward], axis=1)
        return backward


def _blocks(p: int) -> list[tuple[int, int]]:
    """Return where the blocks of columns start and end."""
    return [(start, min(start + BLOCK, p)) for start in range(0, p, BLOCK)]
