"""The training samples that speak most for and against a prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from upweight.plot._axes import axes_or_new, left_out
from upweight.plot._images import draw_images, image_size, images_of
from upweight.plot._texts import draw_bars, texts_of
from upweight.plot._values import positive_count, real_array

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray


def proponents(
    influences: Any,
    samples: Any,
    *,
    k: int = 5,
    labels: Any = None,
    columns: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the top proponents and opponents of a test sample.

    Proponents are the training samples of the largest positive influences, more weight on which
    lowers the loss of the test sample; opponents are those of the largest negative ones. Where there
    are fewer than k, fewer are drawn. Each is drawn with its index, its label and its influence.

    Images make two rows, proponents above, the strongest at the left. Texts and rows of a table make
    bars with the text beside them, from the strongest proponent at the top to the strongest opponent
    at the bottom.

    Args:
        influences: Of all training samples on one test sample, (n,). NaN is left out, and told.
        samples: The training samples: images (n, h, w) or (n, h, w, c) of 1, 3 or 4 channels; texts,
            a sequence of n strings; or rows of a table (n, d). Gray images share one scale from the
            darkest to the brightest number drawn; so do colours that are neither integers in 0 to
            255 nor floats in 0 to 1.
        k: Most proponents, and most opponents.
        labels: One for each training sample, (n,), of any type.
        columns: Names of the columns of a table; those of a data frame are known.
        ax: Where to draw; None makes a figure.

    Raises:
        TypeError: influences or pixels are no real numbers.
        ValueError: a shape is wrong, an influence is infinite, or none differs from zero.
    """
    values = real_array(influences, ndim=1, shape="(n,)", of="influences")
    _check_length("labels", labels, len(values))
    _check_length("samples", samples, len(values))
    chosen = _chosen(values, positive_count(k, of="k"), labels)
    missing = left_out(
        int(np.isnan(values).sum()), len(values), of="training samples", reason="NaN"
    )
    images = images_of(samples, [top.index for top in chosen])
    if images is not None:
        ax = axes_or_new(ax, size=image_size(chosen))
        draw_images(ax, chosen, images)
    else:
        texts = texts_of(samples, [top.index for top in chosen], columns)
        ax = axes_or_new(ax, size=(8, 1 + 0.55 * len(chosen)))
        draw_bars(ax, chosen, texts)
    ax.set_xlabel(f"{'' if images is not None else 'influence'}{missing}".strip())
    return ax


@dataclass(frozen=True)
class Chosen:
    """A training sample that is drawn: where it is, its influence, and its label if there is one."""

    index: int
    influence: float
    label: str


def _chosen(values: NDArray[np.float64], k: int, labels: Any) -> list[Chosen]:
    """Return proponents, then opponents, by falling influence; of equal ones the first are taken."""
    falling, rising = (np.argsort(sign * values, kind="stable") for sign in (-1, 1))
    above = falling[values[falling] > 0][:k]
    below = rising[values[rising] < 0][:k][::-1]
    if not len(above) + len(below):
        raise ValueError("`influences` has no number but zero and NaN: there is nothing to draw.")
    names = None if labels is None else np.asarray(labels)
    return [
        Chosen(int(i), float(values[i]), "" if names is None else str(names[i]))
        for i in (*above, *below)
    ]


def _check_length(name: str, given: Any, n: int) -> None:
    if given is not None and len(given) != n:
        raise ValueError(
            f"`{name}` must hold one for each of the {n} influences; it holds {len(given)}."
        )
