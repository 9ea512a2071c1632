"""A low-rank approximation of a positive semidefinite matrix from one product with random rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from upweight.linalg.random import complement_probes, orthonormal_rows

Array = Any

#: How far below zero, in units of rounding, a positive semidefinite matrix may seem to reach.
ROUNDING = 100.0


@dataclass(frozen=True)
class NystroemApproximation:
    r"""Eigenpairs of a Nyström approximation, and what its sketch told of the matrix A.

    Attributes:
        values: Eigenvalues, descending, (r,). Of an indefinite A they are those of the
            approximation of \(A + \nu I\), less \(\nu\).
        vectors: Eigenvectors as orthonormal rows, (r, p).
        shift: \(\nu\), of the size of rounding unless A is indefinite.
        lowest: Smallest Rayleigh quotient of A in the sketch; its smallest eigenvalue is no larger.
        indefinite: Whether that is below zero by more than rounding.
        trace: Trace of A, exact but for the part that the approximation leaves, which is estimated;
            None without probes.
    """

    values: Array
    vectors: Array
    shift: float
    lowest: float
    indefinite: bool
    trace: float | None


def nystroem(
    product: Callable[[Array], Array],
    like: Array,
    *,
    rank: int,
    rng: np.random.Generator,
    probes: int = 0,
) -> NystroemApproximation:
    r"""Approximate A by \((A \Omega)(\Omega^\top A \Omega)^+ (A \Omega)^\top\), \(\Omega\) random.

    A is shifted by a small \(\nu\) meanwhile, and its eigenvalues are shifted back, so that rounding
    is not blown up where the inner matrix is singular. One product serves all rows. If A is seen to
    be indefinite, \(\nu\) is twice the most negative Rayleigh quotient in the sketch: enough for the
    formula, and for A itself unless the sketch missed more than half of it.

    Args:
        product: Multiplies rows, (r + probes, p), by A.
        like: Any rows of width p: they say the namespace, type and device.
        rank: Number r of rows of the sketch; at most p are taken.
        rng: Draws them.
        probes: Random rows that estimate the trace outside the sketch.

    References:
        Frangella, Tropp and Udell, "Randomized Nyström Preconditioning", SIAM Journal on Matrix
        Analysis and Applications 44 (2023), algorithm 2.1, with an eigendecomposition in place of
        the Cholesky factor: it says how negative the matrix is; Persson, Cortinovis and Kressner,
        "Improved Variants of the Hutch++ Algorithm for Trace Estimation", SIAM Journal on Matrix
        Analysis and Applications 43 (2022), for probes of what the approximation leaves.
    """
    xp = array_namespace(like)
    rank = min(rank, like.shape[1])
    test = orthonormal_rows(rng, like, rank)
    outside = complement_probes(rng, test, probes)
    images = product(xp.concat([test, outside]))
    sketch = images[:rank, :]
    inner = sketch @ xp.matrix_transpose(test)
    quotients, axes = xp.linalg.eigh((inner + xp.matrix_transpose(inner)) / 2)
    lowest = float(xp.min(quotients))
    precision = xp.finfo(like.dtype)
    rounding = float(precision.eps) * float(xp.linalg.vector_norm(sketch))
    # The smallest number keeps the shift of a zero matrix positive.
    shift = rounding + 2 * max(-lowest, 0.0) + float(precision.smallest_normal)
    whitened = xp.matrix_transpose(axes / xp.sqrt(quotients + shift))
    _, singular, vectors = xp.linalg.svd(whitened @ (sketch + shift * test), full_matrices=False)
    values = singular**2 - shift
    indefinite = lowest < -ROUNDING * rounding
    if not indefinite:
        values = xp.maximum(values, xp.zeros_like(values))
    trace = None
    if probes:
        # Of a positive matrix no probe sees less than the approximation, which is the larger part.
        inside = xp.sum((vectors @ xp.matrix_transpose(test)) ** 2, axis=1)
        known = float(xp.sum(quotients)) + float(xp.sum(values * (1 - inside)))
        seen = ((outside @ xp.matrix_transpose(vectors)) * values) @ vectors
        trace = known + _mean_form(outside, images[rank:, :] - seen)
    return NystroemApproximation(values, vectors, shift, lowest, indefinite, trace)


def _mean_form(rows: Array, images: Array) -> float:
    """Return the mean of ⟨row, image⟩, and zero if there is none."""
    xp = array_namespace(rows)
    return float(xp.sum(rows * images)) / float(max(rows.shape[0], 1))
