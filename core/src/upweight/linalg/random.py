"""Random vectors from a NumPy generator, as arrays of any framework."""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

Array = Any


def gaussian_rows(rng: np.random.Generator, like: Array, k: int) -> Array:
    """Return k rows of independent standard normal numbers, with the width of `like`, (k, p)."""
    return _as_rows(rng.standard_normal((k, like.shape[1])), like)


def sign_rows(rng: np.random.Generator, like: Array, k: int) -> Array:
    """Return k rows of independent random signs, with the width of `like`, (k, p)."""
    return _as_rows(rng.choice([-1.0, 1.0], (k, like.shape[1])), like)


def orthonormal_rows(rng: np.random.Generator, like: Array, k: int) -> Array:
    """Return an orthonormal basis of a random subspace of k ≤ p dimensions, (k, p)."""
    xp = array_namespace(like)
    columns, _ = xp.linalg.qr(xp.matrix_transpose(gaussian_rows(rng, like, k)))
    return xp.matrix_transpose(columns)


def complement_probes(rng: np.random.Generator, basis: Array, k: int) -> Array:
    r"""Return k random vectors z of the orthogonal complement of a basis, (k, p).

    The mean of \(z A z^\top\) over such vectors is the trace of a matrix A over the complement.
    There are none if the basis, orthonormal and (m, p), is one of the whole space.

    References:
        Meyer, Musco, Musco and Woodruff, "Hutch++: Optimal Stochastic Trace Estimation", SOSA 2021,
        section 3: an exact trace over a subspace, an estimate over its complement.
    """
    xp = array_namespace(basis)
    m, p = basis.shape
    signs = sign_rows(rng, basis, k if m < p else 0)
    return signs - (signs @ xp.matrix_transpose(basis)) @ basis


def _as_rows(numbers: np.ndarray[Any, np.dtype[np.float64]], like: Array) -> Array:
    xp = array_namespace(like)
    return xp.asarray(numbers, dtype=like.dtype, device=device(like))
