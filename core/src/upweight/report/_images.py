"""Thumbnails of images, and how their numbers become brightness."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from upweight.report._png import data_uri

if TYPE_CHECKING:
    from numpy.typing import NDArray

Key = TypeVar("Key", bound=Hashable)

#: The longest side of a thumbnail, in pixels.
SIDE = 96


def thumbnail(image: NDArray[Any]) -> NDArray[Any]:
    """Return an image (h, w[, c]) of at most `SIDE` pixels a side; each is the mean of a square."""
    step = -(-max(image.shape[:2]) // SIDE)
    if step == 1:
        return image
    small: NDArray[Any] = image.astype(np.float32)
    for axis in (0, 1):
        starts = np.arange(0, image.shape[axis], step)
        sizes = np.diff(starts, append=image.shape[axis])
        lengths = sizes.reshape(-1, *(1 for _ in small.shape[axis + 1 :]))
        small = np.add.reduceat(small, starts, axis=axis) / lengths.astype(np.float32)
    return small.round().astype(image.dtype) if image.dtype.kind in "ui" else small


def encoded(images: Mapping[Key, NDArray[Any]]) -> tuple[dict[Key, str], list[str]]:
    """Return data URIs of images, and sentences on what black, white and colours stand for.

    Gray images share one scale, from the darkest to the brightest number among them. Colours do so
    as well, unless all of them are integers in 0 to 255 or floats in 0 to 1.
    """
    uris, told = {}, []
    for name, ndim in (("Gray images", 2), ("Colours", 3)):
        of_kind = {key: image for key, image in images.items() if image.ndim == ndim}
        if of_kind:
            low, high = _range(list(of_kind.values()), fixed=ndim == 3)
            uris.update({key: data_uri(_bytes(i, low, high)) for key, i in of_kind.items()})
            told.append(f"{name}: {low:.4g} is black, {high:.4g} is white.")
    return uris, told


def _range(images: list[NDArray[Any]], *, fixed: bool) -> tuple[float, float]:
    finite = [image[np.isfinite(image)] for image in images]
    filled = [values for values in finite if values.size]
    low = min((float(values.min()) for values in filled), default=0.0)
    high = max((float(values.max()) for values in filled), default=1.0)
    if fixed and low >= 0:
        if high <= 255 and all(image.dtype.kind in "ui" for image in images):
            return 0.0, 255.0
        if high <= 1:
            return 0.0, 1.0
    return low, high


def _bytes(image: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    finite = np.where(np.isfinite(image), image, low).astype(np.float64)
    # Halves, since the range of numbers near the largest of float64 is infinite.
    span = (high / 2 - low / 2) or 0.5
    return (((finite / 2 - low / 2) / span) * 255).round().clip(0, 255).astype(np.uint8)
