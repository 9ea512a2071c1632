"""Iterative solves of many rows that are measured at the end and start again where rounding won."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from array_api_compat import array_namespace, device

Array = Any
Product = Callable[[Array], Array]


@dataclass(frozen=True)
class CgSolution:
    """Solutions of conjugate gradients and how each row fared.

    Attributes:
        value: Solutions as rows, (k, p).
        steps: Steps that each row took part in, each one product with the matrix, (k,).
        residuals: Norm of `row - matrix @ value` of each row, computed afresh at the end, (k,).
        converged: Whether that norm is within the tolerance, (k,).
        curvatures: Smallest Rayleigh quotient met in the search directions of each row, (k,). A row
            that met one that is not positive has stopped there.
    """

    value: Array
    steps: Array
    residuals: Array
    converged: Array
    curvatures: Array


@dataclass(frozen=True)
class Descent:
    """What a descent from zero reached: solutions (k, p), steps and curvatures (k,)."""

    value: Array
    steps: Array
    curvatures: Array


class Descend(Protocol):
    """Conjugate gradients from zero, as far as their own recursion can tell."""

    def __call__(
        self,
        product: Product,
        preconditioner: Product,
        rows: Array,
        *,
        tolerances: Array,
        budget: Array,
    ) -> Descent:
        """Solve each row to its tolerance (k,), in as many steps as its budget (k,) allows."""


def solve_with_restarts(
    descend: Descend,
    product: Product,
    rows: Array,
    *,
    rtol: float,
    atol: float,
    maxiter: int,
    preconditioner: Product | None,
) -> CgSolution:
    r"""Solve until each row b meets \(\|b - A x\| \le \max(\rho \|b\|, \alpha)\).

    Rounding lets the residual of a recursion drift from the true one: the true one is computed at
    the end, and rows that miss their tolerance start again from where they are.

    Args:
        descend: Conjugate gradients from zero.
        product: Multiplies rows, (j, p), by A, for any j from 1 to k.
        rows: Right-hand sides, (k, p).
        rtol: \(\rho\), relative to the norm of the row.
        atol: \(\alpha\), in units of the rows.
        maxiter: Most steps of a row.
        preconditioner: Multiplies rows by a matrix close to the inverse of A.
    """
    xp = array_namespace(rows)
    # The squares of gradients as small as 1e-20 vanish in single precision: solve rows of size one.
    scales = xp.max(xp.abs(rows), axis=1)
    scales = xp.maximum(scales, xp.full_like(scales, float(xp.finfo(rows.dtype).smallest_normal)))
    rows = rows / scales[:, None]
    tolerances = xp.maximum(rtol * norms(rows), atol / scales)
    value, residual = xp.zeros_like(rows), rows
    steps = xp.zeros_like(xp.arange(rows.shape[0], device=device(rows)))
    curvatures = xp.full_like(tolerances, float("inf"))
    active, aim = where(norms(rows) > tolerances), 1.0
    while active.shape[0] > 0:

        def of_active(array: Array, index: Array = active) -> Array:
            return _taken(array, index)

        before = of_active(residual)
        # Beyond the precision of the numbers, the residual of the recursion falls without meaning.
        reachable = float(xp.finfo(rows.dtype).eps) * norms(before)
        run = descend(
            product,
            preconditioner or _identity,
            before,
            tolerances=xp.maximum(aim * of_active(tolerances), reachable),
            budget=maxiter - of_active(steps),
        )
        value = _put(value, active, of_active(value) + run.value)
        steps = _put(steps, active, of_active(steps) + run.steps)
        curvatures = _put(curvatures, active, xp.minimum(of_active(curvatures), run.curvatures))
        after = of_active(rows) - product(of_active(value))
        residual = _put(residual, active, after)
        again = (
            (norms(after) > of_active(tolerances))
            & (norms(after) < norms(before) / 2)  # else the precision of the numbers is used up
            & (of_active(steps) < maxiter)
            & (run.curvatures > 0)
        )
        active, aim = of_active(active, where(again)), 0.5  # rounding needs room, as it has shown
    residuals = norms(residual)
    return CgSolution(
        value * scales[:, None], steps, residuals * scales, residuals <= tolerances, curvatures
    )


def norms(rows: Array) -> Array:
    """Return the norm of each row, (k,)."""
    return array_namespace(rows).linalg.vector_norm(rows, axis=1)


def where(mask: Array) -> Array:
    """Return the positions at which a mask is true."""
    true, _ = partition(mask)
    return true


def partition(mask: Array) -> tuple[Array, Array]:
    """Return the positions at which a mask is true, and those at which it is false.

    By sorting: where arrays are compiled for each shape, a search for them takes many programs.
    """
    xp = array_namespace(mask)
    numbers = xp.astype(mask, xp.int8)
    order, count = xp.argsort(-numbers, stable=True), int(xp.sum(numbers))
    return order[:count], order[count:]


def _identity(rows: Array) -> Array:
    return rows


def _taken(array: Array, index: Array) -> Array:
    """Return the entries at the positions `index`, which rise."""
    if index.shape[0] == array.shape[0]:  # all of them
        return array
    return array_namespace(array).take(array, index, axis=0)


def _put(target: Array, index: Array, values: Array) -> Array:
    """Return `target` with `values` at the positions `index`, which rise."""
    if index.shape[0] == target.shape[0]:
        return values
    xp = array_namespace(target, values)
    everywhere = xp.arange(target.shape[0], device=device(target))
    hit = everywhere[:, None] == index[None, :]
    moved = target.shape[0] + xp.argmax(xp.astype(hit, index.dtype), axis=1)
    source = xp.where(xp.any(hit, axis=1), moved, everywhere)
    return xp.take(xp.concat([target, values]), source, axis=0)
