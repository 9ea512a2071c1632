"""Reductions of Dask arrays: small graphs, blocks that are dropped at once, and what is refused."""

import threading
from typing import ClassVar

import dask
import dask.array as da
import numpy as np
import pytest
from calculators.dask_problems import calculator, dask_batch
from calculators.problems import fitted_model, forget, problem, samples, taken, tally
from dask.callbacks import Callback
from dask.core import get_dependencies
from dense_reductions import REDUCTIONS, assert_reduced, cut_matrices, expected
from distributed import Client, LocalCluster
from hypothesis import given, settings
from hypothesis import strategies as st

from upweight import (
    DataError,
    InvalidDimensionChunksError,
    Max,
    Mean,
    NonFiniteError,
    Sum,
    TopK,
    reduce_influences,
)


def computed(lazy):
    return lazy.compute(scheduler="synchronous")


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    cut_matrices(),
    st.sampled_from(list(REDUCTIONS)),
    st.integers(1, 30),
    st.sampled_from(["training", "test"]),
)
def test_any_chunks_give_what_the_matrix_gives(cut, name, k, over):
    matrix, rows, columns = cut
    array = da.from_array(matrix, chunks=(rows, columns, *matrix.shape[2:]))
    lazy = reduce_influences(array, REDUCTIONS[name][0](k), over=over)
    assert_reduced(name, computed(lazy), expected(name, matrix, k=k, over=over))


@pytest.mark.parametrize("columns", [1, 7, 8, 9, 63, 64, 65, 100])
@pytest.mark.parametrize("name", ["TopK", "Mean"])
def test_trees_of_any_depth_keep_the_order_of_the_samples(name, columns):
    matrix = np.random.default_rng(0).integers(-2, 2, (3, 2 * columns)).astype(float)
    lazy = reduce_influences(da.from_array(matrix, chunks=(2, 2)), REDUCTIONS[name][0](5))
    assert_reduced(name, computed(lazy), expected(name, matrix, k=5))


@pytest.mark.parametrize("over", ["training", "test"])
def test_the_number_of_tasks_is_linear_in_that_of_blocks(over):
    test, train = samples((4,), n_test=40, n_train=50)
    lazy = calculator(fitted_model(train), max_memory=1).influences(
        *dask_batch(test, 1), *dask_batch(train, 1)
    )
    assert lazy.numblocks == (40, 50)
    reduced = reduce_influences(lazy, TopK(3), over=over)
    assert len(dict(reduced.__dask_graph__())) <= 3 * 40 * 50
    executed = []
    with Callback(pretask=lambda key, graph, state: executed.append(graph[key])):
        computed(reduced)
    tasks = sum(not is_alias(task) for task in executed)
    blocks, factors, inputs = 40 * 50, 40, 2 * (40 + 50 + 2)
    merges = blocks // 4  # an eighth of the blocks, and what is above them
    assert tasks <= blocks + merges + factors + inputs


def is_alias(task):
    """Whether this is but a second name of a task, which Dask gives to tasks that it fuses."""
    return type(task).__name__ == "Alias" or (type(task) is tuple and not callable(task[0]))


def test_no_task_merges_many_states():
    array = da.from_array(np.ones((2, 100)), chunks=(2, 1))
    (optimised,) = dask.optimize(reduce_influences(array, Sum()))
    graph = dict(optimised.__dask_graph__())
    assert max(len(get_dependencies(graph, key)) for key in graph) == 8


class Tracked(np.ndarray):
    """An array that knows how many like it there are."""

    alive = 0

    @classmethod
    def of(cls, block):
        tracked = block.copy().view(cls)
        tracked.counted = True
        cls.alive += 1
        return tracked

    def __del__(self):
        if getattr(self, "counted", False):
            Tracked.alive -= 1


class WatchingSum(Sum):
    """A sum that notes how many blocks there are whenever it is given one."""

    noted: ClassVar[list[int]] = []

    def of(self, block, first):
        self.noted.append(Tracked.alive)
        return np.asarray(super().of(block, first))


@pytest.mark.parametrize("over", ["training", "test"])
def test_no_block_outlives_the_task_that_computes_it(over):
    array = da.from_array(np.ones((20, 30)), chunks=(2, 3))
    made = array.map_blocks(Tracked.of, dtype=float)
    Tracked.alive = 0
    WatchingSum.noted.clear()
    computed(reduce_influences(made, WatchingSum(), over=over))
    assert (len(WatchingSum.noted), max(WatchingSum.noted)) == (100, 1)


def test_nothing_is_computed_before_it_is_asked_for_and_nothing_twice():
    model, test, train = problem()
    lazy = calculator(model, max_memory=1).influences(*dask_batch(test, 2), *dask_batch(train, 7))
    forget(model)
    reductions = [reduce_influences(lazy, kind) for kind in (TopK(3), Mean(), Max())]
    assert model.calls == []
    dask.compute(*reductions, lazy, scheduler="synchronous")
    assert taken(tally(model).gradients_of, test[0]) == [1] * 7
    assert taken(tally(model).gradients_of, train[0]) == [4] * 20  # once for each test chunk


def test_a_persisted_reduction_is_not_computed_again():
    matrix = np.random.default_rng(0).standard_normal((4, 6))
    calls = []

    def count(block):
        calls.append(threading.get_ident())
        return block

    array = da.from_array(matrix, chunks=(2, 2)).map_blocks(count, dtype=float, meta=matrix[:0, :0])
    held = reduce_influences(array, TopK(2)).persist(scheduler="synchronous")
    for _ in range(2):
        assert_reduced("TopK", computed(held), expected("TopK", matrix, k=2))
    assert len(calls) == 6


def test_workers_of_a_cluster_reduce_their_blocks():
    model, test, train = problem()
    dense = model.influences(*test, *train)
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
        ) as c,
        Client(c) as client,
    ):
        lazy = calculator(model, client).influences(*dask_batch(test, 2), *dask_batch(train, 7))
        top = reduce_influences(lazy, TopK(4)).compute()
        total = client.compute(reduce_influences(lazy, Sum(), over="test")).result()
    np.testing.assert_array_equal(top.indices, np.argsort(-dense, 1)[:, :4])
    np.testing.assert_allclose(total, dense.sum(0))


def test_a_number_that_is_not_finite_is_named_by_its_samples():
    matrix = np.zeros((6, 10))
    matrix[4, 7] = np.nan
    array = da.from_array(matrix, chunks=((2, 3, 1), (4, 4, 2)))
    with pytest.raises(NonFiniteError, match="training sample 7 on test sample 4 "):
        computed(reduce_influences(array, TopK(3)))


BLOCKS = da.from_array(np.ones((4, 6, 3)), chunks=(2, 3, 3))


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        (np.ones((2, 3)), TypeError, "must be a Dask array"),
        (BLOCKS[0, :, 0], DataError, r"shape \(k, n\)"),
        (BLOCKS[:0], DataError, "at least one"),
        (BLOCKS.rechunk((2, 3, 1)), InvalidDimensionChunksError, "along the samples only"),
        (BLOCKS[BLOCKS[:, 0, 0] > 0], InvalidDimensionChunksError, "must be known"),
        (da.ones((4, 6), chunks=((2, 0, 2), 6)), InvalidDimensionChunksError, "hold samples"),
    ],
    ids=["numpy", "vector", "empty", "chunked inputs", "unknown sizes", "empty chunk"],
)
def test_other_arrays_are_refused(array, error, message):
    with pytest.raises(error, match=message):
        reduce_influences(array, Max())


def test_a_class_is_refused_and_so_is_an_unknown_direction():
    with pytest.raises(TypeError, match="such as"):
        reduce_influences(BLOCKS, Max)
    with pytest.raises(ValueError, match="'training' or 'test'"):
        reduce_influences(BLOCKS, Max(), over="rows")
