"""Trainings are done once each, wherever they run, and those that are stored are not repeated."""

from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
import zarr

from upweight import IncompleteResultError, NonFiniteError, ResumeError, open_result
from upweight.evaluation import random_subsets, retrain

SUBSETS = random_subsets(12, count=4)


def train(indices, seed):
    """Return numbers that tell the subset and the seed."""
    return np.array([indices.sum(), seed, (indices**2).sum() * (seed + 1)], dtype=float)


class InterruptedTrainingError(Exception):
    """The training broke off."""


class Counted:
    """Counts trainings, and breaks off before the one of this number."""

    def __init__(self, stop=None):
        self.calls, self._stop = [], stop

    def __call__(self, indices, seed):
        if len(self.calls) == self._stop:
            raise InterruptedTrainingError
        self.calls.append((tuple(indices), seed))
        return train(indices, seed)


def test_every_subset_is_trained_on_with_every_seed():
    outputs = retrain(train, SUBSETS, retrainings=3, seed=5, progress=False).outputs
    expected = [[train(subset, seed) for seed in (5, 6, 7)] for subset in SUBSETS]
    assert np.array_equal(outputs, expected)


def test_subsets_may_differ_in_size_and_are_given_in_rising_order():
    counted = Counted()
    found = retrain(counted, [[3, 1], [0, 2, 5]], progress=False)
    assert counted.calls == [((1, 3), 0), ((0, 2, 5), 0)]
    assert [subset.tolist() for subset in found.subsets] == [[1, 3], [0, 2, 5]]


def backwards(function, jobs):
    return [function(job) for job in list(jobs)[::-1]]


@pytest.mark.parametrize("executor", [ThreadPoolExecutor, ProcessPoolExecutor, None])
def test_in_parallel_and_in_any_order_the_outputs_are_the_same(executor, tmp_path):
    expected = retrain(train, SUBSETS, retrainings=2, progress=False).outputs
    options = {"retrainings": 2, "progress": False, "store": tmp_path / "outputs.zarr"}
    if executor is None:
        found = retrain(train, SUBSETS, map_jobs=backwards, **options)
    else:
        with executor(2) as pool:
            found = retrain(train, SUBSETS, map_jobs=pool.map, **options)
    assert np.array_equal(found.outputs, expected)


@pytest.mark.parametrize("stop", [0, 1, 5, 7])
def test_a_resumed_run_trains_only_what_is_missing(tmp_path, stop):
    options = {"retrainings": 2, "store": tmp_path / "outputs.zarr", "progress": False}
    first, second = Counted(stop), Counted()
    with pytest.raises(InterruptedTrainingError):
        retrain(first, SUBSETS, **options)
    found = retrain(second, SUBSETS, resume=True, **options)
    assert len(first.calls) == stop
    assert len(second.calls) == 8 - stop
    assert not {*first.calls} & {*second.calls}
    assert np.array_equal(found.outputs, retrain(train, SUBSETS, retrainings=2).outputs)


def test_a_run_that_is_done_is_read_without_training(tmp_path):
    options = {"store": tmp_path / "outputs.zarr", "progress": False}
    first = retrain(train, SUBSETS, **options)
    counted = Counted()
    again = retrain(counted, SUBSETS, resume=True, **options)
    assert counted.calls == []
    assert np.array_equal(again.outputs, first.outputs)


def test_an_interrupted_run_does_not_pass_for_complete(tmp_path):
    store = tmp_path / "outputs.zarr"
    with pytest.raises(InterruptedTrainingError):
        retrain(Counted(2), SUBSETS, store=store, progress=False)
    with pytest.raises(IncompleteResultError):
        open_result(store)
    rows = open_result(store, incomplete=True)[:, 0, 0]
    assert np.isnan(rows).tolist() == [False, False, True, True]


@pytest.mark.parametrize(
    ("other", "match"),
    [
        ({"seed": 1}, "seed = 0"),
        ({"retrainings": 2}, "trainings"),
        ({"settings": {"rate": 0.2}}, "settings"),
        ({"subsets": random_subsets(12, count=4, seed=1)}, "subsets"),
        ({"subsets": SUBSETS[:, :-1]}, "subsets"),
    ],
)
def test_a_run_with_other_options_does_not_go_on_with_what_is_stored(tmp_path, other, match):
    options = {"subsets": SUBSETS, "settings": {"rate": 0.1}, "progress": False}
    options["store"] = tmp_path / "outputs.zarr"
    retrain(train, **options)
    counted = Counted()
    with pytest.raises(ResumeError, match=match):
        retrain(counted, **{**options, **other}, resume=True)
    assert counted.calls == []


def test_subsets_that_end_elsewhere_are_others(tmp_path):
    options = {"store": tmp_path / "outputs.zarr", "progress": False}
    retrain(train, [[0, 1, 2], [3]], **options)
    with pytest.raises(ResumeError, match="subsets"):
        retrain(train, [[0, 1], [2, 3]], resume=True, **options)


def test_what_is_there_is_replaced_only_when_asked_to(tmp_path):
    options = {"store": tmp_path / "outputs.zarr", "progress": False}
    retrain(train, SUBSETS, **options)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        retrain(train, SUBSETS, seed=1, **options)
    retrain(train, SUBSETS, seed=1, overwrite=True, **options)
    assert (zarr.open_array(options["store"], mode="r")[:, 0, 1] == 1).all()


def test_a_resumed_run_must_measure_as_many_test_samples(tmp_path):
    options = {"store": tmp_path / "outputs.zarr", "progress": False}
    with pytest.raises(InterruptedTrainingError):
        retrain(Counted(2), SUBSETS, **options)
    with pytest.raises(ValueError, match="returned 2 measurements, and 3"):
        retrain(lambda indices, seed: [1.0, 2.0], SUBSETS, resume=True, **options)


def test_the_number_of_measurements_may_not_change():
    with pytest.raises(ValueError, match="measurements"):
        retrain(lambda indices, seed: np.ones(indices[0] + 1), [[0], [1]], progress=False)


@pytest.mark.parametrize(
    ("returned", "error", "match"),
    [
        (1.0, ValueError, "one number for each test sample"),
        (np.ones((2, 2)), ValueError, r"\(2, 2\) for subset 0 with the seed 0"),
        ([], ValueError, "one number"),
        ([0.0, np.nan], NonFiniteError, r"test samples \[1\]"),
    ],
)
def test_outputs_that_are_no_measurements_are_refused(returned, error, match):
    with pytest.raises(error, match=match):
        retrain(lambda indices, seed: returned, SUBSETS, progress=False)


@pytest.mark.parametrize(
    ("subsets", "error"),
    [
        ([], ValueError),
        ([[]], TypeError),
        ([[0, 0]], ValueError),
        ([[-1, 0]], IndexError),
        ([[True, False]], TypeError),
        ([[0.5]], TypeError),
        ([[[0, 1]]], TypeError),
    ],
)
def test_subsets_that_are_none_are_refused_before_any_training(subsets, error):
    counted = Counted()
    with pytest.raises(error):
        retrain(counted, [SUBSETS[0], *subsets] if subsets else [], progress=False)
    assert counted.calls == []


@pytest.mark.parametrize("options", [{"retrainings": 0}, {"resume": True}, {"overwrite": True}])
def test_options_without_sense_are_refused_before_any_training(options):
    counted = Counted()
    with pytest.raises(ValueError, match=r"at least once|need a `store`"):
        retrain(counted, SUBSETS, progress=False, **options)
    assert counted.calls == []


def test_futures_are_no_results():
    def futures(function, jobs):
        return [Future() for _ in jobs]

    with pytest.raises(TypeError, match=r"client\.get_executor\(\)\.map"):
        retrain(train, SUBSETS, map_jobs=futures, progress=False)


def test_a_map_that_loses_results_is_refused():
    with pytest.raises(ValueError, match="3 results for 4 trainings"):
        retrain(train, SUBSETS, map_jobs=lambda f, jobs: map(f, jobs[1:]), progress=False)
