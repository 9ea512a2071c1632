"""Eigenvalues of a curvature, and what damping leaves of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from upweight.plot._axes import NEGATIVE, POSITIVE, add_legend, axes_or_new, left_out
from upweight.plot._values import real_array

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes


def spectrum(eigenvalues: Any, *, damping: float, ax: Axes | None = None) -> Axes:
    r"""Draw the eigenvalues of a curvature by rank, and the damping.

    The effective dimension \(\sum_i \lambda_i / (\lambda_i + \lambda)\), over positive eigenvalues,
    counts the directions that the damping leaves: one far above it counts 1, one far below it 0. It
    is told in the legend. Negative eigenvalues, which a Hessian may have, are drawn by their
    magnitude, in another colour: those beyond the damping make the damped curvature indefinite.

    Args:
        eigenvalues: \(\lambda_i\), of the curvature without damping, in any order, (p,), or those
            that are known. NaN and zeros are left out, and told.
        damping: \(\lambda \ge 0\), the regularization, in the units of the eigenvalues.
        ax: Where to draw; None makes a figure.

    Raises:
        ValueError: the shape is wrong, a value is infinite, the damping is negative or not finite, or
            there is nothing to draw.

    References:
        Hastie, Tibshirani and Friedman, "The Elements of Statistical Learning", 2nd edition (2009),
        equation 3.50, for the sum.
    """
    values = real_array(eigenvalues, ndim=1, shape="(p,)", of="eigenvalues")
    if not 0 <= damping < np.inf:
        raise ValueError(f"`damping` must be finite and not negative; got {damping!r}.")
    above, below = values[values > 0], -values[values < 0]
    if not len(above) + len(below):
        raise ValueError("`eigenvalues` has no number but zero and NaN: there is nothing to draw.")
    ax = axes_or_new(ax)
    ax.set_yscale("log")
    told: list[tuple[Artist, str]] = []
    for kind, magnitudes, colour in (
        ("eigenvalues", above, POSITIVE),
        ("negative eigenvalues, magnitude", below, NEGATIVE),
    ):
        if len(magnitudes):
            falling = np.sort(magnitudes)[::-1]
            (line,) = ax.plot(
                np.arange(1, len(falling) + 1), falling, ".-", color=colour, markersize=4
            )
            told.append((line, kind))
    known = int((~np.isnan(values)).sum())
    dimension = float((above / (above + damping)).sum())
    named = f"damping {damping:.3g}, effective dimension {dimension:.3g} of {known}"
    line = ax.axhline(damping or np.nan, color="black", linestyle="--", linewidth=1)
    told.append((line, named))
    add_legend(ax, *zip(*told, strict=True))
    missing = left_out(int(np.isnan(values).sum()), len(values), of="eigenvalues", reason="NaN")
    missing += left_out(int((values == 0).sum()), len(values), of="eigenvalues", reason="zero")
    ax.set_xlabel("rank" + missing)
    ax.set_ylabel("eigenvalue")
    return ax
