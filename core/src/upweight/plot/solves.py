"""How far iterative solves came, and in how many steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from upweight.plot._axes import add_legend, axes_or_new, left_out
from upweight.plot._values import positive_count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes


class SolveDiagnostics(Protocol):
    """What is drawn of a solve."""

    @property
    def steps(self) -> Sequence[int] | None:
        """Steps of each row."""

    @property
    def residuals(self) -> Sequence[float] | None:
        """Norm of the residual of each row."""


def solver_convergence(
    diagnostics: Mapping[str, SolveDiagnostics],
    *,
    maxiter: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the residual at which the solve of each row stopped against its steps.

    A row is a right-hand side: the gradient of one test sample. Rows at the limit of steps have most
    likely not converged. Residuals are those of the last step; earlier ones are not kept.

    Args:
        diagnostics: `model.solve_diagnostics`, by block. Blocks without steps and residuals, which
            are solved directly, are left out, and told.
        maxiter: The limit of steps that the model was made with, drawn as a line.
        ax: Where to draw; None makes a figure.

    Raises:
        ValueError: no block has steps and residuals, as before the first solve or with a direct
            method; or a block has not as many steps as residuals.
    """
    if maxiter is not None:
        positive_count(maxiter, of="maxiter")
    solves = {block: _rows(block, told) for block, told in diagnostics.items()}
    drawn = {block: rows for block, rows in solves.items() if rows is not None and rows.size}
    if not drawn:
        raise ValueError(
            "`diagnostics` has no block with steps and residuals. Give the `solve_diagnostics` of a "
            "model that iterates, such as CgInfluence, after it has solved."
        )
    ax = axes_or_new(ax)
    ax.set_yscale("log")
    handles: list[Artist] = []
    zeros = 0
    for rows in drawn.values():
        # A logarithmic axis has no place for zero, the residual of a gradient that is zero.
        steps, residuals = rows[:, rows[1] > 0]
        zeros += int((rows[1] == 0).sum())
        handles.append(ax.plot(steps, residuals, "o", alpha=0.6)[0])
    names = list(drawn)
    if maxiter is not None:
        reached = sum(int((rows[0] >= maxiter).sum()) for rows in drawn.values())
        handles.append(ax.axvline(maxiter, color="black", linestyle="--", linewidth=1))
        names.append(f"maxiter {maxiter}, reached by {reached}")
    add_legend(ax, handles, names)
    total = sum(rows.shape[1] for rows in drawn.values())
    failed = sum(int(np.isnan(rows[1]).sum()) for rows in drawn.values())
    ax.set_xlabel(
        "steps"
        + left_out(len(solves) - len(drawn), len(solves), of="blocks", reason="no steps")
        + left_out(zeros, total, of="rows", reason="residual zero")
        + left_out(failed, total, of="rows", reason="residual NaN")
    )
    ax.set_ylabel("norm of the residual")
    return ax


def _rows(block: str, told: SolveDiagnostics) -> np.ndarray | None:
    """Return steps and residuals, (2, k), or None where the block was not solved by steps."""
    if told.steps is None or told.residuals is None:
        return None
    if len(told.steps) != len(told.residuals):
        raise ValueError(
            f"Block {block!r} has {len(told.steps)} steps and {len(told.residuals)} residuals; "
            "both must have one for each row."
        )
    return np.array([told.steps, told.residuals], dtype=np.float64)
