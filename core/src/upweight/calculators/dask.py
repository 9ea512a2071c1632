"""Influences between Dask arrays, as Dask arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar
from uuid import uuid4

from upweight.calculators._checks import bytes_of, check_fitted
from upweight.calculators._chunks import check_chunks, check_factor_chunks, merged_chunks
from upweight.calculators._factors import Factors
from upweight.errors import ModelError, ThreadSafetyViolationError
from upweight.influence import (
    InfluenceFunctionModel,
    InfluenceMode,
    ModeLike,
    both_or_default,
)
from upweight.protocols import NumpyConverter
from upweight.trees import Batch, Tree, leaves, map_leaves, perturbed_leaf, rebuild

if TYPE_CHECKING:
    import dask.array as da
    from distributed import Client
    from numpy.typing import NDArray

A = TypeVar("A")

DaskTree: TypeAlias = "Tree[da.Array]"


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

    Raises:
        NotFittedError: the model is not fitted.
        TypeError: `client` is something else.
        ModelError: the model cannot be pickled, and workers are other processes.
        ThreadSafetyViolationError: the model is not thread-safe, and a worker has several threads.
    """

    def __init__(
        self,
        influence_function_model: InfluenceFunctionModel[A],
        converter: NumpyConverter[A],
        client: Client | type[DisableClientSingleThreadCheck],
        *,
        max_memory: int | str = 2**28,
    ) -> None:
        check_fitted(influence_function_model)
        self._max_memory = bytes_of(max_memory)
        self._primal = Factors.of(influence_function_model)
        self._factors = {
            mode: Factors.cheapest(influence_function_model, mode) for mode in InfluenceMode
        }
        self._dtype = influence_function_model.dtype
        self._converter = converter
        # What stands for the model in a graph: one key that all tasks refer to, or a future.
        self._model: Any
        if client is DisableClientSingleThreadCheck:
            from dask.delayed import delayed

            name = f"influence-model-{uuid4().hex}"
            self._model = delayed(influence_function_model, name=name, traverse=False)
            return
        connected = _checked_client(client)
        if not influence_function_model.is_thread_safe:
            _check_single_threaded(connected)
        try:
            self._model = connected.scatter(influence_function_model, broadcast=True, hash=False)
        except TypeError as error:
            raise ModelError(
                "The model cannot be sent to the worker processes, because something that it or its "
                f"loss refers to cannot be pickled: {error.__cause__ or error}. Make that inside of "
                "the function that uses it, define model and loss in a module that the workers can "
                "import, or use threads: `Client(processes=False)`."
            ) from error

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
        return self._solved(self._primal, x, y)

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
        check_chunks(x, y)
        converter, build = self._converter, _batch_builder(self._converter, x, y)

        def self_influences(model: Any, *arrays: NDArray[Any]) -> NDArray[Any]:
            return converter.to_numpy(model.self_influences(*build(arrays)))

        return self._blocks(self_influences, "self-influences", (0,), [], (x, y), new_axes={})

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
        return self._influences(form, self._solved(form, x_test, y_test), x_train, y_train, mode)

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
        return self._influences(self._primal, z_test_factors, x, y, InfluenceMode(mode))

    def _solved(self, form: Factors, x: DaskTree, y: DaskTree) -> da.Array:
        check_chunks(x, y)
        converter, build = self._converter, _batch_builder(self._converter, x, y)

        def factors(model: Any, *arrays: NDArray[Any]) -> NDArray[Any]:
            return converter.to_numpy(form.solve(model, *build(arrays)))

        return self._blocks(factors, "factors", (0, -1), [], (x, y), new_axes={-1: form.width})

    def _influences(
        self, form: Factors, factors: da.Array, x: DaskTree, y: DaskTree, mode: InfluenceMode
    ) -> da.Array:
        check_chunks(x, y)
        check_factor_chunks(factors, form.width)
        rows = self._max_memory // (form.width * self._dtype.itemsize)
        grouped = factors.rechunk({0: merged_chunks(factors.chunks[0], rows)})
        shape = perturbed_leaf(x).shape[1:] if mode is InfluenceMode.Perturbation else ()

        converter, build = self._converter, _batch_builder(self._converter, x, y)

        def influences(model: Any, rows: NDArray[Any], *arrays: NDArray[Any]) -> NDArray[Any]:
            held = converter.from_numpy(rows)
            return converter.to_numpy(form.influences(model, held, *build(arrays), mode))

        input_axes = tuple(range(-2, -2 - len(shape), -1))
        return self._blocks(
            influences,
            f"influences-{mode.value}",
            (1, 0, *input_axes),
            [grouped, (1, -1)],
            (x, y),
            new_axes=dict(zip(input_axes, shape, strict=True)),
        )

    def _blocks(
        self,
        function: Callable[..., NDArray[Any]],
        name: str,
        output_axes: tuple[int, ...],
        first: list[Any],
        batch: tuple[DaskTree, DaskTree],
        *,
        new_axes: dict[int, int],
    ) -> da.Array:
        """Call `function(model, *first, *arrays of the batch)` for each block of the result.

        Axes are numbered: 0 the samples of the batch, negative the others of inputs and result;
        positive ones are gathered whole.
        """
        import dask.array as da
        import numpy as np

        whole = iter(range(2, 1000))
        arguments: list[Any] = [self._model, None, *first]
        for leaf in (leaf for tree in batch for leaf in leaves(tree)):
            arguments += [leaf, (0, *(next(whole) for _ in leaf.shape[1:]))]
        blocks: da.Array = da.blockwise(
            function,
            output_axes,
            *arguments,
            new_axes=new_axes,
            concatenate=True,
            align_arrays=False,  # they are aligned, which was checked; Dask would warn of many blocks
            dtype=self._dtype,
            meta=np.empty((0,) * len(output_axes), dtype=self._dtype),
            # A random name: hashing the model and its data would cost more than it can save.
            token=f"{name}-{uuid4().hex}",
        )
        return blocks


def _batch_builder(
    converter: NumpyConverter[A], x: DaskTree, y: DaskTree
) -> Callable[[tuple[NDArray[Any], ...]], Batch[A]]:
    """Return what makes a batch of one chunk of each array, in order.

    It travels with every task, so it holds how `x` and `y` are nested and not the arrays
    themselves, whose graphs hold all of the data.
    """
    nested_x, nested_y = (map_leaves(lambda _: None, tree) for tree in (x, y))
    split = len(leaves(x))

    def build(arrays: tuple[NDArray[Any], ...]) -> Batch[A]:
        converted = tuple(converter.from_numpy(array) for array in arrays)
        return rebuild(nested_x, converted[:split]), rebuild(nested_y, converted[split:])

    return build


def _checked_client(client: Any) -> Client:
    from distributed import Client

    if not isinstance(client, Client):
        raise TypeError(
            "`client` must be a distributed.Client, or the class DisableClientSingleThreadCheck "
            f"to use another scheduler; got {client!r}."
        )
    return client


def _check_single_threaded(client: Client) -> None:
    threads = {worker: n for worker, n in client.nthreads().items() if n > 1}
    if threads:
        raise ThreadSafetyViolationError(
            f"The model is not thread-safe, and workers have several threads: {threads}. "
            "Start the cluster with threads_per_worker=1, or pass DisableClientSingleThreadCheck."
        )
