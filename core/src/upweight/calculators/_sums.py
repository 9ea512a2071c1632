"""Sums over chunks: a task for each chunk, and a tree of tasks that add."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import accumulate
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from upweight.calculators.dask_reduction import FAN_IN
from upweight.checks import located
from upweight.protocols import NumpyConverter
from upweight.sums import Piece, Summand
from upweight.trees import Batch, Tree, map_leaves, summed

if TYPE_CHECKING:
    from distributed import Client

#: How the names of tasks begin that compute what a chunk adds.
PARTS = "parts-"


@dataclass(frozen=True)
class Held:
    """A value that travels as it is: Dask takes lists, mappings and named tuples apart."""

    value: Any


@dataclass(frozen=True)
class Work:
    """What is done with each chunk.

    Attributes:
        function: Called with an objective, the batch, and what all chunks share.
        build: Makes a batch of the arrays of a chunk.
        converter: Between NumPy and the framework of the objective.
        topic: Of the event that tells that a chunk is done, if anyone asks.
    """

    function: Summand
    build: Callable[[tuple[Any, ...]], Batch[Any]]
    converter: NumpyConverter[Any]
    topic: str | None = None

    def __call__(
        self, objective: Held, shared: Held | None, index: int, first: int, *arrays: Any
    ) -> Held:
        """Return what a chunk adds, as NumPy arrays."""
        trees = () if shared is None else tuple(shared.value)
        with located(f"training batch {index}"):
            part = self.function(
                objective.value,
                Piece(self.build(arrays), first),
                *(map_leaves(self.converter.from_numpy, tree) for tree in trees),
            )
        if self.topic is not None:
            from distributed import get_worker

            get_worker().log_event(self.topic, index)
        return Held(map_leaves(self._as_numpy, part))

    def _as_numpy(self, value: Any) -> Any:
        return value if isinstance(value, int | float) else self.converter.to_numpy(value)


def sum_of_parts(
    work: Work,
    objective: Any,
    shared: Any,
    arrays: Sequence[Any],
    *,
    client: Client | None,
    advance: Callable[[int], object] | None,
) -> Tree[Any]:
    """Compute the sum of what all chunks add.

    Args:
        work: What is done with a chunk.
        objective: What stands for the objective in a graph.
        shared: What stands for what all chunks share, or None.
        arrays: Dask arrays, chunked alike along the samples only.
        client: Of the cluster, or None for another scheduler.
        advance: Told how many more chunks are done.
    """
    sizes = arrays[0].chunks[0]
    if advance is None:
        return _computed(_sum(work, objective, shared, arrays), client)
    seen: set[int] = set()

    def note(index: int) -> None:  # more than once if its worker died
        if index not in seen:
            seen.add(index)
            advance(1)

    if client is None:
        from dask.callbacks import Callback

        def done(key: Any, *_: Any) -> None:
            if isinstance(key, tuple) and str(key[0]).startswith(PARTS):
                note(key[1])

        with Callback(posttask=done):
            total = _computed(_sum(work, objective, shared, arrays), client)
    else:
        topic = f"{PARTS}{uuid4().hex}"
        client.subscribe_topic(topic, lambda event: note(event[1]))
        try:
            told = replace(work, topic=topic)
            total = _computed(_sum(told, objective, shared, arrays), client)
        finally:
            client.unsubscribe_topic(topic)
    missed = len(sizes) - len(seen)  # events that are still under way
    seen.update(range(len(sizes)))
    advance(missed)
    return total


def _computed(total: Any, client: Client | None) -> Any:
    held = total.compute() if client is None else client.compute(total).result()
    return held.value


def _sum(work: Work, objective: Any, shared: Any, arrays: Sequence[Any]) -> Any:
    """Return the sum as one delayed value."""
    from dask.base import is_dask_collection
    from dask.delayed import Delayed
    from dask.highlevelgraph import HighLevelGraph

    token = uuid4().hex
    constants = [held for held in (objective, shared) if is_dask_collection(held)]
    given = [held.key if is_dask_collection(held) else held for held in (objective, shared)]
    columns = [list(_flat(array.__dask_keys__())) for array in arrays]
    firsts = [0, *accumulate(map(int, arrays[0].chunks[0]))][:-1]
    tasks: dict[Any, Any] = {
        (f"{PARTS}{token}", index): (work, *given, index, first, *chunks)
        for index, (first, *chunks) in enumerate(zip(firsts, *columns, strict=True))
    }
    keys = list(tasks)
    level = 0
    while level == 0 or len(keys) > 1:
        groups = [keys[start : start + FAN_IN] for start in range(0, len(keys), FAN_IN)]
        keys = [(f"sums-{token}", level, index) for index in range(len(groups))]
        tasks.update(zip(keys, ((_added, group) for group in groups), strict=True))
        level += 1
    name = f"total-{token}"
    tasks[name] = keys[0]
    graph = HighLevelGraph.from_collections(name, tasks, dependencies=[*arrays, *constants])
    return Delayed(name, graph)


def _added(parts: list[Held]) -> Held:
    return Held(reduce(summed, (part.value for part in parts)))


def _flat(keys: Any) -> Iterator[Any]:
    for key in keys:
        if isinstance(key, list):
            yield from _flat(key)
        else:
            yield key
