"""An objective built and called once, and what has changed meanwhile."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from upweight.testing.calls import calls
from upweight.testing.problem import Problem
from upweight.testing.reference import Array, reference_weights
from upweight.testing.state import changes, state_of, surroundings


@dataclass(frozen=True)
class Watched:
    """What calls gave, and what they changed.

    Attributes:
        results: The result of each derivative, by its name.
        model: What changed in the model.
        weights: Names of the weights, handed to the author, that changed.
        settings: Names of the global settings that changed.
        arguments: Names of the derivatives that changed their rows or their batch.
    """

    results: Mapping[str, Array]
    model: Sequence[str]
    weights: Sequence[str]
    settings: Sequence[str]
    arguments: Sequence[str]


def watch(
    problem: Problem,
    build: Callable[[Mapping[str, Array]], tuple[Any, Any, Sequence[str]]],
    settings: Callable[[], object],
) -> Watched:
    """Build a model and an objective, and call each derivative once.

    Args:
        problem: The same problem, built before.
        build: What builds the model from weights.
        settings: What returns the global settings of the framework.
    """
    weights = reference_weights(problem.dtype)
    model, loss, _ = build(weights)
    to_numpy = problem.backend.converter().to_numpy
    before = state_of(model, to_numpy)
    # Other states than those that a call with a seed of its own, made before, would leave.
    random.random()
    np.random.random_sample()  # noqa: NPY002  # the state that others may rely on
    around = {**surroundings(), "settings of the framework": repr(settings())}
    objective = problem.backend.objective(model, loss)
    results, touched = {}, []
    for name, call in calls(problem).items():
        given = arguments(problem)
        results[name] = problem.numpy(call(objective, *given))
        if not same(_numbers(problem, given), _numbers(problem, arguments(problem))):
            touched.append(name)
    given_again = reference_weights(problem.dtype)
    return Watched(
        results=results,
        model=changes(before, state_of(model, to_numpy)),
        weights=[name for name in weights if (weights[name] != given_again[name]).any()],
        settings=changes(around, {**surroundings(), "settings of the framework": repr(settings())}),
        arguments=touched,
    )


def arguments(problem: Problem) -> tuple[Any, Any]:
    """Return rows and a batch, made afresh."""
    return problem.rows(problem.random_vectors(4)), problem.batch(problem.train)


def results_of(problem: Problem, objective: Any) -> dict[str, Array]:
    """Return the result of each derivative of an objective, by its name."""
    return {
        name: problem.numpy(call(objective, *arguments(problem)))
        for name, call in calls(problem).items()
    }


def same(results: Mapping[str, Array], expected: Mapping[str, Array]) -> bool:
    """Return whether numbers are the same to the last bit."""
    return all(np.array_equal(results[name], value) for name, value in expected.items())


def _numbers(problem: Problem, given: tuple[Any, Any]) -> dict[str, Array]:
    rows, (x, y) = given
    return {name: problem.numpy(a) for name, a in (("rows", rows), ("x", x), ("y", y))}
