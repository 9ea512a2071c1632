"""The axes that are drawn into, and text that is drawn as it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

#: Options of text from the data: dollar signs are no formulas.
PLAIN: dict[str, Any] = {"parse_math": False, "usetex": False}
#: Colours of positive and negative influences, the ends of the colour map `DIVERGING`.
POSITIVE, NEGATIVE = "#2166ac", "#b2182b"
DIVERGING = "RdBu"


def axes_or_new(ax: Axes | None, *, size: tuple[float, float] | None = None) -> Axes:
    """Return the axes, or those of a new figure of this size in inches."""
    if ax is not None:
        return ax
    # Choosing a canvas takes time, and is not needed by those who bring their own.
    from matplotlib import pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")[1]


def add_legend(ax: Axes, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """Add a legend with plain text; unlike handles with labels, one may begin with `_`."""
    for text in ax.legend(handles, labels, fontsize="small").get_texts():
        text.update(PLAIN)


def left_out(count: int, total: int, *, of: str, reason: str) -> str:
    """Say how many of the values are not in the picture, as an addition to a label."""
    return f"\n({count} of {total} {of} left out: {reason})" if count else ""
