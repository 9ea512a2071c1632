"""The inverse of a damped matrix of low rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

Array = Any


@dataclass(frozen=True)
class LowRankInverse:
    r"""The inverse \(c I + V^\top \operatorname{diag}(w) V\) of a damped matrix of low rank.

    Attributes:
        vectors: Orthonormal V, (r, p).
        weights: w, (r,).
        outside: c, what a vector orthogonal to V is multiplied by.
    """

    vectors: Array
    weights: Array
    outside: float

    @classmethod
    def of(cls, values: Array, vectors: Array, *, damping: float, dropped: bool) -> LowRankInverse:
        r"""Invert \(V^\top \operatorname{diag}(\theta) V + \lambda I\).

        With \(c = 1 / \lambda\), the weights are \(1 / (\theta + \lambda) - 1 / \lambda\).

        Args:
            values: \(\theta\), none of them \(-\lambda\), (r,).
            vectors: Orthonormal V, (r, p).
            damping: \(\lambda\), positive unless the outside is dropped.
            dropped: Whether what is orthogonal to V is multiplied by zero instead of
                \(1 / \lambda\).
        """
        everywhere = vectors.shape[0] == vectors.shape[1]
        if dropped or everywhere:
            return cls(vectors, 1 / (values + damping), 0.0)
        # The difference of reciprocals as one fraction, which loses no digits for small values.
        return cls(vectors, -(values / damping) / (values + damping), 1 / damping)

    def solve(self, rows: Array) -> Array:
        """Return the inverse times each row, (k, p)."""
        xp = array_namespace(rows)
        inside = ((rows @ xp.matrix_transpose(self.vectors)) * self.weights) @ self.vectors
        return inside + self.outside * rows if self.outside else inside
