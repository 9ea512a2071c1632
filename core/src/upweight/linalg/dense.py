"""Solves with a dense symmetric matrix."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from upweight.errors import IndefiniteCurvatureError
from upweight.linalg.random import gaussian_rows

Array = Any

#: Triangular matrices up to this size are inverted at once.
SMALL = 64

#: Products from which a norm is estimated; its order of magnitude is what counts.
POWER_STEPS = 10

#: Relative error of a solve, about, above which a matrix counts as singular.
ROUNDING_MARGIN = 0.1


@dataclass(frozen=True)
class DenseInverse:
    r"""The inverse of a damped symmetric matrix, as a product \((A + \lambda I)^{-1} = L R\).

    Attributes:
        left: \(L\), (p, p).
        right: \(R\), (p, p).
        lowest: The smallest eigenvalue of A where \(A + \lambda I\) is not positive definite, and
            None where it is, which costs no eigenvalue.
    """

    left: Array
    right: Array
    lowest: float | None

    @classmethod
    def of(cls, matrix: Array, *, damping: float) -> DenseInverse:
        r"""Invert \(A + \lambda I\), by eigenvalues only if it is not positive definite.

        The Cholesky factor decides which; it and its inverse cost a tenth of the eigenvalues.

        Args:
            matrix: A, symmetric, (p, p).
            damping: \(\lambda\), in units of the eigenvalues of A.

        Raises:
            IndefiniteCurvatureError: an eigenvalue plus the damping is zero to working precision.
        """
        xp = array_namespace(matrix)
        damped = matrix + damping * xp.eye(
            matrix.shape[0], dtype=matrix.dtype, device=device(matrix)
        )
        factor = _cholesky(damped)
        if factor is not None:
            root = _inverse_of_lower(factor)
            inverse = cls(xp.matrix_transpose(root), root, None)
            condition = _norm(lambda row: row @ damped, damped) * _norm(inverse.solve, damped)
            _check_regular(condition, damped, damping)
            return inverse
        values, vectors = xp.linalg.eigh(damped)
        magnitudes = xp.abs(values)
        smallest, largest = float(xp.min(magnitudes)), float(xp.max(magnitudes))
        condition = largest / smallest if smallest > 0 else math.inf
        _check_regular(condition, damped, damping)
        return cls(vectors / values, xp.matrix_transpose(vectors), float(values[0]) - damping)

    def solve(self, rows: Array) -> Array:
        """Return the inverse times each row, (k, p)."""
        return (rows @ self.left) @ self.right


def _cholesky(matrix: Array) -> Array | None:
    """Return the lower Cholesky factor, or None if the matrix is not positive definite."""
    xp = array_namespace(matrix)
    try:
        factor = xp.linalg.cholesky(matrix)
    except (ValueError, RuntimeError):  # the LinAlgError of NumPy and of torch
        return None
    return factor if bool(xp.all(xp.isfinite(factor))) else None  # JAX returns NaN


def _inverse_of_lower(matrix: Array) -> Array:
    """Invert a lower triangular matrix by halves; the standard has no triangular solve."""
    xp = array_namespace(matrix)
    p = matrix.shape[0]
    if p <= SMALL:
        return xp.linalg.inv(matrix)
    half = p // 2
    first = _inverse_of_lower(matrix[:half, :half])
    last = _inverse_of_lower(matrix[half:, half:])
    below = -(last @ matrix[half:, :half]) @ first
    above = xp.zeros((half, p - half), dtype=matrix.dtype, device=device(matrix))
    return xp.concat([xp.concat([first, above], axis=1), xp.concat([below, last], axis=1)])


def _norm(product: Callable[[Array], Array], like: Array) -> float:
    """Estimate the largest eigenvalue of a positive definite matrix by power iteration."""
    xp = array_namespace(like)
    row = gaussian_rows(np.random.default_rng(0), like, 1)
    norm = xp.linalg.vector_norm(row)
    for _ in range(POWER_STEPS):
        row = product(row / norm)
        norm = xp.linalg.vector_norm(row)
    return float(norm)


def _check_regular(condition: float, matrix: Array, damping: float) -> None:
    precision = float(array_namespace(matrix).finfo(matrix.dtype).eps)
    if not condition * precision < ROUNDING_MARGIN:
        raise IndefiniteCurvatureError(
            f"The curvature with the damping {damping:g} is singular to working precision "
            f"(condition number about {condition:.2g}). Use a larger regularization."
        )
