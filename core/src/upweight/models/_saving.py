"""Fitted methods that are saved, for other processes and other days."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from upweight.models._by_block import InfluencesByBlock

if TYPE_CHECKING:
    from upweight.stored import StoreLike

A = TypeVar("A")


class SavedInfluence(InfluencesByBlock[A]):
    """An influence model that can be saved; see `upweight.load`."""

    def save(self, path_or_url: StoreLike, *, overwrite: bool = False) -> None:
        """Write what `fit` has learnt to a Zarr group, for `upweight.load`.

        Written are the options of the method, its curvatures, and checksums of the parameters and
        buffers of the model; not the model and the loss, nor any training data. Methods that need
        the training data for every solve get its checksums instead, and the data when they are
        loaded. Nothing is pickled.

        Args:
            path_or_url: A path, a URL that fsspec understands, or a Zarr v3 store.
            overwrite: Whether a model that was saved there may be replaced.

        Raises:
            NotFittedError: `fit` has not been called.
            ModelError: its solves are computed on workers, from data that is there.
            FileExistsError: there is something already.
            TypeError: the method or a part of it is not one of upweight, or the objective does not
                tell its parameters (`upweight.protocols.SupportsSaving`).
        """
        from upweight.saving import save

        save(self, path_or_url, overwrite=overwrite)  # type: ignore[arg-type]  # every method is a CurvatureInfluence
