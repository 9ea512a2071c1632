"""Functions of a model that are compiled once for each shape, and forgotten with it.

A program depends on the function that a model is, and on its loss, and not on its parameters, which
are arguments. Objectives of the same function and loss share what is compiled, as long as one of
them is there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import jax

from upweight_jax.batches import Loss, losses_of_samples
from upweight_jax.model import FunctionalModel


@dataclass(frozen=True, eq=False)
class Problem:
    """A model and its loss.

    Attributes:
        model: The model.
        loss: Called as `loss(output, y)`, the mean of the losses of the samples of a batch.
    """

    model: FunctionalModel
    loss: Loss

    def losses(self, values: Mapping[str, jax.Array], x: Any, y: Any) -> jax.Array:
        """Return the loss of each sample for all parameters, (n,)."""
        return losses_of_samples(self.loss, self.model(values, x), y)


class Programs:
    """The compiled functions of a model and its loss, which hold none of its parameters."""

    def __init__(self, problem: Problem) -> None:
        self._problem = Problem(problem.model.without_values(), problem.loss)
        self._compiled: dict[Callable[..., Any], Any] = {}
        self._lock = threading.Lock()

    def compiled(self, function: Callable[..., Any], static: tuple[str, ...]) -> Any:
        """Return a function of this package, bound to the problem and compiled by `jax.jit`."""
        with self._lock:
            if function not in self._compiled:
                bound = partial(function, self._problem)
                self._compiled[function] = jax.jit(bound, static_argnames=static)
            return self._compiled[function]


class CompiledProblem:
    """A model and its loss, with the compiled functions of the two.

    Compiled functions go with the last problem that has them, and stay behind when it is pickled.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._programs = _programs_of(problem)

    def run(self, function: Callable[..., Any], *args: Any, **static: Any) -> Any:
        """Return `function(problem, *args, **static)`, compiled for these shapes and options.

        Args:
            function: A pure function of this package.
            args: Arrays, or pytrees of them.
            static: Options that it is compiled for, hashable.
        """
        return self._programs.compiled(function, tuple(static))(*args, **static)

    def __reduce__(self) -> tuple[type[CompiledProblem], tuple[Problem]]:
        return CompiledProblem, (self.problem,)


_SHARED: WeakValueDictionary[Hashable, Programs] = WeakValueDictionary()
_LOCK = threading.Lock()


def _programs_of(problem: Problem) -> Programs:
    """Return the programs of an equal problem, if there is one, or new ones."""
    key = problem.model.function, problem.loss
    try:
        hash(key)
    except TypeError:  # some part of it is compared by its contents
        return Programs(problem)
    with _LOCK:
        return _SHARED.setdefault(key, Programs(problem))
