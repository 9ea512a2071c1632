"""Conjugate gradients for many right-hand sides at once, each with search directions of its own."""

from __future__ import annotations

from array_api_compat import array_namespace, device

from upweight.linalg.restarts import (
    Array,
    CgSolution,
    Descent,
    Product,
    norms,
    partition,
    solve_with_restarts,
)


def conjugate_gradients(
    product: Product,
    rows: Array,
    *,
    rtol: float = 1e-4,
    atol: float = 0.0,
    maxiter: int = 1000,
    preconditioner: Product | None = None,
) -> CgSolution:
    r"""Solve \(A x = b\) for each row b, all rows in lockstep, with A symmetric.

    Every row has its own steps and its own test \(\|b - A x\| \le \max(\rho \|b\|, \alpha)\), and
    takes no further part in products once it has met it. The residuals of the result are computed
    afresh, and rows that rounding has led astray start again from where they are.

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
    return solve_with_restarts(
        _descend,
        product,
        rows,
        rtol=rtol,
        atol=atol,
        maxiter=maxiter,
        preconditioner=preconditioner,
    )


def _descend(
    product: Product,
    preconditioner: Product,
    rows: Array,
    *,
    tolerances: Array,
    budget: Array,
) -> Descent:
    """Run plain preconditioned conjugate gradients from zero; rows leave as they finish."""
    xp = array_namespace(rows)
    left: list[tuple[Array, ...]] = []
    index = xp.arange(rows.shape[0], device=device(rows))
    x, r, p = xp.zeros_like(rows), rows, preconditioner(rows)
    rz = xp.sum(r * p, axis=1)
    curvature = xp.full_like(rz, float("inf"))
    step = 0
    while True:
        sizes = norms(r)
        done = (sizes <= tolerances) | ~xp.isfinite(sizes) | (budget <= step) | (curvature <= 0)
        if bool(xp.any(done)):
            finished, going = partition(done)
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
    return Descent(*(xp.take(part, order, axis=0) for part in parts))
