"""Extreme eigenvalues of a symmetric matrix that is known by its products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from upweight.linalg.random import gaussian_rows

Array = Any

#: A remainder this small, in units of rounding, means that the subspace is invariant.
BREAKDOWN = 10.0


@dataclass(frozen=True)
class KrylovSubspace:
    r"""An orthonormal basis Q of a Krylov subspace, and the eigenpairs of \(Q A Q^\top\).

    Attributes:
        basis: Q, (m, p).
        values: Ritz values, the largest magnitudes first, (m,).
        rotation: Row i holds the coordinates of the Ritz vector i in the basis, (m, m).
        residuals: \(\|A v - \theta v\|\) of each Ritz pair, (m,).
    """

    basis: Array
    values: np.ndarray[Any, np.dtype[np.float64]]
    rotation: np.ndarray[Any, np.dtype[np.float64]]
    residuals: np.ndarray[Any, np.dtype[np.float64]]

    def vectors(self, rank: int) -> Array:
        """Return the Ritz vectors of the `rank` values of largest magnitude, (rank, p)."""
        xp = array_namespace(self.basis)
        kept = np.ascontiguousarray(self.rotation[:rank, :])
        return xp.asarray(kept, dtype=self.basis.dtype, device=device(self.basis)) @ self.basis


def lanczos(
    product: Callable[[Array], Array], like: Array, *, dimension: int, rng: np.random.Generator
) -> KrylovSubspace:
    r"""Build a Krylov subspace of a symmetric matrix A from a random start, one product a step.

    The step is \(\beta_j q_{j+1} = A q_j - \alpha_j q_j - \beta_{j-1} q_{j-1}\), in place of which
    each remainder is made orthogonal to the whole basis: otherwise rounding brings back eigenvectors
    that have been found, as copies that do not exist. Where the remainder vanishes, the subspace is
    invariant, and the next vector is drawn at random from its complement. So every eigenvalue is
    found with its multiplicity once the dimension is p.

    Args:
        product: Multiplies rows, (1, p), by A.
        like: Any rows of width p: they say the namespace, type and device.
        dimension: Number m of steps; at most p are taken.
        rng: Draws the start.

    References:
        Lanczos, "An iteration method for the solution of the eigenvalue problem of linear
        differential and integral operators", Journal of Research of the National Bureau of
        Standards 45 (1950); Parlett, "The Symmetric Eigenvalue Problem", SIAM (1998), chapter 13.
    """
    xp = array_namespace(like)
    tiny = BREAKDOWN * float(xp.finfo(like.dtype).eps)
    stacks: list[Array] = []
    diagonal: list[float] = []
    beside: list[float] = []
    following, scale = gaussian_rows(rng, like, 1), 0.0
    for _ in range(min(dimension, like.shape[1])):
        row = _orthogonal(following, stacks)
        row = row / xp.linalg.vector_norm(row)
        stacks = _stacked(stacks, row)
        image = product(row)
        alpha = float(xp.sum(row * image))
        remainder = _orthogonal(image, stacks)
        beta = float(xp.linalg.vector_norm(remainder))
        scale = max(scale, abs(alpha), beta)
        if beta > tiny * scale:
            following = remainder / beta
        else:
            following, beta = gaussian_rows(rng, like, 1), 0.0
        diagonal.append(alpha)
        beside.append(beta)
    off = np.asarray(beside[:-1], dtype=float)
    values, columns = np.linalg.eigh(np.diag(diagonal) + np.diag(off, 1) + np.diag(off, -1))
    order = np.argsort(-np.abs(values), kind="stable")
    return KrylovSubspace(
        xp.concat(stacks),
        values[order],
        columns.T[order, :],
        beside[-1] * np.abs(columns[-1, order]),
    )


def _stacked(stacks: list[Array], row: Array) -> list[Array]:
    """Return the stacks with one row more, (1, p).

    Their heights are powers of two, each smaller than the one before: few rows are copied, and
    there are few shapes to compile for.
    """
    *others, last = [*stacks, row]
    while others and others[-1].shape[0] == last.shape[0]:
        last = array_namespace(row).concat([others.pop(), last])
    return [*others, last]


def _orthogonal(row: Array, stacks: list[Array]) -> Array:
    """Return the row less its parts along the orthonormal rows of the stacks, (1, p)."""
    xp = array_namespace(row)
    for stack in [*stacks, *stacks]:  # the first pass leaves rounding of the size of what it took
        row = row - (row @ xp.matrix_transpose(stack)) @ stack
    return row
