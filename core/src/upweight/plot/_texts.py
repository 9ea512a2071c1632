"""Training samples as texts, beside bars of their influence."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from upweight.plot._axes import NEGATIVE, PLAIN, POSITIVE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from upweight.plot.proponents import Chosen

#: Longer texts are wrapped, and end in an ellipsis.
WIDTH, LINES = 60, 3


def texts_of(samples: Any, indices: Sequence[int], columns: Sequence[str] | None) -> list[str]:
    """Return texts, or rows of a table with the names of their columns, at these indices."""
    names = getattr(samples, "columns", None) if columns is None else columns
    rows = samples.iloc if hasattr(samples, "iloc") else samples  # a data frame is indexed by name
    found = [rows[i] for i in indices]
    if all(isinstance(text, str) for text in found):
        return [str(text) for text in found]
    widths = {np.shape(row) for row in found}
    width = min(widths)
    if len(widths) > 1 or len(width) != 1:
        raise ValueError(
            "`samples` must be images (n, h, w[, c]), n strings, or rows of a table (n, d); "
            f"got samples of {sorted(widths)} and type {type(found[0]).__name__}."
        )
    if names is not None and len(names) != width[0]:
        raise ValueError(f"`columns` must name all {width[0]} columns; got {len(names)} names.")
    return [", ".join(_cells(row, names)) for row in found]


def draw_bars(ax: Axes, chosen: Sequence[Chosen], texts: Sequence[str]) -> None:
    """Draw a bar for each influence, from the top, and its text beside it."""
    influences = [top.influence for top in chosen]
    colours = [POSITIVE if influence > 0 else NEGATIVE for influence in influences]
    bars = ax.barh(range(len(chosen)), influences, color=colours)
    ax.bar_label(bars, labels=[f"{influence:+.3g}" for influence in influences], padding=3)
    ax.set_yticks(
        range(len(chosen)),
        [_beside(top, text) for top, text in zip(chosen, texts, strict=True)],
        fontsize="small",
        **PLAIN,
    )
    ax.set_ylim(len(chosen) - 0.5, -0.5)
    ax.axvline(0.0, color="black", linewidth=0.8)
    ax.margins(x=0.2)  # for the numbers at the ends of bars


def _beside(top: Chosen, text: str) -> str:
    label = f"[{top.label}] " if top.label else ""
    words = f"#{top.index} {label}{text}".split()  # of line breaks and tabs, spaces remain
    return textwrap.fill(" ".join(words), WIDTH, max_lines=LINES, placeholder=" …")


def _cells(row: Any, names: Sequence[str] | None) -> list[str]:
    cells = [
        f"{cell:.4g}" if isinstance(cell, float | np.floating) else str(cell)
        for cell in (value.item() if hasattr(value, "item") else value for value in row)
    ]
    if names is None:
        return cells
    return [f"{name}={cell}" for name, cell in zip(names, cells, strict=True)]
