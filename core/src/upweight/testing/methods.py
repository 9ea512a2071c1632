"""Methods: on the objective of the backend, each is its closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from upweight.errors import NotFittedError
from upweight.testing import dense, oracle
from upweight.testing.base import Conformance
from upweight.testing.cases import CASES, METHODS, Case
from upweight.testing.problem import PIECES, Problem, assert_close
from upweight.testing.reference import Array

#: Largest error of a factor or an influence, as a multiple of the largest number expected.
TOLERANCES = {"float64": 1e-8, "float32": 1e-3}

#: A damping beside which every curvature vanishes.
LARGE = 1e8

EACH_CASE = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
EACH_METHOD = pytest.mark.parametrize("method", METHODS)


@pytest.mark.filterwarnings("error::upweight.ConvergenceWarning")
@pytest.mark.filterwarnings("error::upweight.CurvatureWarning")
class MethodsConformance(Conformance):
    """On the objective of the backend, each method is its closed form."""

    @EACH_CASE
    def test_a_method_is_its_closed_form(self, first: Problem, case: Case) -> None:
        first.need(*case.needs)
        model = _fitted(first, case, case.made(first))
        factors = _assert_exact(first, case, model)
        test, train = first.batch(first.test), first.batch(first.train)
        expected = oracle.input_gradients(factors, first.weights, *first.train)
        perturbed = first.numpy(model.influences(*test, *train, mode="perturbation"))
        assert_close(perturbed, expected, TOLERANCES[first.dtype])
        own = (factors * oracle.gradients(first.weights, *first.test)).sum(1)
        assert_close(first.numpy(model.self_influences(*test)), own, TOLERANCES[first.dtype])

    @EACH_METHOD
    def test_the_method_of_the_backend_is_that_of_core(self, first: Problem, method: str) -> None:
        case = _case_of(first, method)
        if method not in first.backend.models:
            pytest.skip(f"{first.backend.name} does not register {method!r}")
        made = case.made(first, first.backend.models[method])
        _assert_exact(first, case, _fitted(first, case, made))

    @EACH_CASE
    def test_another_damping_needs_no_other_fit(self, first: Problem, case: Case) -> None:
        first.need(*case.needs)
        model = _fitted(first, case, case.made(first)).with_regularization(2 * case.damping)
        gradients = oracle.gradients(first.weights, *first.test)
        expected = gradients / (1 + 2 * case.damping)
        if case.exact != "identity":
            expected = _exact_factors(first, case, gradients, damping=2 * case.damping)
        assert_close(_factors(first, model), expected, TOLERANCES[first.dtype])

    @EACH_CASE
    def test_a_large_damping_leaves_the_gradients(self, first: Problem, case: Case) -> None:
        first.need(*case.needs)
        model = _fitted(first, case, case.made(first)).with_regularization(LARGE)
        gradients = oracle.gradients(first.weights, *first.test)
        assert_close(LARGE * _factors(first, model), gradients, 100 / LARGE + first.tolerance)

    @EACH_CASE
    def test_how_samples_fall_into_batches_does_not_matter(
        self, first: Problem, case: Case
    ) -> None:
        first.need(*case.needs)
        whole = _factors(first, case.made(first).fit([first.batch(first.train)], progress=False))
        batches = [first.batch(first.train, piece) for piece in PIECES]
        split = _factors(first, case.made(first).fit(batches, progress=False))
        assert_close(split, whole, TOLERANCES[first.dtype])

    @EACH_CASE
    def test_rows_come_in_the_order_in_which_they_are_asked(
        self, first: Problem, case: Case
    ) -> None:
        first.need(*case.needs)
        model = _fitted(first, case, case.made(first))
        order = np.array([3, 0, 2, 1])
        together = _factors(first, model)
        shuffled = first.vectors(model.influence_factors(*first.batch(first.test, order)))
        alone = first.vectors(model.influence_factors(*first.batch(first.test, order[:1])))
        assert_close(shuffled, together[order], TOLERANCES[first.dtype])
        assert_close(alone, together[order[:1]], TOLERANCES[first.dtype])

    @EACH_METHOD
    def test_a_method_that_is_not_fitted_is_refused(self, first: Problem, method: str) -> None:
        case = _case_of(first, method)
        with pytest.raises(NotFittedError):
            case.made(first).influence_factors(*first.batch(first.test))


def _fitted(problem: Problem, case: Case, model: Any) -> Any:
    return model.fit([problem.batch(problem.train, slice(case.n))], progress=False)


def _factors(problem: Problem, model: Any) -> Array:
    return problem.vectors(model.influence_factors(*problem.batch(problem.test)))


def _exact_factors(problem: Problem, case: Case, rows: Array, *, damping: float) -> Array:
    x, y = problem.train
    train = x[: case.n], y[: case.n]
    return dense.factors(
        case.exact, problem.weights, train, rows, by_layer=case.by_layer, damping=damping
    )


def _case_of(problem: Problem, method: str) -> Case:
    """Return the first case of a method that the backend can form, or skip the test."""
    cases = [case for case in CASES if case.method == method]
    for case in cases:
        if all(map(problem.claims, case.needs)):
            return case
    problem.need(*cases[0].needs)
    raise AssertionError  # not reached


def _assert_exact(problem: Problem, case: Case, model: Any) -> Array:
    """Check factors and influences, and return the factors as they should be."""
    tolerance = TOLERANCES[problem.dtype]
    rows = oracle.gradients(problem.weights, *problem.test)
    factors = _exact_factors(problem, case, rows, damping=case.damping)
    assert_close(_factors(problem, model), factors, tolerance)
    influences = factors @ oracle.gradients(problem.weights, *problem.train).T
    actual = model.influences(*problem.batch(problem.test), *problem.batch(problem.train))
    assert_close(problem.numpy(actual), influences, tolerance)
    return factors
