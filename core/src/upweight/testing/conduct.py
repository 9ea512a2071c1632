"""Conduct: an objective leaves everything as it was, and tells what it cannot use."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from distributed.protocol.pickle import dumps, loads

from upweight.errors import BatchError, LossError, NonFiniteError
from upweight.models import DirectInfluence
from upweight.testing.base import Conformance
from upweight.testing.calls import calls
from upweight.testing.problem import Problem
from upweight.testing.reference import Array
from upweight.testing.state import changes, state_of, surroundings


class ConductConformance(Conformance):
    """An objective leaves everything as it was, and tells what it cannot use."""

    def test_the_model_stays_as_it_was(self, fresh: Problem) -> None:
        # Built again, for what is done to a model before anyone looks.
        model, loss, _ = self.build(_weights(fresh))
        before = state_of(model, fresh.backend.converter().to_numpy)
        objective = fresh.backend.objective(model, loss)
        _call_all(fresh, objective)
        assert changes(before, state_of(model, fresh.backend.converter().to_numpy)) == []

    def test_the_weights_that_were_given_stay_as_they_were(self, fresh: Problem) -> None:
        weights = _weights(fresh)
        model, loss, _ = self.build(weights)
        _call_all(fresh, fresh.backend.objective(model, loss))
        assert [n for n, value in _weights(fresh).items() if (value != weights[n]).any()] == []

    def test_batches_and_rows_stay_as_they_were(self, fresh: Problem) -> None:
        for name, call in calls(fresh).items():
            arguments = _arguments(fresh)
            call(fresh.objective, *arguments)
            if not _same(_numbers(fresh, arguments), _numbers(fresh, _arguments(fresh))):
                pytest.fail(f"{name} changes its rows or its batch")

    def test_global_settings_stay_as_they_were(self, fresh: Problem) -> None:
        # Other states than those that a call with a seed of its own, made before, would leave.
        random.random()
        np.random.random_sample()  # noqa: NPY002  # the state that others may rely on
        before = {**surroundings(), "settings of the framework": repr(self.settings())}
        _call_all(fresh, fresh.backend.objective(fresh.model, fresh.loss))
        after = {**surroundings(), "settings of the framework": repr(self.settings())}
        assert changes(before, after) == []

    def test_the_same_call_gives_the_same_bits(self, first: Problem, fresh: Problem) -> None:
        results = _call_all(first, first.objective)
        assert _same(_call_all(first, first.objective), results)
        assert _same(_call_all(first, fresh.objective), results)

    def test_threads_may_call_at_once(self, fresh: Problem) -> None:
        if not fresh.objective.is_thread_safe:
            pytest.skip(f"{fresh.backend.name} does not claim to be thread-safe")
        expected = _call_all(fresh, fresh.backend.objective(fresh.model, fresh.loss))
        with ThreadPoolExecutor(2) as pool:
            asked = [pool.submit(_call_all, fresh, fresh.objective) for _ in range(4)]
            assert all(_same(answer.result(), expected) for answer in asked)

    def test_a_pickled_objective_gives_the_same(self, fresh: Problem) -> None:
        expected = _call_all(fresh, fresh.objective)
        assert _same(_call_all(fresh, loads(dumps(fresh.objective))), expected)

    def test_samples_that_are_not_a_number_are_named(self, first: Problem) -> None:
        x, y = first.train
        spoilt = np.where(np.arange(len(x))[:, None] == 3, np.nan, x)
        model: DirectInfluence[Any] = DirectInfluence(first.objective, regularization=1.0)
        with pytest.raises(NonFiniteError, match=r"first at samples \[3\]"):
            model.fit([first.batch((spoilt, y))], progress=False)

    def test_a_loss_that_sums_over_the_samples_is_refused(self, first: Problem) -> None:
        if not callable(first.loss):
            pytest.skip("the loss is no function of output and label")

        def summed(output: Any, y: Any) -> Any:
            return first.loss(output, y) * y.shape[0]

        objective = first.backend.objective(first.model, summed)
        with pytest.raises(LossError):
            objective.losses(first.batch(first.train))

    def test_objects_that_are_no_arrays_are_refused(self, first: Problem) -> None:
        _, y = first.batch(first.train)
        with pytest.raises(BatchError):
            first.objective.losses((object(), y))

    def test_inputs_and_labels_of_different_lengths_are_refused(self, first: Problem) -> None:
        x, _ = first.batch(first.train)
        _, y = first.batch(first.train, slice(5))
        with pytest.raises(BatchError):
            first.objective.losses((x, y))


def _weights(problem: Problem) -> dict[str, Array]:
    return {name: value.astype(problem.dtype) for name, value in problem.weights.items()}


def _arguments(problem: Problem) -> tuple[Any, Any]:
    return problem.rows(problem.random_vectors(2)), problem.batch(problem.train)


def _numbers(problem: Problem, arguments: tuple[Any, Any]) -> dict[str, Array]:
    rows, (x, y) = arguments
    return {name: problem.numpy(a) for name, a in (("rows", rows), ("x", x), ("y", y))}


def _call_all(problem: Problem, objective: Any) -> dict[str, Array]:
    return {
        name: problem.numpy(call(objective, *_arguments(problem)))
        for name, call in calls(problem).items()
    }


def _same(results: dict[str, Array], expected: dict[str, Array]) -> bool:
    return all(np.array_equal(results[name], value) for name, value in expected.items())
