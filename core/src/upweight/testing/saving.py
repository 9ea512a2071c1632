"""Saving: a fitted method comes back from its file as it was, and on no other parameters."""

from __future__ import annotations

from typing import Any

import pytest

from upweight.errors import ParametersError
from upweight.loading import load
from upweight.testing.base import Conformance
from upweight.testing.cases import CASES, Case
from upweight.testing.problem import Problem, assert_close
from upweight.testing.reference import reference_weights


class SavingConformance(Conformance):
    """A fitted method comes back from its file as it was, and on no other parameters."""

    @pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
    def test_a_saved_method_is_loaded_as_it_was(self, first: Problem, case: Case) -> None:
        first.need("SupportsSaving", *case.needs)
        store, data = _saved(first, case)
        test, train = first.batch(first.test), first.batch(first.train)
        fitted = case.made(first).fit(data, progress=False)
        loaded = load(store, first.model, first.loss, data=data)
        for mode in ("up", "perturbation"):
            was, now = (
                first.numpy(m.influences(*test, *train, mode=mode)) for m in (fitted, loaded)
            )
            assert_close(now, was, first.tolerance)

    def test_other_parameters_are_refused(self, first: Problem) -> None:
        first.need("SupportsSaving")
        store, data = _saved(first, CASES[0])
        for name in first.weights:
            weights = reference_weights(first.dtype)
            weights[name] = weights[name].copy()
            weights[name].ravel()[-1:] += 0.01
            model, loss, _ = self.build(weights)
            with pytest.raises(ParametersError):
                load(store, model, loss, data=data)


def _saved(problem: Problem, case: Case) -> tuple[Any, list[Any]]:
    """Return the store that a fitted method was saved to, and what it was fitted to."""
    from zarr.storage import MemoryStore

    store, data = MemoryStore(), [problem.batch(problem.train, slice(case.n))]
    case.made(problem).fit(data, progress=False).save(store)
    return store, data
