"""Conduct: an objective leaves everything as it was, and tells what it cannot use."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from distributed.protocol.pickle import dumps, loads

from upweight.errors import BatchError, LossError, NonFiniteError
from upweight.models import DirectInfluence
from upweight.testing.base import Conformance
from upweight.testing.problem import Problem
from upweight.testing.reference import reference_weights
from upweight.testing.state import arrays_in
from upweight.testing.watched import Watched, results_of, same, watch


class ConductConformance(Conformance):
    """An objective leaves everything as it was, and tells what it cannot use."""

    @pytest.fixture
    def watched(self, first: Problem) -> Watched:
        """An objective built and called once for all tests of a class, and what has changed."""
        if type(self) not in _WATCHED:
            _WATCHED[type(self)] = watch(first, self.build, self.settings)
        return _WATCHED[type(self)]

    def test_the_model_stays_as_it_was(self, watched: Watched) -> None:
        assert watched.model == []

    def test_the_weights_that_were_given_stay_as_they_were(self, watched: Watched) -> None:
        assert watched.weights == []

    def test_batches_and_rows_stay_as_they_were(self, watched: Watched) -> None:
        assert watched.arguments == []

    def test_global_settings_stay_as_they_were(self, watched: Watched) -> None:
        assert watched.settings == []

    def test_the_same_call_gives_the_same_bits(self, first: Problem, watched: Watched) -> None:
        assert same(results_of(first, first.objective), watched.results)

    def test_later_training_of_the_model_does_not_show(
        self, first: Problem, watched: Watched
    ) -> None:
        model, loss, _ = self.build(reference_weights(first.dtype))
        objective = first.backend.objective(model, loss)
        for array in arrays_in(model):
            values = np.asarray(first.backend.converter().to_numpy(array))
            # A view of what the model holds; where it is a copy, this trains nothing.
            if values.flags.writeable and np.issubdtype(values.dtype, np.floating):
                values += 1
        assert same(results_of(first, objective), watched.results)

    def test_threads_may_call_at_once(self, first: Problem, watched: Watched) -> None:
        if not first.objective.is_thread_safe:
            pytest.skip(f"{first.backend.name} does not claim to be thread-safe")
        objective = first.backend.objective(first.model, first.loss)
        together = Barrier(2, timeout=60)  # or one thread might do the work of both

        def asked_twice(_: int) -> bool:
            together.wait()
            return all(same(results_of(first, objective), watched.results) for _ in range(2))

        with ThreadPoolExecutor(2) as pool:
            assert all(pool.map(asked_twice, range(2)))

    def test_a_pickled_objective_gives_the_same(self, first: Problem, watched: Watched) -> None:
        assert same(results_of(first, loads(dumps(first.objective))), watched.results)

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
        _, y = first.batch(first.train, slice(4))
        with pytest.raises(BatchError):
            first.objective.losses((x, y))


_WATCHED: dict[type[ConductConformance], Watched] = {}
