"""Functions of a model that are compiled once for each shape, and forgotten with it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

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


class CompiledProblem:
    """A model and its loss, with the compiled functions of the two.

    Compiled functions belong to this object, so that they go when it goes, and stay behind when it
    is pickled.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._start()

    def run(self, function: Callable[..., Any], *args: Any, **static: Any) -> Any:
        """Return `function(problem, *args, **static)`, compiled for these shapes and options.

        Args:
            function: A pure function of this package.
            args: Arrays, or pytrees of them.
            static: Options that it is compiled for, hashable.
        """
        with self._lock:
            if function not in self._compiled:
                bound = partial(function, self.problem)
                self._compiled[function] = jax.jit(bound, static_argnames=tuple(static))
        return self._compiled[function](*args, **static)

    def _start(self) -> None:
        self._compiled: dict[Callable[..., Any], Any] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"problem": self.problem}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()
