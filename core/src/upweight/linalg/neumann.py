"""Solves by the Neumann series, with products that may be noisy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace, device

Array = Any
Product = Callable[[Array], Array]

#: Passes of the recursion between two looks at the true residual.
PASSES = 4

#: Growth of a residual, as a multiple of its row, from which the recursion counts as diverging.
GROWTH = 1e4

#: Rounding errors that a residual may have, in multiples of the precision of its terms.
ROUNDING = 10

#: Steps of the power iteration from a random start, and from the result for a similar matrix.
POWER_STEPS = (20, 4)


@dataclass(frozen=True)
class NeumannSolution:
    """Solutions of the recursion and how each row fared.

    Attributes:
        value: Solutions as rows, (k, p).
        steps: Steps of the recursion that each row took, (k,).
        residuals: Norm of `row - matrix @ value` of each row, with the exact matrix, (k,).
        converged: Whether that norm is within the tolerance, (k,).
    """

    value: Array
    steps: Array
    residuals: Array
    converged: Array


class GrowthError(ArithmeticError):
    """The recursion grows without bound: a sample has an eigenvalue below 0 or above 2 s.

    Attributes:
        direction: Where it grows, (p,).
    """

    def __init__(self, direction: Array) -> None:
        super().__init__("The recursion grows without bound.")
        self.direction = direction


def neumann_series(
    product: Product,
    samples: Sequence[Iterator[Product]],
    rows: Array,
    *,
    period: int,
    scale: float,
    rtol: float,
    maxiter: int,
) -> NeumannSolution:
    r"""Solve \(A x = b\) for each row b by \(h_{j+1} = b + (I - A_j / s) h_j\) and \(x = h / s\).

    The \(A_j\) are cheap samples of A with mean A. With all \(A_j = A\) the recursion sums the
    Neumann series and converges to the solution. Otherwise it ends in noise in proportion to the
    solution, so after every few periods the average over the last one is kept, and the recursion
    starts again from zero for the residual \(b - A x\) that it left, measured with A itself: the
    noise shrinks with the residual, and the limit is exact here, too. The test is on that residual,
    a norm of the whole row, so coordinates that do not move neither hide nor delay anything. A row
    whose tolerance lies below the precision of the numbers stops where its residual falls no more.

    Args:
        product: Multiplies rows, (j, p), by A, for any j from 1 to k.
        samples: Endless streams of products with samples of A; the corrections that they give are
            averaged.
        rows: Right-hand sides, (k, p).
        period: Number of products after which a stream has seen all of A.
        scale: s, above half the largest eigenvalue of every sample.
        rtol: A row is solved when the norm of its residual is at most `rtol` times its own.
        maxiter: Most steps of a row in each stream.

    Raises:
        GrowthError: a row grows without bound.

    References:
        Agarwal, Bullins and Hazan, "Second-order stochastic optimization for machine learning in
        linear time", JMLR 18 (2017), section 3; Johnson and Zhang, "Accelerating
        stochastic gradient descent using predictive variance reduction", NeurIPS 2013, for the
        restarts from a full pass.
    """
    xp = array_namespace(rows)
    # The squares of small gradients vanish in single precision: solve rows of size one.
    sizes = xp.max(xp.abs(rows), axis=1)
    sizes = xp.maximum(sizes, xp.full_like(sizes, float(xp.finfo(rows.dtype).smallest_normal)))
    b = rows / sizes[:, None]
    x, r, norms, index = xp.zeros_like(b), b, _norms(b), xp.arange(b.shape[0], device=device(b))
    before = xp.full_like(norms, float("inf"))
    rounding = ROUNDING * float(xp.finfo(b.dtype).eps)
    finished: list[tuple[Array, ...]] = []
    step = 0
    while True:
        residuals = _norms(r)
        _check_growth(residuals, of=x, limit=GROWTH * norms)
        done = residuals <= rtol * norms
        # What is no larger than its own rounding error, and falls no more, has come to its end.
        spent = (residuals >= before) & (residuals <= rounding * (norms + scale * _norms(x)))
        leaving = done | spent | (step >= maxiter)
        left, staying = xp.nonzero(leaving)[0], xp.nonzero(~leaving)[0]
        reached = (index, x, xp.full_like(index, step), residuals, done)
        finished.append(tuple(xp.take(part, left, axis=0) for part in reached))
        if staying.shape[0] == 0:
            break
        b, x, r, norms, before, index = (
            xp.take(a, staying, axis=0) for a in (b, x, r, norms, residuals, index)
        )
        budget = min(PASSES * period, maxiter - step)
        step += budget
        found = [_recursion(one, r, steps=budget, period=period, scale=scale) for one in samples]
        x = x + sum(found) / len(found)
        r = b - product(x)
    index, *parts = (xp.concat(pieces) for pieces in zip(*finished, strict=True))
    order = xp.argsort(index)
    x, steps, residuals, done = (xp.take(part, order, axis=0) for part in parts)
    return NeumannSolution(x * sizes[:, None], steps, residuals * sizes, done)


def _recursion(
    stream: Iterator[Product], r: Array, *, steps: int, period: int, scale: float
) -> Array:
    """Run the recursion from zero and average its last period, or half of it if that is shorter."""
    xp = array_namespace(r)
    window = min(period, (steps + 1) // 2)
    # No step of a sample between 0 and 2 s lengthens what is there already, so that after j steps
    # nothing is longer than j first ones. Ten times as much leaves room for rounding.
    longest = 10 * _norms(r) / scale
    next(stream)  # the first step is from zero and needs no product
    d = r / scale
    total = d if window == steps else xp.zeros_like(d)
    for step in range(1, steps):
        d = d + (r - next(stream)(d)) / scale
        _check_growth(_norms(d), of=d, limit=(step + 1) * longest)
        if step >= steps - window:
            total = total + d
    return total / window


def _check_growth(norms: Array, *, of: Array, limit: Array) -> None:
    xp = array_namespace(norms)
    within = norms <= limit
    if not bool(xp.all(within)):
        raise GrowthError(of[int(xp.argmin(xp.astype(within, xp.int8))), :])


def largest_eigenvalue(
    product: Product, start: Array, *, similar: bool = False
) -> tuple[float, Array]:
    """Estimate the largest eigenvalue in absolute value, from below, by power iteration.

    Args:
        product: Multiplies rows, (1, p), by a symmetric matrix.
        start: Where to start, (1, p), not zero.
        similar: Whether the start is the result for a similar matrix, so that few steps do.

    Returns:
        The estimate, and the vector of norm one that it was found with, (1, p).
    """
    row = start / array_namespace(start).linalg.vector_norm(start)
    norm = 0.0
    for _ in range(POWER_STEPS[similar]):
        moved = product(row)
        norm = float(array_namespace(moved).linalg.vector_norm(moved))
        if not 0 < norm < float("inf"):
            break
        row = moved / norm
    return norm, row


def _norms(rows: Array) -> Array:
    return array_namespace(rows).linalg.vector_norm(rows, axis=1)
