"""Influences of all training on all test samples, those that are alike side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator
from scipy.cluster.hierarchy import leaves_list, linkage

from upweight.plot._axes import DIVERGING, axes_or_new, left_out
from upweight.plot._values import real_array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from numpy.typing import NDArray

#: Most rows and most columns: a screen shows no more, and memory grows with the square.
LARGEST = 2000


def influence_heat_map(
    influences: Any,
    *,
    cluster: bool = True,
    limit: float | None = None,
    colorbar: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw influences as colours, with rows and columns in the order of their clusters.

    Rows and columns are each ordered by hierarchical clustering, average linkage of Euclidean
    distances, so that samples with similar influences are neighbours. Ticks name the samples by
    their index in `influences`. Colours are symmetric: blue is positive, red negative, white zero.

    Args:
        influences: Of n training samples on k test samples, (k, n), with at most 2000 rows and 2000
            columns. Rows and columns of nothing but NaN are left out, and told.
        cluster: Whether to change the order.
        limit: Influence at which colours end, in its units; None takes the largest magnitude. A few
            large influences leave the others white: try a quantile of the magnitudes.
        colorbar: Whether to add a colour bar, in axes of its own beside these.
        ax: Where to draw; None makes a figure.

    Raises:
        ValueError: the shape is wrong or too large, a value is infinite, NaN stands in a row and a
            column with numbers, or the limit is not positive.

    References:
        Müllner, "Modern hierarchical, agglomerative clustering algorithms" (2011), section 2, for
        average linkage; computed by SciPy.
    """
    values = real_array(influences, ndim=2, shape="(k, n)", of="influences")
    if max(values.shape) > LARGEST:
        raise ValueError(
            f"A heat map has at most {LARGEST} rows and columns; got {values.shape}. Choose, such "
            "as the columns of the largest np.abs(influences).sum(axis=0)."
        )
    rows, columns = _kept(values)
    limit = _checked_limit(limit, values)
    if cluster:
        rows = rows[_cluster_order(values[np.ix_(rows, columns)])]
        columns = columns[_cluster_order(values[np.ix_(rows, columns)].T)]
    ax = axes_or_new(ax)
    shown = values[np.ix_(rows, columns)]
    image = ax.imshow(
        shown, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest"
    )
    _name_ticks(ax.yaxis, rows)
    _name_ticks(ax.xaxis, columns)
    k, n = values.shape
    ax.set_ylabel("test sample" + left_out(k - len(rows), k, of="rows", reason="NaN"))
    ax.set_xlabel("training sample" + left_out(n - len(columns), n, of="columns", reason="NaN"))
    if colorbar:
        extend = "both" if np.abs(shown).max() > limit else "neither"
        ax.figure.colorbar(image, ax=ax, label="influence", extend=extend)
    return ax


def _kept(values: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the indices of rows and of columns that hold numbers."""
    marked = np.isnan(values)
    rows, columns = np.flatnonzero(~marked.all(axis=1)), np.flatnonzero(~marked.all(axis=0))
    if not len(rows):
        raise ValueError("`influences` has nothing but NaN: there is nothing to draw.")
    if marked[np.ix_(rows, columns)].any():
        whole = marked.all(axis=1, keepdims=True) | marked.all(axis=0, keepdims=True)
        lone = np.argwhere(marked & ~whole)
        raise ValueError(
            "NaN must fill the row or column of a marked sample; it stands alone at "
            f"{lone[:5].tolist()}."
        )
    return rows, columns


def _checked_limit(limit: float | None, values: NDArray[np.float64]) -> float:
    """Return where colours end; 1 where all influences are zero."""
    if limit is None:
        return float(np.nanmax(np.abs(values))) or 1.0
    if not 0 < limit < np.inf:
        raise ValueError(f"`limit` must be positive and finite; got {limit!r}.")
    return float(limit)


def _cluster_order(rows: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the order of rows, (k,), in which those that are alike are neighbours."""
    if len(rows) < 3:
        return np.arange(len(rows))
    # The order does not depend on the unit, and squares of tiny numbers must not vanish.
    scaled = rows / (np.abs(rows).max() or 1.0)
    return np.asarray(leaves_list(linkage(scaled, method="average")), dtype=np.intp)


def _name_ticks(axis: Axis, indices: NDArray[np.intp]) -> None:
    """Name whole positions by the index of the sample there, also after zooming."""

    def name(position: float, _: object = None) -> str:
        place = round(position)
        at_sample = abs(position - place) < 1e-6 and 0 <= place < len(indices)
        return str(indices[place]) if at_sample else ""

    axis.set_major_locator(MaxNLocator(nbins=12, integer=True))
    axis.set_major_formatter(FuncFormatter(name))
