"""Influences between Dask arrays, as Dask arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import uuid4

from upweight.calculators._blockwise import DaskTree
from upweight.calculators._checks import (
    bytes_of,
    check_fitted,
    check_local,
    check_single_threaded,
    checked_client,
    scattered,
)
from upweight.calculators._chunks import check_chunks
from upweight.calculators._factors import Factors
from upweight.calculators._graphs import Graphs
from upweight.calculators._marking import NanPolicy
from upweight.calculators._storing import Compute, Source, compute_locally, compute_on, store
from upweight.influence import (
    InfluenceFunctionModel,
    InfluenceMode,
    ModeLike,
    both_or_default,
)
from upweight.protocols import NumpyConverter

if TYPE_CHECKING:
    import dask.array as da
    from distributed import Client
    from zarr import Array as ZarrArray

    from upweight.coords import Coords
    from upweight.stored import StoreLike

A = TypeVar("A")


class DisableClientSingleThreadCheck:
    """Passed instead of a client: there is none, or its workers need no check."""


class DaskInfluenceCalculator(Generic[A]):
    """Influences between Dask arrays that are chunked along their samples, computed lazily.

    `reduce_influences` keeps of them what is needed, in little memory.
    One task solves the factors of one test chunk. One task computes the influences of one training
    chunk on a group of consecutive test chunks: as many as have factors that fit `max_memory`.

    Args:
        influence_function_model: A fitted model. It is sent to the workers once.
        converter: Turns chunks into arrays of the framework of the model, and results back.
        client: The client of the cluster, or `DisableClientSingleThreadCheck` to compute with any
            other scheduler of Dask.
        max_memory: Bytes that the factors of a group may take, a number or a string such as
            "2 GiB".
        nan_policy: What becomes of samples whose gradient or influence is NaN or infinite; see
            `SequentialInfluenceCalculator`.

    Raises:
        NotFittedError: the model is not fitted.
        TypeError: `client` is something else.
        ModelError: the model cannot be pickled for other processes, or its solves are tasks.
        ThreadSafetyViolationError: the model is not thread-safe, and a worker has several threads.
    """

    def __init__(
        self,
        influence_function_model: InfluenceFunctionModel[A],
        converter: NumpyConverter[A],
        client: Client | type[DisableClientSingleThreadCheck],
        *,
        max_memory: int | str = 2**28,
        nan_policy: NanPolicy = "raise",
    ) -> None:
        check_fitted(influence_function_model)
        check_local(influence_function_model)
        self._primal = Factors.of(influence_function_model, nan_policy)
        self._factors = {
            mode: Factors.cheapest(influence_function_model, mode, nan_policy)
            for mode in InfluenceMode
        }
        self._dtype = influence_function_model.dtype
        self._described = influence_function_model.describe()
        self._sources: dict[str, Source] = {}  # of the arrays that were returned, by their names
        self._compute: Compute = compute_locally
        held: Any
        if client is DisableClientSingleThreadCheck:
            from dask.delayed import delayed

            name = f"influence-model-{uuid4().hex}"
            held = delayed(influence_function_model, name=name, traverse=False)
        else:
            connected = checked_client(client)
            self._compute = compute_on(connected)
            if not influence_function_model.is_thread_safe:
                check_single_threaded(connected)
            held = scattered(influence_function_model, connected)
        self._graphs = Graphs(held, converter, self._dtype, bytes_of(max_memory))

    def influence_factors(self, x: DaskTree, y: DaskTree) -> da.Array:
        """Return the influence factors of all samples, lazily.

        Args:
            x: Inputs of n samples, an array or a tuple or mapping of arrays.
            y: Labels of the samples.

        Returns:
            (n, p), chunked like the samples.

        Raises:
            InvalidDimensionChunksError: an array is chunked along another axis than the samples.
            UnalignedChunksError: the arrays are not chunked alike along the samples.
        """
        factors = self._factors_of(self._primal, x, y)
        return self._noted(factors, "influence factors", ("sample",), given=(x, y))

    def self_influences(self, x: DaskTree, y: DaskTree) -> da.Array:
        """Return the influence of each sample on itself, lazily, without those on the others.

        Args:
            x: Inputs of n samples, an array or a tuple or mapping of arrays.
            y: Labels of the samples.

        Returns:
            (n,), chunked like the samples.

        Raises:
            InvalidDimensionChunksError: an array is chunked along another axis than the samples.
            UnalignedChunksError: the arrays are not chunked alike along the samples.
        """
        what = "self-influences"
        values = self._graphs.for_each_chunk(self._primal.self_influences, what, x, y, new_axes={})
        return self._noted(values, what, ("sample",), given=(x, y))

    def influences(
        self,
        x_test: DaskTree,
        y_test: DaskTree,
        x: DaskTree | None = None,
        y: DaskTree | None = None,
        mode: ModeLike = InfluenceMode.Up,
    ) -> da.Array:
        """Return the influences of all training samples on all test samples, lazily.

        Args:
            x_test: Inputs of k test samples.
            y_test: Labels of the test samples.
            x: Inputs of n training samples; without `x` and `y`, the test samples themselves.
            y: Labels of the training samples.
            mode: What of the training samples is varied.

        Returns:
            (k, n) for `InfluenceMode.Up`, (k, n, *x) for `InfluenceMode.Perturbation`, chunked
            by groups of test chunks and by training chunks.

        Raises:
            ValueError: only one of `x` and `y` is given.
            UnsupportedInfluenceModeError: the mode is unknown, or the input is not floating-point.
            InvalidDimensionChunksError: an array is chunked along another axis than the samples.
            UnalignedChunksError: the arrays of a batch are not chunked alike along the samples.
        """
        x_train, y_train = both_or_default(x, y, default=(x_test, y_test))
        mode = InfluenceMode(mode)
        check_chunks(x_train, y_train)
        form = self._factors[mode]
        factors = self._factors_of(form, x_test, y_test)
        values = self._graphs.influences(form, factors, x_train, y_train, mode)
        data = {"test": (x_test, y_test), "training": (x_train, y_train)}
        return self._noted(values, "influences", ("test", "train"), mode=mode, **data)

    def influences_from_factors(
        self,
        z_test_factors: da.Array,
        x: DaskTree,
        y: DaskTree,
        mode: ModeLike = InfluenceMode.Up,
    ) -> da.Array:
        """Return the influences of all training samples, given the factors of test samples, lazily.

        Args:
            z_test_factors: What `influence_factors` returned for k test samples, (k, p).
            x: Inputs of n training samples.
            y: Labels of the training samples.
            mode: What of the training samples is varied.

        Returns:
            (k, n) for `InfluenceMode.Up`, (k, n, *x) for `InfluenceMode.Perturbation`, chunked
            by groups of test chunks and by training chunks.

        Raises:
            UnsupportedInfluenceModeError: the mode is unknown, or the input is not floating-point.
            InvalidDimensionChunksError: an array is chunked along another axis than the samples.
            UnalignedChunksError: the arrays of a batch are not chunked alike along the samples.
        """
        mode = InfluenceMode(mode)
        values = self._graphs.influences(self._primal, z_test_factors, x, y, mode)
        what = "influences from factors"
        return self._noted(values, what, ("test", "train"), mode=mode, training=(x, y))

    def to_zarr(
        self,
        array: da.Array,
        path_or_url: StoreLike,
        return_stored: bool = False,
        overwrite: bool = False,
        *,
        resume: bool = False,
        encoding: Mapping[str, Any] | None = None,
        component: str | None = None,
        coords: Coords | None = None,
        progress: bool = True,
    ) -> ZarrArray[Any] | None:
        """Compute an array of this calculator, each block written by the worker that computed it.

        The attribute `upweight` of the array says what it was computed from, and `"complete": true`
        only once everything is written. All data is read once more, for checksums of its chunks.

        Args:
            array: What a method of this calculator returned, as it is.
            path_or_url: A path or URL that all workers reach, or a Zarr v3 store.
            return_stored: Whether to return the array, opened for reading.
            overwrite: Whether an array that is there already may be replaced.
            resume: Whether it is continued instead; see `NestedLazyChunkSequence.to_zarr`.
            encoding: Further options of `zarr.create_array`; see
            component: `NestedLazyChunkSequence.to_zarr`,
            coords: also for these.
            progress: Whether to show progress bars.

        Raises:
            ValueError: the array does not come from this calculator, or there are not as many ids
                as samples.
            InvalidDimensionChunksError: the blocks of the array are not of one size.
            FileExistsError, ResumeError, DataError: As in `NestedLazyChunkSequence.to_zarr`.
        """
        from upweight.store import BlockArray
        from upweight.stored import Place

        source = self._sources.get(array.name)
        if source is None:
            raise ValueError("Pass an array as this calculator returned it, not one made from it.")
        target = BlockArray(
            Place.of(path_or_url, component),
            names=source.names,
            coords=coords,
            overwrite=overwrite,
            resume=resume,
            encoding=encoding,
        )
        stored = store(array, source, target, compute=self._compute, progress=progress)
        return stored if return_stored else None

    def _factors_of(self, form: Factors, x: DaskTree, y: DaskTree) -> da.Array:
        width = {-1: form.width}
        return self._graphs.for_each_chunk(form.solve, "factors", x, y, new_axes=width)

    def _noted(
        self, array: da.Array, what: str, names: tuple[str, ...], mode: str = "", **data: Any
    ) -> da.Array:
        identity = {
            **self._described,
            "dtype": str(self._dtype),
            "calculator": "dask",
            "what": what,
        }
        self._sources[array.name] = Source(identity | ({"mode": mode} if mode else {}), names, data)
        return array
