"""What the graph asks of the model: few tasks, light ones, and nothing twice."""

import cloudpickle
import dask
import numpy as np
import pytest
from calculators.dask_problems import calculator, computed, dask_batch
from calculators.problems import MODES, fitted_model, forget, problem, samples, taken, tally

ROOMY, TINY = "1 GiB", 1


def lazy_influences(mode="up", *, max_memory=ROOMY):
    """Return influences of 4 test chunks on 3 training chunks, and what they are of."""
    model, test, train = problem()
    forget(model)
    calc = calculator(model, max_memory=max_memory)
    lazy = calc.influences(*dask_batch(test, 2), *dask_batch(train, 7), mode)
    return lazy, model, test, train


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_computed_before_it_is_asked_for(mode):
    _, model, _, _ = lazy_influences(mode)
    assert model.calls == []


@pytest.mark.parametrize("max_memory", [TINY, "300 B", ROOMY])
@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
@pytest.mark.parametrize("mode", MODES)
def test_no_factor_is_solved_twice(mode, scheduler, max_memory):
    lazy, model, test, _ = lazy_influences(mode, max_memory=max_memory)
    lazy.compute(scheduler=scheduler)
    assert taken(tally(model).gradients_of, test[0]) == [1] * 7


@pytest.mark.parametrize(("max_memory", "groups"), [(ROOMY, 1), (TINY, 4)])
def test_each_training_gradient_is_taken_once_for_each_group(max_memory, groups):
    lazy, model, _, train = lazy_influences(max_memory=max_memory)
    computed(lazy)
    assert taken(tally(model).gradients_of, train[0]) == [groups] * 20


@pytest.mark.parametrize(
    ("rows", "groups"), [(1, (2, 2, 2, 1)), (3, (2, 2, 2, 1)), (4, (4, 3)), (6, (6, 1)), (7, (7,))]
)
def test_a_group_has_the_test_chunks_whose_factors_fit(rows, groups):
    lazy, _, _, _ = lazy_influences(max_memory=rows * 15 * 8)
    assert lazy.chunks == (groups, (7, 7, 6))


@pytest.mark.parametrize(("max_memory", "groups"), [(ROOMY, 1), ("36 kB", 10), (TINY, 30)])
@pytest.mark.parametrize("mode", MODES)
def test_the_number_of_tasks_is_that_of_test_chunks_and_training_chunks_a_group(
    mode, max_memory, groups
):
    test, train = samples((4,), n_test=30 * 100, n_train=40)
    calc = calculator(fitted_model(train), max_memory=max_memory)
    lazy = calc.influences(*dask_batch(test, 100), *dask_batch(train, 1), mode)
    (optimised,) = dask.optimize(lazy)
    inputs = 2 * (30 + 40 + 2)  # chunks of x and y, and the arrays they are cut from
    joins = groups  # of the factors of a group
    assert len(lazy.chunks[0]) == groups
    assert len(dict(optimised.__dask_graph__())) <= 30 + 40 * groups + inputs + joins


@pytest.mark.parametrize("mode", MODES)
def test_a_task_does_not_carry_the_data(mode):
    test, train = samples((50,), n_test=10, n_train=5000)
    model = fitted_model((train[0][:10], train[1][:10]))
    lazy = calculator(model).influences(*dask_batch(test, 5), *dask_batch(train, 1000), mode)
    task = dict(lazy.__dask_graph__())[(lazy.name, *(0,) * lazy.ndim)]
    assert len(cloudpickle.dumps(task)) < train[0].nbytes / 4


def test_building_the_graph_reads_no_data():
    def unreadable(block):
        raise AssertionError("read too early")

    model, test, train = problem()
    x, y = dask_batch(train, 6)
    x = x.map_blocks(unreadable, dtype=x.dtype, meta=np.empty((0, 0), x.dtype))
    assert calculator(model).influences(*dask_batch(test, 2), x, y).shape == (7, 20)
