"""What both calculators check before they start."""

from __future__ import annotations

from typing import Any

from upweight.errors import NotFittedError
from upweight.influence import InfluenceFunctionModel


def check_fitted(model: InfluenceFunctionModel[Any]) -> None:
    """Refuse a model that is not fitted.

    Raises:
        TypeError: this is no influence model.
        NotFittedError: the model is not fitted.
    """
    if not isinstance(model, InfluenceFunctionModel):
        raise TypeError(
            f"Pass an InfluenceFunctionModel, such as DirectInfluence; got {type(model).__name__!r}."
        )
    if not model.is_fitted:
        raise NotFittedError("Call `fit(data)` on the model before passing it to a calculator.")


def bytes_of(size: int | str) -> int:
    """Return a number of bytes, given as a number or as a string such as "2 GiB"."""
    if isinstance(size, str):
        from dask.utils import parse_bytes

        size = int(parse_bytes(size))
    if size <= 0:
        raise ValueError(f"`max_memory` must be positive; got {size}.")
    return size
