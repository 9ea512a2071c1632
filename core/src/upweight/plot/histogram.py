"""How self-influences are spread, and which samples have the largest."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from upweight.plot._axes import NEGATIVE, POSITIVE, add_legend, axes_or_new, left_out
from upweight.plot._values import positive_count, real_array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray


def self_influence_histogram(
    self_influences: Any,
    *,
    top: int = 5,
    bins: int = 50,
    log: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Draw a histogram of self-influences, with the largest marked.

    Large ones belong to samples that the model has memorised: rare ones, and mislabeled ones. The
    legend names the top samples by index, the largest first; a triangle marks the place of each.

    Args:
        self_influences: Influence of each training sample on its own loss, (n,). NaN is left out, and
            told; so are numbers that are not positive where the axis is logarithmic.
        top: How many samples to mark; fewer where there are fewer.
        bins: Number of bins, of equal width on the axis.
        log: Whether the axis of self-influences is logarithmic.
        ax: Where to draw; None makes a figure.

    Raises:
        ValueError: the shape is wrong, a value is infinite, or there is none to draw.
    """
    values = real_array(self_influences, ndim=1, shape="(n,)", of="self_influences")
    positive_count(top, of="top")
    positive_count(bins, of="bins")
    drawn = np.flatnonzero(values > 0 if log else ~np.isnan(values))
    if not len(drawn):
        raise ValueError(
            f"`self_influences` has no {'positive number' if log else 'number but NaN'}: "
            "there is nothing to draw."
        )
    numbers = values[drawn]
    largest = drawn[np.argsort(-numbers, kind="stable")[:top]]
    ax = axes_or_new(ax)
    if log:
        ax.set_xscale("log")
    ax.hist(numbers, bins=_edges(numbers, bins, log=log), color=POSITIVE, alpha=0.7)
    (marks,) = ax.plot(
        values[largest],
        np.full(len(largest), 0.03),  # of the height of the axes
        "v",
        color=NEGATIVE,
        transform=ax.get_xaxis_transform(),
    )
    named = f"top {len(largest)}: " + ", ".join(f"#{i}" for i in largest)
    add_legend(ax, [marks], [textwrap.fill(named, 40, max_lines=4, placeholder=" …")])
    told = left_out(int(np.isnan(values).sum()), len(values), of="samples", reason="NaN")
    if log:
        told += left_out(int((values <= 0).sum()), len(values), of="samples", reason="not positive")
    ax.set_xlabel("self-influence" + told)
    ax.set_ylabel("training samples")
    return ax


def _edges(numbers: NDArray[np.float64], bins: int, *, log: bool) -> list[float]:
    if not log:
        return list(map(float, np.histogram_bin_edges(numbers, bins=bins)))
    # Through the exponents the ends may miss the smallest or largest number by a rounding.
    edges = 10 ** np.histogram_bin_edges(np.log10(numbers), bins=bins)
    edges[0], edges[-1] = min(edges[0], numbers.min()), max(edges[-1], numbers.max())
    return list(map(float, edges))
