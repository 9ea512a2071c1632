"""The reference problem in a backend, and the way between its vectors and those of the oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from upweight.plugins import Backend
from upweight.testing.reference import (
    LAYERS,
    TRANSPOSED,
    Array,
    columns_of,
    held_out_samples,
    reference_weights,
    training_samples,
)

#: Backends that compile do so for every size. There are 12 training and 4 test samples; batches hold
#: all of them, 8, 4 or 1, and calls take 1 row, 4, or more than there are parameters.
PIECES = [slice(4), slice(4, 12)]

#: Largest error of a derivative, as a multiple of the largest number expected.
TOLERANCES = {"float64": 1e-9, "float32": 1e-4}


@dataclass(frozen=True)
class Problem:
    """A model and a loss of a backend that compute what the oracle does.

    Attributes:
        backend: The backend.
        model: What the author has built from the weights.
        loss: The loss that belongs to it.
        order: Names of the parameters of the reference in the order of the model.
        dtype: "float64" or "float32".
        objective: The objective of model and loss.
    """

    backend: Backend
    model: Any
    loss: Any
    order: tuple[str, ...]
    dtype: str
    objective: Any

    @property
    def tolerance(self) -> float:
        """The largest relative error of a derivative."""
        return TOLERANCES[self.dtype]

    @cached_property
    def weights(self) -> dict[str, Array]:
        """The weights as the oracle takes them, exactly those of the model."""
        return {name: value.astype(float) for name, value in reference_weights(self.dtype).items()}

    @cached_property
    def train(self) -> tuple[Array, Array]:
        """The training samples as the oracle takes them."""
        x, y = training_samples(self.dtype)
        return x.astype(float), y

    @cached_property
    def test(self) -> tuple[Array, Array]:
        """The test samples as the oracle takes them."""
        x, y = held_out_samples(self.dtype)
        return x.astype(float), y

    @cached_property
    def columns(self) -> NDArray[np.intp]:
        """Where the numbers of the model's own vectors are in those of the oracle, (p,)."""
        return columns_of(self.order)

    @cached_property
    def names(self) -> dict[str, str]:
        """The backend's own name of each parameter of the reference."""
        plain = (entry.removesuffix(TRANSPOSED) for entry in self.order)
        return dict(zip(plain, self.objective.parameters, strict=True))

    @property
    def blocks(self) -> dict[str, list[str]]:
        """The backend's own names of the parameters of each layer."""
        return {layer: [self.names[name] for name in names] for layer, names in LAYERS.items()}

    def claims(self, capability: str) -> bool:
        """Return whether the backend claims a capability."""
        return capability in self.backend.capabilities

    def need(self, *capabilities: str) -> None:
        """Skip the test that is running unless the backend claims these capabilities."""
        for capability in capabilities:
            if not self.claims(capability):
                pytest.skip(f"{self.backend.name} does not claim {capability}")

    def array(self, values: Array) -> Any:
        """Return numbers as an array of the framework, floating-point ones in the type of the model."""
        floating = np.issubdtype(values.dtype, np.floating)
        converter = self.backend.converter()
        return converter.from_numpy(values.astype(self.dtype) if floating else values)

    def batch(self, samples: tuple[Array, Array], rows: Any = slice(None)) -> tuple[Any, Any]:
        """Return some of the samples as arrays of the framework."""
        x, y = samples
        return self.array(x[rows]), self.array(y[rows])

    def rows(self, vectors: Array) -> Any:
        """Return vectors of the oracle (k, p) in the model's own order."""
        return self.array(vectors[:, self.columns])

    def numpy(self, array: Any) -> Array:
        """Return an array of the framework as float64 numbers."""
        return np.asarray(self.backend.converter().to_numpy(array)).astype(float)

    def vectors(self, rows: Any) -> Array:
        """Return vectors of the model, along the last axis, in the order of the oracle."""
        return self.numpy(rows)[..., np.argsort(self.columns)]

    def random_vectors(self, k: int, seed: int = 3) -> Array:
        """Return k random vectors of the oracle that the type of the model represents, (k, p)."""
        drawn = np.random.default_rng(seed).normal(0, 1, (k, len(self.columns)))
        return drawn.astype(self.dtype).astype(float)


def problem_of(backend: Backend, built: tuple[Any, Any, Sequence[str]], dtype: str) -> Problem:
    """Return the problem that an author has built."""
    model, loss, order = built
    return Problem(backend, model, loss, tuple(order), dtype, backend.objective(model, loss))


def assert_close(actual: Array, expected: Array, tolerance: float) -> None:
    """Fail unless numbers differ by at most `tolerance` times the largest one expected."""
    if actual.shape != expected.shape:
        pytest.fail(f"the shape is {actual.shape}, and {expected.shape} is expected")
    if not actual.size:
        return
    scale = np.abs(expected).max() or 1.0
    error = np.abs(actual - expected).max() / scale
    if not error <= tolerance:
        pytest.fail(
            f"the largest error is {error:.2g} times the largest number expected ({scale:.3g}), "
            f"and {tolerance:.0e} is allowed"
        )


def by_layer(problem: Problem, statistics: Mapping[str, Any]) -> dict[str, Any]:
    """Return statistics of layers by the name of the layer in the reference."""
    layer_of = {names[0]: layer for layer, names in problem.blocks.items()}
    return {layer_of[s.weight]: s for s in statistics.values()}
