"""Conjugate gradients for many right-hand sides that share all their search directions."""

from __future__ import annotations

from array_api_compat import array_namespace

from upweight.linalg.restarts import (
    Array,
    CgSolution,
    Descent,
    Product,
    norms,
    solve_with_restarts,
)


def block_conjugate_gradients(
    product: Product,
    rows: Array,
    *,
    rtol: float = 1e-4,
    atol: float = 0.0,
    maxiter: int = 1000,
    preconditioner: Product | None = None,
) -> CgSolution:
    r"""Solve \(A x = b\) for each row b in the Krylov space of all rows, with A symmetric.

    In a step every row moves along the search directions of all rows, so that together they need
    fewer steps than alone, the fewer the more extreme eigenvalues A has. With R the residuals as
    rows, factored as \(R = S Q\) with orthonormal Q, and P the search directions,

    \[C = Q P^\top (P A P^\top)^{-1}, \quad X \leftarrow X + S C P, \quad
      T Q' = Q - C A P, \quad S' = S T,\]

    and P' is \(M Q'\), made conjugate to P. A direction that others contain, because rows depend on
    each other or come to do so, is dropped from Q, so that nothing singular is ever inverted:
    neither equal rows nor more rows than parameters do harm.

    All rows that do not meet the test \(\|b - A x\| \le \max(\rho \|b\|, \alpha)\) from the start
    take part in every step until the last one meets it. Solutions of single rows so differ,
    within their tolerance, with the rows they are solved with; and negative curvature that one row
    brings in stops them all. The residuals of the result are computed afresh, and rows that
    rounding has led astray start again from where they are.

    Args:
        product: Multiplies rows, (j, p), by A, for any j from 1 to k.
        rows: Right-hand sides, (k, p).
        rtol: \(\rho\), relative to the norm of the row.
        atol: \(\alpha\), in units of the rows.
        maxiter: Most steps.
        preconditioner: M, a symmetric positive definite matrix close to the inverse of A, up to a
            factor, as a product with rows; by default the identity. The tests are on residuals
            that it does not touch.

    References:
        O'Leary, "The block conjugate gradient algorithm and related methods", Linear Algebra and
        its Applications 29 (1980); Dubrulle, "Retooling the method of block conjugate gradients",
        Electronic Transactions on Numerical Analysis 12 (2001), for the factored residual; Ji and
        Li, "A breakdown-free block conjugate gradient method", BIT Numerical Mathematics 57 (2017),
        for search directions that are an orthonormal basis.
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
    xp = array_namespace(rows)
    precision = float(xp.finfo(rows.dtype).eps)
    x, curvature, step, most = xp.zeros_like(rows), float("inf"), 0, int(xp.min(budget))
    sizes = norms(rows)
    s, q = _factored(rows / sizes[:, None], drop=precision**0.5)
    s = s * sizes[:, None]
    p = ap = q[:0, :]
    curvatures = norms(p)
    while step < most and bool(xp.any(norms(s) > tolerances)):
        z = preconditioner(q)
        z = z - ((z @ xp.matrix_transpose(ap)) / curvatures) @ p
        _, p = _factored(z, drop=precision)
        ap = product(p)
        step += 1
        pap = p @ xp.matrix_transpose(ap)
        if not bool(xp.all(xp.isfinite(pap))):  # no eigenvalues: the true residual will tell
            x = xp.full_like(x, float("nan"))
            break
        curvatures, vectors = xp.linalg.eigh((pap + xp.matrix_transpose(pap)) / 2)
        curvature = min(curvature, float(curvatures[0]))
        if curvature <= 0:
            break
        # Orthonormal directions that are conjugate to each other, too.
        p, ap = xp.matrix_transpose(vectors) @ p, xp.matrix_transpose(vectors) @ ap
        c = (q @ xp.matrix_transpose(p)) / curvatures
        x = x + (s @ c) @ p
        t, q = _factored(q - c @ ap, drop=precision**0.5)
        s = s @ t
    taken = xp.full_like(budget, step)
    return Descent(x, taken, xp.full_like(tolerances, curvature))


def _factored(rows: Array, *, drop: float) -> tuple[Array, Array]:
    """Factor rows (k, p) into coefficients (k, m) and m ≤ min(k, p) orthonormal rows (m, p).

    Args:
        rows: What to factor.
        drop: Singular values up to this multiple of the largest count as zero.
    """
    xp = array_namespace(rows)
    columns, triangle = xp.linalg.qr(xp.matrix_transpose(rows))
    left, values, right = xp.linalg.svd(triangle, full_matrices=False)
    count = int(xp.sum(xp.astype(values > drop * values[:1], xp.int32)))
    coefficients = xp.matrix_transpose(right[:count, :]) * values[:count]
    return coefficients, xp.matrix_transpose(columns @ left[:, :count])
