"""A fitted model on its way to disk."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from upweight.digests import data_records, parameter_records
from upweight.errors import ModelError, NotFittedError
from upweight.models._state import Encoder
from upweight.protocols import SupportsSaving
from upweight.saved import check_free, write_group
from upweight.stored import StoreLike, target_of
from upweight.version import __version__

if TYPE_CHECKING:
    from upweight.models._base import CurvatureInfluence


def save(model: CurvatureInfluence[Any], path_or_url: StoreLike, *, overwrite: bool) -> None:
    """Write what a model has learnt; see `SavedInfluence.save`."""
    if not model.is_fitted:
        raise NotFittedError("Call `fit(data)` before `save`.")
    if model.solves_on_workers:
        raise ModelError(
            f"The solves of this {type(model).__name__} are sums over data that is on workers, so "
            "there is nothing to save but its options. Fit it again where it is needed."
        )
    objective = model._objective
    if not isinstance(objective, SupportsSaving):
        raise TypeError(
            f"{type(objective).__name__} does not tell its parameters "
            "(`upweight.protocols.SupportsSaving`), so nobody could check that a saved model is "
            "loaded on the same ones."
        )
    encoder = Encoder()
    told = encoder.method(model)  # refused before anything is written
    target = target_of(path_or_url)
    check_free(target, overwrite=overwrite)
    notes = {
        "version": __version__,
        "libraries": _versions(type(model).__module__.partition(".")[0]),
        "dtype": model.dtype.name,
        "measured": model._measured is not objective,
        "parameters": parameter_records(objective.parameter_values()),
        "data": None,
        "model": told,
    }
    if encoder.data is not None:
        batches = data_records(batch for _, batch in encoder.data)
        notes["data"] = {"joined": encoder.data.join, "batches": batches}
    write_group(target, notes, encoder.arrays, objective.numpy_converter())


def _versions(package: str) -> dict[str, str]:
    """Return the versions of the distributions that made the numbers, as far as they are known."""
    found = {}
    for name in ("numpy", "zarr", "torch", "jax", package.replace("_", "-")):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # one of several backends, or one that is no distribution
            continue
    return found
