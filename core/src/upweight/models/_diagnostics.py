"""How a fit or a solve went."""

from __future__ import annotations

from dataclasses import dataclass


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
