"""Samples as the page shows them: images, texts, or rows of a table, read one by one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from upweight.report._images import thumbnail

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Longer texts end in an ellipsis.
LENGTH = 600


@dataclass(frozen=True)
class Given:
    """What the caller gave of the samples of one axis: each part has n items, or is None.

    Attributes:
        samples: Images (n, h, w) or (n, h, w, c), texts, or rows of a table (n, d).
        labels: Of any type.
        predictions: Of any type.
        columns: Names of the columns of a table.
    """

    samples: Any = None
    labels: Any = None
    predictions: Any = None
    columns: Sequence[str] | None = None

    def check(self, side: str, n: int, *, complete: bool = True) -> None:
        """Check that there is one of each for every sample.

        An incomplete result may have room for more samples than there are.

        Raises:
            TypeError: something has no length, or cannot be indexed.
            ValueError: there are more or fewer.
        """
        for name, given in (
            (f"{side}_samples", self.samples),
            (f"{side}_labels", self.labels),
            ("predictions", self.predictions),
        ):
            if given is None:
                continue
            length = _length(name, given)
            if length > n or (complete and length < n):
                raise ValueError(
                    f"`{name}` must hold one for each of the {n} {side} samples of the result; "
                    f"it holds {length}."
                )


def contents(given: Given, side: str, indices: Iterable[int]) -> dict[int, str | NDArray[Any]]:
    """Return the text, or the thumbnail, of each sample at these indices.

    Raises:
        TypeError: pixels are no real numbers.
        ValueError: a sample is neither an image, a text nor a row of a table.
    """
    if given.samples is None:
        return {}
    names = given.columns
    if names is None:
        names = getattr(given.samples, "columns", None)
    name = f"{side}_samples"
    return {i: _content(_item(given.samples, i, name), names, f"{name}[{i}]") for i in indices}


def facts(given: Given, side: str, index: int) -> dict[str, str]:
    """Return the label and the prediction of a sample, as far as they are known."""
    known = {
        "label": (given.labels, f"{side}_labels"),
        "prediction": (given.predictions, "predictions"),
    }
    return {
        name: as_text(_item(values, index, argument))
        for name, (values, argument) in known.items()
        if values is not None
    }


def as_text(value: Any) -> str:
    """Return a value as text, numbers in four digits."""
    value = value.item() if getattr(value, "ndim", None) == 0 else value
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _content(sample: Any, names: Sequence[str] | None, of: str) -> str | NDArray[Any]:
    if isinstance(sample, str):
        return sample if len(sample) <= LENGTH else sample[: LENGTH - 1] + "…"
    shape = np.shape(sample)
    if len(shape) == 1 and shape[0]:
        return _row(sample, names, of)
    image = np.asarray(sample)
    if len(shape) == 3 and shape[2] == 1:
        image = image[..., 0]
    if 0 in shape or image.ndim not in (2, 3) or (image.ndim == 3 and shape[2] not in (3, 4)):
        raise ValueError(
            f"`{of}` must be an image (h, w) or, channels last, (h, w, c) of 1, 3 or 4 channels, a "
            f"string, or a row of a table (d,); got {type(sample).__name__} of shape {shape}."
        )
    if image.dtype.kind not in "buif":
        raise TypeError(f"Pixels must be real numbers; `{of}` has {image.dtype}.")
    return thumbnail(image)


def _row(row: Any, names: Sequence[str] | None, of: str) -> str:
    cells = [as_text(cell) for cell in row]
    if names is None:
        return ", ".join(cells)
    if len(names) != len(cells):
        raise ValueError(f"`columns` has {len(names)} names; `{of}` has {len(cells)} numbers.")
    return ", ".join(f"{name}={cell}" for name, cell in zip(names, cells, strict=True))


def _item(values: Any, index: int, name: str) -> Any:
    by_place = values.iloc if hasattr(values, "iloc") else values  # data frames go by name
    try:
        return by_place[index]
    except IndexError as error:
        raise ValueError(f"`{name}` has no item {index}, which the page shows.") from error


def _length(name: str, given: Any) -> int:
    shape = getattr(given, "shape", None)
    try:
        if isinstance(given, str) or not hasattr(given, "__getitem__"):
            raise TypeError
        return int(shape[0]) if shape else len(given)
    except TypeError:
        raise TypeError(
            f"`{name}` must have a length and be indexed by an integer, as arrays and lists are; "
            f"got {type(given).__name__}."
        ) from None
