"""How a fit or a solve went."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

from upweight.errors import ConvergenceWarning


@dataclass(frozen=True)
class Diagnostics:
    """What is known of a fit or a solve; what does not apply is None.

    Attributes:
        seconds: Wall time.
        steps: Steps of each row.
        residuals: Norm of the residual of each row.
        smallest_eigenvalue: Smallest eigenvalue, or Rayleigh quotient, of the curvature seen.
        largest_eigenvalue: Largest eigenvalue, or Rayleigh quotient, of the curvature seen.
        captured_trace: Share of the trace of the curvature that a low-rank method captured.
    """

    seconds: float
    steps: tuple[int, ...] | None = None
    residuals: tuple[float, ...] | None = None
    smallest_eigenvalue: float | None = None
    largest_eigenvalue: float | None = None
    captured_trace: float | None = None


def warn_if_missed(solution: Any, *, block: str, maxiter: int) -> None:
    """Warn of rows that have not converged, with what would help them.

    Args:
        solution: Of an iterative solve, with steps, residuals and whether each row has converged.
        block: Name of the block.
        maxiter: Most steps that a row was allowed.
    """
    steps_taken, residuals = integers_in(solution.steps), numbers_in(solution.residuals)
    told = zip(steps_taken, residuals, integers_in(solution.converged), strict=True)
    missed = [(steps, residual) for steps, residual, converged in told if not converged]
    if not missed:
        return
    steps, residual = max(steps for steps, _ in missed), max(residual for _, residual in missed)
    advice = "a larger maxiter" if steps >= maxiter else "numbers of double precision"
    warnings.warn(
        f"{len(missed)} of {solution.steps.shape[0]} rows of block {block!r} have not converged "
        f"after at most {steps} steps; the largest residual norm is {residual:.3g}. "
        f"Use a larger regularization, a larger rtol or {advice}.",
        ConvergenceWarning,
        stacklevel=6,
    )


def numbers_in(values: Any) -> tuple[float, ...]:
    """Return real numbers (k,) as those of Python.

    By index: a framework that compiles would compile an iteration for each k.
    """
    return tuple(float(values[i]) for i in range(values.shape[0]))


def integers_in(values: Any) -> tuple[int, ...]:
    """Return integers or truth values (k,) as integers of Python."""
    return tuple(int(values[i]) for i in range(values.shape[0]))
