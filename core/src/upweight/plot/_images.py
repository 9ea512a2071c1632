"""Training samples as images: proponents in one row, opponents in the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from upweight.plot._axes import NEGATIVE, PLAIN, POSITIVE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from upweight.plot.proponents import Chosen

#: An image is one unit wide; between two there is room, and below each for two lines of text.
GAP, CAPTION = 0.12, 0.38


def images_of(samples: Any, indices: Sequence[int]) -> NDArray[Any] | None:
    """Return the images at these indices, (m, h, w) or (m, h, w, c); None for other samples."""
    ndim = getattr(samples, "ndim", None)
    if ndim is None and not isinstance(samples[0], str):
        ndim = np.ndim(samples[0]) + 1
    if ndim is None or ndim < 3:
        return None
    shapes = {np.shape(samples[i]) for i in indices}
    shape = min(shapes)
    if len(shapes) > 1 or ndim > 4 or 0 in shape or (ndim == 4 and shape[-1] not in (1, 3, 4)):
        raise ValueError(
            "Images must have one shape, (n, h, w) or, channels last, (n, h, w, c) of 1, 3 or 4 "
            f"channels; got images of {sorted(shapes)}."
        )
    images = np.stack([np.asarray(samples[i]) for i in indices])
    if images.dtype.kind not in "buif":
        raise TypeError(f"Pixels must be real numbers; got {images.dtype}.")
    return images[..., 0] if ndim == 4 and shape[-1] == 1 else _colours(images)


def image_size(chosen: Sequence[Chosen]) -> tuple[float, float]:
    """Return the size of a figure for these, in inches."""
    above = sum(top.influence > 0 for top in chosen)
    longest, rows = max(above, len(chosen) - above), (above > 0) + (above < len(chosen))
    return 1.3 * max(longest, 2) + 0.6, 1.8 * rows + 0.3


def draw_images(ax: Axes, chosen: Sequence[Chosen], images: NDArray[Any]) -> None:
    """Draw images, and below each what it is."""
    height = images.shape[1] / images.shape[2]
    rows = [
        ("proponents", POSITIVE, [i for i, top in enumerate(chosen) if top.influence > 0]),
        ("opponents", NEGATIVE, [i for i, top in enumerate(chosen) if top.influence < 0][::-1]),
    ]
    rows = [row for row in rows if row[2]]
    gray = {"cmap": "gray", "vmin": np.nanmin(images), "vmax": np.nanmax(images)}
    pitch = height + CAPTION
    for row, (name, colour, places) in enumerate(rows):
        top = -row * pitch
        for column, place in enumerate(places):
            left = column * (1 + GAP)
            extent = (left, left + 1, top - height, top)
            ax.imshow(images[place], extent=extent, **(gray if images.ndim == 3 else {}))
            ax.text(left + 0.5, top - height - 0.03, _caption(chosen[place]), **_text(colour))
        ax.text(-GAP, top - height / 2, name, rotation=90, ha="right", va="center", color=colour)
    longest = max(len(places) for _, _, places in rows)
    ax.set_xlim(-3 * GAP, longest * (1 + GAP))
    ax.set_ylim(-len(rows) * pitch, GAP)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)


def _caption(top: Chosen) -> str:
    label = top.label if len(top.label) <= 16 else top.label[:15] + "…"
    first = f"#{top.index}" + (f" [{label}]" if label else "")
    return f"{first}\n{top.influence:+.3g}"


def _text(colour: str) -> dict[str, Any]:
    return {"ha": "center", "va": "top", "fontsize": "small", "color": colour, **PLAIN}


def _colours(images: NDArray[Any]) -> NDArray[Any]:
    """Return colours in a range that matplotlib does not cut: floats in 0 to 1."""
    if images.ndim == 3:
        return images
    low, high = float(np.nanmin(images)), float(np.nanmax(images))
    if images.dtype.kind in "ui" and low >= 0 and high <= 255:
        return images / 255.0
    if low >= 0 and high <= 1:
        return images.astype(np.float64)
    return (images - low) / ((high - low) or 1.0)
