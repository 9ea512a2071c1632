"""Conjugate gradients for many right-hand sides at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace, device

Array = Any


@dataclass(frozen=True)
class CgSolution:
    """Solutions of conjugate gradients and how each row fared.

    Attributes:
        value: Solutions as rows, (k, p).
        steps: Products with the matrix that each row took, (k,).
        residuals: Norm of `row - matrix @ value` of each row, computed afresh at the end, (k,).
        converged: Whether that norm is within the tolerance, (k,).
        curvatures: Smallest Rayleigh quotient met along a search direction of each row, (k,). A row
            that met one that is not positive has stopped there.
    """

    value: Array
    steps: Array
    residuals: Array
    converged: Array
    curvatures: Array


def conjugate_gradients(
    product: Callable[[Array], Array],
    rows: Array,
    *,
    rtol: float = 1e-4,
    atol: float = 0.0,
    maxiter: int = 1000,
    preconditioner: Callable[[Array], Array] | None = None,
) -> CgSolution:
    r"""Solve \(A x = b\) for each row b, all rows in lockstep, with A symmetric.

    Every row has its own steps and its own test \(\|b - A x\| \le \max(\rho \|b\|, \alpha)\), and
    takes no further part in products once it has met it. Rounding lets the residual of the
    recursion drift from the true one: the true one is computed at the end, and rows that miss their
    tolerance start again from where they are.

    Args:
        product: Multiplies rows, (j, p), by A, for any j from 1 to k.
        rows: Right-hand sides, (k, p).
        rtol: \(\rho\), relative to the norm of the row.
        atol: \(\alpha\), in units of the rows.
        maxiter: Most steps a row may take.
        preconditioner: Multiplies rows by a symmetric positive definite matrix close to the
            inverse of A, up to a factor; by default the identity. The tests are on residuals that
            it does not touch.

    References:
        Hestenes and Stiefel, "Methods of conjugate gradients for solving linear systems", Journal
        of Research of the National Bureau of Standards 49 (1952), equations (3:1a-f); Saad,
        "Iterative Methods for Sparse Linear Systems", SIAM 2003, algorithm 9.1.
    """
    xp = array_namespace(rows)
    # The squares of gradients as small as 1e-20 vanish in single precision: solve rows of size one.
    scales = xp.max(xp.abs(rows), axis=1)
    scales = xp.maximum(scales, xp.full_like(scales, float(xp.finfo(rows.dtype).smallest_normal)))
    rows = rows / scales[:, None]
    tolerances = xp.maximum(rtol * _norms(rows), atol / scales)
    k = rows.shape[0]
    value, residual = xp.zeros_like(rows), rows
    active = xp.arange(k, device=device(rows))
    steps = xp.zeros_like(active)
    curvatures = xp.full_like(tolerances, float("inf"))
    while active.shape[0] > 0:

        def of_active(array: Array, index: Array = active) -> Array:
            return xp.take(array, index, axis=0)

        before = of_active(residual)
        # Beyond the precision of the numbers, the residual of the recursion falls without meaning.
        reachable = float(xp.finfo(rows.dtype).eps) * _norms(before)
        run = _descend(
            product,
            preconditioner or _identity,
            before,
            tolerances=xp.maximum(of_active(tolerances), reachable),
            budget=maxiter - of_active(steps),
        )
        value = _put(value, active, of_active(value) + run.value)
        steps = _put(steps, active, of_active(steps) + run.steps)
        curvatures = _put(curvatures, active, xp.minimum(of_active(curvatures), run.curvatures))
        after = of_active(rows) - product(of_active(value))
        residual = _put(residual, active, after)
        again = (
            (_norms(after) > of_active(tolerances))
            & (_norms(after) < _norms(before) / 2)  # else the precision of the numbers is used up
            & (of_active(steps) < maxiter)
            & (run.curvatures > 0)
        )
        active = of_active(active, _where(again))
    residuals = _norms(residual)
    return CgSolution(
        value * scales[:, None], steps, residuals * scales, residuals <= tolerances, curvatures
    )


@dataclass(frozen=True)
class _Run:
    """What a descent from zero reached: solutions (k, p), steps and curvatures (k,)."""

    value: Array
    steps: Array
    curvatures: Array


def _identity(rows: Array) -> Array:
    return rows


def _descend(
    product: Callable[[Array], Array],
    preconditioner: Callable[[Array], Array],
    rows: Array,
    *,
    tolerances: Array,
    budget: Array,
) -> _Run:
    """Run plain preconditioned conjugate gradients from zero; rows leave as they finish."""
    xp = array_namespace(rows)
    left: list[tuple[Array, ...]] = []
    index = xp.arange(rows.shape[0], device=device(rows))
    x, r, p = xp.zeros_like(rows), rows, preconditioner(rows)
    rz = xp.sum(r * p, axis=1)
    curvature = xp.full_like(rz, float("inf"))
    step = 0
    while True:
        norms = _norms(r)
        done = (norms <= tolerances) | ~xp.isfinite(norms) | (budget <= step) | (curvature <= 0)
        if bool(xp.any(done)):
            finished, going = _where(done), _where(~done)
            steps = xp.full_like(budget, step)
            left.append(tuple(xp.take(a, finished, axis=0) for a in (index, x, steps, curvature)))
            if going.shape[0] == 0:
                break
            index, x, r, p, rz, curvature, tolerances, budget = (
                xp.take(a, going, axis=0)
                for a in (index, x, r, p, rz, curvature, tolerances, budget)
            )
        ap = product(p)
        pap = xp.sum(p * ap, axis=1)
        curvature = xp.minimum(curvature, pap / xp.sum(p * p, axis=1))
        # Along a direction of negative curvature a step would climb: such a row stays where it is.
        descends = pap > 0
        alpha = xp.where(descends, rz, xp.zeros_like(rz)) / xp.where(
            descends, pap, xp.ones_like(pap)
        )
        x = x + alpha[:, None] * p
        r = r - alpha[:, None] * ap
        z = preconditioner(r)
        previous, rz = rz, xp.sum(r * z, axis=1)
        p = z + (rz / previous)[:, None] * p
        step += 1
    index, *parts = (xp.concat(pieces) for pieces in zip(*left, strict=True))
    order = xp.argsort(index)
    return _Run(*(xp.take(part, order, axis=0) for part in parts))


def _norms(rows: Array) -> Array:
    return array_namespace(rows).linalg.vector_norm(rows, axis=1)


def _where(mask: Array) -> Array:
    return array_namespace(mask).nonzero(mask)[0]


def _put(target: Array, index: Array, values: Array) -> Array:
    """Return `target` with `values` at the positions `index`, which are distinct."""
    xp = array_namespace(target, values)
    everywhere = xp.arange(target.shape[0], device=device(target))
    hit = everywhere[:, None] == index[None, :]
    moved = target.shape[0] + xp.argmax(xp.astype(hit, index.dtype), axis=1)
    source = xp.where(xp.any(hit, axis=1), moved, everywhere)
    return xp.take(xp.concat([target, values]), source, axis=0)
