"""Solves with a dense symmetric matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace, device

from upweight.errors import IndefiniteCurvatureError

Array = Any


@dataclass(frozen=True)
class DenseInverse:
    r"""The inverse of a damped symmetric matrix \(A + \lambda I\).

    Attributes:
        inverse: \((A + \lambda I)^{-1}\), (p, p).
        lowest: The smallest eigenvalue of A where \(A + \lambda I\) is not positive definite, and
            None where it is, which costs no eigenvalue.
    """

    inverse: Array
    lowest: float | None

    @classmethod
    def of(cls, matrix: Array, *, damping: float) -> DenseInverse:
        r"""Invert \(A + \lambda I\), through its eigendecomposition if it is not positive definite.

        A Cholesky factorisation decides which, at a twentieth of the cost of the eigenvalues.

        Args:
            matrix: A, symmetric, (p, p).
            damping: \(\lambda\), in units of the eigenvalues of A.

        Raises:
            IndefiniteCurvatureError: an eigenvalue plus the damping is zero to working precision.
        """
        xp = array_namespace(matrix)
        unit = xp.eye(matrix.shape[0], dtype=matrix.dtype, device=device(matrix))
        damped = matrix + damping * unit
        precision = float(xp.finfo(matrix.dtype).eps)
        if _is_positive_definite(damped):
            inverse = xp.linalg.inv(damped)
            # In the Frobenius norm this is between the condition number and p times it.
            condition = float(xp.linalg.vector_norm(damped) * xp.linalg.vector_norm(inverse))
            _check_regular(condition, precision=precision, damping=damping)
            return cls((inverse + xp.matrix_transpose(inverse)) / 2, None)
        values, vectors = xp.linalg.eigh(damped)
        magnitudes = xp.abs(values)
        smallest, largest = float(xp.min(magnitudes)), float(xp.max(magnitudes))
        condition = largest / smallest if smallest > 0 else math.inf
        _check_regular(condition, precision=precision, damping=damping)
        return cls((vectors / values) @ xp.matrix_transpose(vectors), float(values[0]) - damping)

    def solve(self, rows: Array) -> Array:
        """Return the inverse times each row, (k, p)."""
        return rows @ self.inverse


def _is_positive_definite(matrix: Array) -> bool:
    xp = array_namespace(matrix)
    try:
        factor = xp.linalg.cholesky(matrix)
    except (ValueError, RuntimeError):  # the LinAlgError of NumPy and of torch
        return False
    return bool(xp.all(xp.isfinite(factor)))  # JAX returns NaN instead of raising


def _check_regular(condition: float, *, precision: float, damping: float) -> None:
    if not condition * precision < 1:
        raise IndefiniteCurvatureError(
            f"The curvature with the damping {damping:g} is singular to working precision "
            f"(condition number about {condition:.2g}). Use a larger regularization."
        )
