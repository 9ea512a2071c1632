"""Solves with a dense symmetric matrix."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from upweight.errors import IndefiniteCurvatureError
from upweight.linalg.cholesky import CholeskyInverse
from upweight.linalg.random import gaussian_rows

Array = Any

#: Products from which a norm is estimated; its order of magnitude is what counts.
POWER_STEPS = 10

#: Relative error of a solve, about, above which a matrix counts as singular.
ROUNDING_MARGIN = 0.1


@dataclass(frozen=True)
class DenseInverse:
    """The inverse of a damped symmetric matrix.

    Attributes:
        factors: The matrix, factorised.
        lowest: The smallest eigenvalue of A where A + λI is not positive definite, and None where
            it is, which costs no eigenvalue.
    """

    factors: CholeskyInverse | EigenInverse
    lowest: float | None

    @classmethod
    def of(cls, matrix: Array, *, damping: float) -> DenseInverse:
        r"""Invert \(A + \lambda I\), by eigenvalues only if it is not positive definite.

        The Cholesky factor decides which; it costs a twentieth of the eigenvalues.

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
        factors = CholeskyInverse.of(damped)
        if factors is not None:
            condition = _norm(lambda row: row @ damped, damped) * _norm(factors.solve, damped)
            _check_regular(condition, damped, damping)
            return cls(factors, None)
        values, vectors = xp.linalg.eigh(damped)
        magnitudes = xp.abs(values)
        smallest, largest = float(xp.min(magnitudes)), float(xp.max(magnitudes))
        condition = largest / smallest if smallest > 0 else math.inf
        _check_regular(condition, damped, damping)
        return cls(EigenInverse(values, vectors), float(values[0]) - damping)

    def solve(self, rows: Array) -> Array:
        """Return the inverse times each row, (k, p)."""
        return self.factors.solve(rows)


@dataclass(frozen=True)
class EigenInverse:
    """The inverse of a symmetric matrix, with eigenvalues (p,) and eigenvectors as columns."""

    values: Array
    vectors: Array

    def solve(self, rows: Array) -> Array:
        """Return the inverse times each row, (k, p)."""
        projected = (rows @ self.vectors) / self.values
        return projected @ array_namespace(self.vectors).matrix_transpose(self.vectors)


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
