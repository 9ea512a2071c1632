"""What a fit on Dask arrays computes: how often, in how many tasks, and in how much memory."""

import tracemalloc
from collections import Counter
from threading import Lock

import dask
import dask.array as da
import numpy as np
import pytest
from calculators.fits import METHODS, Layered, of_kind, on_dask
from dask.callbacks import Callback
from reference import softmax_problem

from upweight import DaskTrainingData
from upweight.progress import progress_bar


class Tallied(Layered):
    """Counts the samples of which curvatures are taken."""

    def __init__(self, weight, bias):
        super().__init__(weight, bias)
        self.samples, self.lock = Counter(), Lock()

    def losses(self, batch):
        self.count("losses", batch)
        return super().losses(batch)

    def hessian_product(self, rows, batch):
        self.count("products", batch)
        return super().hessian_product(rows, batch)

    def layers(self, batch, directions=None):
        self.count("layers", batch)
        return super().layers(batch, directions)

    def count(self, what, batch):
        with self.lock:
            self.samples[what] += len(batch[1])


@pytest.fixture(autouse=True)
def synchronous():
    with dask.config.set(scheduler="synchronous"):
        yield


def problem(n=96):
    objective, train = softmax_problem(n=n)
    return of_kind(Tallied, objective), train


def chunked(batch, size):
    x, y = batch
    return da.from_array(x, chunks=(size, x.shape[1])), da.from_array(y, chunks=size)


def tasks_of(method, chunks):
    objective, train = problem()
    data = on_dask(chunked(train, len(train[1]) // chunks))
    tasks = []
    with Callback(posttask=lambda key, *_: tasks.append(key)):
        METHODS[method](objective).fit(data, progress=False)
    return len(tasks)


@pytest.mark.parametrize("method", ["direct", "ekfac", "arnoldi", "nystroem"])
def test_the_number_of_tasks_grows_with_that_of_chunks(method):
    few, more, many = (tasks_of(method, chunks) for chunks in (24, 48, 96))
    assert many - more <= 2.2 * (more - few)


def test_sums_are_a_tree():
    assert tasks_of("direct", 96) <= 96 * (1 + 2) + 12 + 2 + 1 + 3  # parts, chunks of x and y, sums


def test_direct_reads_the_data_once():
    objective, train = problem()
    METHODS["direct"](objective).fit(on_dask(chunked(train, 8)), progress=False)
    assert objective.samples == {"losses": 96, "products": 96}


def test_ekfac_passes_twice_after_the_check():
    objective, train = problem()
    METHODS["ekfac, exact"](objective).fit(on_dask(chunked(train, 8)), progress=False)
    assert objective.samples == {"losses": 96, "layers": 2 * 96}


def test_a_step_of_cg_passes_once_for_all_rows():
    objective, train = problem()
    model = METHODS["cg"](objective).fit(on_dask(chunked(train, 8)), progress=False)
    model.influence_factors(*train)
    steps = max(model.solve_diagnostics["full"].steps)
    assert objective.samples["products"] == 96 * (steps + 1)  # one to measure the residual


@pytest.mark.parametrize("method", METHODS)
def test_no_chunk_is_brought_here(method, monkeypatch):
    def refuse(self):
        raise AssertionError("A chunk was asked for.")

    monkeypatch.setattr(DaskTrainingData, "__iter__", refuse)
    objective, train = problem()
    model = METHODS[method](objective).fit(on_dask(chunked(train, 8)), progress=False)
    assert model.influence_factors(*train).shape == (96, 15)


def test_the_data_is_not_gathered():
    objective, _ = softmax_problem(n=10, d=50)
    objective = of_kind(Layered, objective)
    chunks, size = 40, 5000

    def made(block, block_info=None):
        return np.random.default_rng(0).standard_normal(block.shape)

    x = da.zeros((chunks * size, 50), chunks=(size, 50)).map_blocks(made, dtype=float)
    data = on_dask((x, da.zeros(chunks * size, chunks=size, dtype=int)))
    tracemalloc.start()
    METHODS["ekfac, empirical"](objective).fit(data, progress=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.nbytes / 2


@pytest.mark.parametrize("method", ["direct", "cg"])
def test_a_progress_bar_counts_chunks(method, monkeypatch):
    from upweight.models import _sums

    steps = []

    def noted(total, *, label, show):
        steps.append((total, label))
        return progress_bar(None, label=label) if not show else Bar(steps)

    monkeypatch.setattr(_sums, "progress_bar", noted)
    objective, train = problem()
    METHODS[method](objective).fit(on_dask(chunked(train, 8)), progress=True)
    assert steps[0] == (12, {"direct": "Curvature", "cg": "Training data"}[method])
    assert sum(steps[1:]) == 12
    assert len(steps) > 12  # one by one, and what is missing at the end


class Bar:
    def __init__(self, steps):
        self.steps = steps

    def __enter__(self):
        return self.steps.append

    def __exit__(self, *_):
        return None
