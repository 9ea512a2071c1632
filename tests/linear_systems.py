"""Symmetric matrices and right-hand sides, and their solutions by both variants of conjugate gradients."""

import numpy as np

from upweight.linalg.block_cg import block_conjugate_gradients
from upweight.linalg.cg import conjugate_gradients

SOLVERS = {"lockstep": conjugate_gradients, "block": block_conjugate_gradients}


def positive_problem(*, k, p, dtype="float64", seed=0):
    """Return a symmetric positive definite matrix (p, p) and right-hand sides (k, p)."""
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((p, p))
    matrix = factor @ factor.T / p + 0.1 * np.eye(p)
    return matrix.astype(dtype), rng.standard_normal((k, p)).astype(dtype)


def with_eigenvalues(values, *, k, seed=0, dtype="float64"):
    """Return a matrix with these eigenvalues in random directions, and random right-hand sides."""
    rng = np.random.default_rng(seed)
    p = len(values)
    basis, _ = np.linalg.qr(rng.standard_normal((p, p)))
    matrix = (basis * values) @ basis.T
    return ((matrix + matrix.T) / 2).astype(dtype), rng.standard_normal((k, p)).astype(dtype)


def solve(solver, xp, matrix, rows, **options):
    """Return the solution by a solver, with a dense matrix for product."""
    matrix = xp.asarray(matrix)
    return SOLVERS[solver](lambda v: v @ matrix, xp.asarray(rows), **options)


def dense_solution(matrix, rows):
    """Return the solutions as rows, in float64."""
    return np.linalg.solve(np.asarray(matrix, float), np.asarray(rows, float).T).T
