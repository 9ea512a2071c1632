"""Dask arrays as the training data of `fit`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar
from uuid import uuid4

from upweight.calculators._blockwise import DaskTree, batch_builder
from upweight.calculators._checks import check_single_threaded, checked_client, scattered
from upweight.calculators._chunks import check_chunks
from upweight.calculators._sums import Held, Work, sum_of_parts
from upweight.calculators.dask import DisableClientSingleThreadCheck
from upweight.protocols import NumpyConverter
from upweight.sums import Summand
from upweight.trees import Batch, Tree, leaves, map_leaves

if TYPE_CHECKING:
    from distributed import Client

A = TypeVar("A")


class DaskTrainingData(Generic[A]):
    """Training samples in Dask arrays, to whose chunks `fit` goes instead of bringing them here.

    Pass it to `fit` of any method. On the workers run

    - the whole fit of `DirectInfluence` and `EkfacInfluence`,
    - the products with the curvature of `ArnoldiInfluence`, `NystroemSketchInfluence`, and
      `CgInfluence` with its preconditioners, for which the solves of a fitted model need them, too;
      likewise the sums over samples of `InverseHarmonicMeanInfluence`,

    as one task for each chunk and a tree of sums. `LissaInfluence`, `GramInfluence` and whatever
    else iterates over it get the chunks one at a time; up to 256 MiB of them they keep.

    Products are computed from the arrays again and again: persist these before, unless they are
    larger than the memory of the workers.

    Args:
        x: Inputs of n samples, an array or a tuple or mapping of arrays.
        y: Labels of the samples.
        converter: Turns chunks and vectors into arrays of the framework of the model, and sums
            back, on the workers and here.
        client: The client of the cluster, or `DisableClientSingleThreadCheck` to compute with any
            other scheduler of Dask.

    Raises:
        TypeError: an array is not a Dask array, or `client` is something else.
        BatchError: an array or a chunk has no sample.
        InvalidDimensionChunksError: an array is chunked along another axis than the samples.
        UnalignedChunksError: the arrays are not chunked alike along the samples.
    """

    def __init__(
        self,
        x: DaskTree,
        y: DaskTree,
        converter: NumpyConverter[A],
        client: Client | type[DisableClientSingleThreadCheck],
    ) -> None:
        check_chunks(x, y)
        self._client: Client | None = None
        if client is not DisableClientSingleThreadCheck:
            self._client = checked_client(client)
        self._arrays: tuple[Any, ...] = (*leaves(x), *leaves(y))
        self._converter = converter
        self._build = batch_builder(converter, x, y)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of samples of each chunk."""
        return tuple(map(int, self._arrays[0].chunks[0]))

    def __len__(self) -> int:
        """Return the number of chunks."""
        return len(self.sizes)

    def __iter__(self) -> Iterator[Batch[A]]:
        """Yield each chunk as a batch, computed when it is reached."""
        from dask.base import compute

        for index in range(len(self)):
            blocks = [array.blocks[index] for array in self._arrays]
            if self._client is None:
                arrays = compute(*blocks)
            else:
                arrays = tuple(self._client.gather(self._client.compute(blocks)))
            yield self._build(arrays)

    def send(self, objective: Any, *, thread_safe: bool) -> Any:
        """Bring an objective to the workers; see `DistributesSums.send`."""
        if self._client is not None and not thread_safe:
            check_single_threaded(self._client)
        return self._sent(objective)

    def total(
        self,
        sent: Any,
        function: Summand,
        shared: Sequence[Tree[A]],
        advance: Callable[[int], object] | None = None,
    ) -> Tree[A]:
        """Return the sum of a function over all chunks; see `DistributesSums.total`."""
        vectors = None
        if shared:
            vectors = self._sent([map_leaves(self._converter.to_numpy, tree) for tree in shared])
        work = Work(function, self._build, self._converter)
        total = sum_of_parts(
            work, sent, vectors, self._arrays, client=self._client, advance=advance
        )
        return map_leaves(self._restored, total)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "data that lies on the workers of a cluster cannot be pickled, and neither can a model "
            "whose solves need it"
        )

    def _restored(self, value: Any) -> Any:
        return value if isinstance(value, int | float) else self._converter.from_numpy(value)

    def _sent(self, value: Any) -> Any:
        """Return what stands in a graph for a value that all tasks use."""
        if self._client is not None:
            return scattered(Held(value), self._client)
        from dask.delayed import delayed

        return delayed(Held(value), name=f"held-{uuid4().hex}", traverse=False)
