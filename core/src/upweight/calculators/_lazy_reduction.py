"""The lazy result of a reduction, as a collection of Dask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import dask.array as da
from dask.base import DaskMethodsMixin
from dask.highlevelgraph import HighLevelGraph
from dask.threaded import get

from upweight.folding import joined

R = TypeVar("R")


class LazyReduction(DaskMethodsMixin, Generic[R]):
    """A result that any scheduler of Dask computes.

    `dask.compute` of several reductions, or of reductions and the influences themselves, computes
    each block of influences once.

    Args:
        graph: The tasks.
        keys: Of the pieces of the result, which are joined along their first axis.
    """

    __dask_scheduler__ = staticmethod(get)
    __dask_optimize__ = staticmethod(da.Array.__dask_optimize__)  # so that blocks are fused with it

    def __init__(self, graph: HighLevelGraph, keys: Sequence[tuple[Any, ...]]) -> None:
        self._graph = graph
        self._keys = list(keys)

    def compute(self, **options: Any) -> R:
        """Compute the result.

        Args:
            **options: Those of `dask.compute`, such as `scheduler`.
        """
        result: R = super().compute(**options)  # type: ignore[no-untyped-call]  # Dask has no type
        return result

    def __dask_graph__(self) -> HighLevelGraph:
        return self._graph

    def __dask_keys__(self) -> list[tuple[Any, ...]]:
        return self._keys

    def __dask_layers__(self) -> tuple[str, ...]:
        return (self._keys[0][0],)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return tuple(self._keys)

    def __dask_postcompute__(self) -> tuple[Callable[..., R], tuple[()]]:
        return joined, ()

    def __dask_postpersist__(self) -> tuple[Callable[..., LazyReduction[R]], tuple[Any, ...]]:
        return _rebuilt, (self._keys,)


def _rebuilt(
    graph: Any, keys: list[tuple[Any, ...]], *, rename: dict[str, str] | None = None
) -> LazyReduction[Any]:
    names = rename or {}
    renamed = [(names.get(key[0], key[0]), *key[1:]) for key in keys]
    if not isinstance(graph, HighLevelGraph):
        graph = HighLevelGraph.from_collections(renamed[0][0], graph)
    return LazyReduction(graph, renamed)
