"""A model and its loss, seen through the layers: what `SupportsLayers` asks for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from upweight.protocols import LayerStatistics, RandomRows
from upweight.trees import Batch
from upweight_jax import derivatives
from upweight_jax.batches import Loss
from upweight_jax.compiled import CompiledProblem, Problem
from upweight_jax.flat import Parameters, check_parameters
from upweight_jax.layers import Layer, covered_layers, layer_statistics
from upweight_jax.model import FunctionalModel, Trainable
from upweight_jax.outputs import output_hessians, outputs, sampled_directions

Array = jax.Array


class LayeredModel(ABC):
    """A snapshot of a model with its loss; see `JaxObjective` for the arguments."""

    def __init__(self, model: object, loss: Loss, *, trainable: Trainable | None = None) -> None:
        if not callable(loss):
            raise TypeError(f"The loss must be callable as loss(output, y); got {loss!r}.")
        functional = FunctionalModel(model)
        self._compiled = CompiledProblem(Problem(functional, loss))
        self._free: Parameters = functional.selected(trainable)
        self._layers: tuple[Layer, ...] | None = None
        check_parameters(self._free)

    def layers(
        self, batch: Batch[Array], directions: Array | None = None
    ) -> dict[str, LayerStatistics[Array]]:
        """Return inputs and output gradients of each covered layer, by its name.

        See `upweight.protocols.SupportsLayers`. Covered are weights that the model multiplies with,
        or convolves with in one group, however it is written, and that have no other use besides;
        which these are is found on the first batch. A weight used several times has its uses side
        by side along t.
        """
        x, y = self._prepared(batch)
        if self._layers is None:
            self._layers = covered_layers(self._compiled, self._free, self._fixed(), x)
        if not self._layers:
            return {}
        several = directions is not None and directions.ndim == 3
        rows = directions if several or directions is None else directions[None]
        found = self._run(layer_statistics, (x, y, rows), layers=self._layers)
        return {
            layer.name: LayerStatistics(
                layer.weight,
                layer.bias,
                found[layer.name][0],
                found[layer.name][1] if several else found[layer.name][1][0],
                layer.transposed,
            )
            for layer in self._layers
        }

    def output_hessians(self, batch: Batch[Array]) -> Array:
        """Return the Hessian of the loss of each sample in its output, (n, c, c)."""
        hessians: Array = self._run(output_hessians, self._prepared(batch))
        return hessians

    def sampled_directions(self, batch: Batch[Array], rng: RandomRows) -> Array:
        """Return gradients in the output for labels drawn from the prediction, (n, c).

        See `upweight.protocols.SupportsLayers`.
        """
        x, y = self._prepared(batch)
        return sampled_directions(self._problem.loss, self._run(outputs, (x,)), y, rng)

    def output_gradients(self, batch: Batch[Array], directions: Array) -> Array:
        """Return Jᵀu for each sample, with J the Jacobian of its c outputs, (d, n, p).

        See `upweight.protocols.SupportsOutputGradients`.
        """
        x, _ = self._prepared(batch)
        args = x, jnp.asarray(directions)
        pulled: Array = self._run(derivatives.output_gradients, args, at_once=self._capacity())
        return pulled

    def _run(self, function: Callable[..., Any], args: tuple[Any, ...], **static: Any) -> Any:
        return self._compiled.run(function, self._free, self._fixed(), *args, **static)

    @property
    def _problem(self) -> Problem:
        return self._compiled.problem

    def _fixed(self) -> Parameters:
        model = self._problem.model
        frozen = ((name, v) for name, v in model.values.items() if name not in self._free)
        return OrderedDict([*frozen, *model.constants.items()])

    @abstractmethod
    def _prepared(self, batch: Batch[Array]) -> Batch[Array]:
        """Check a batch and bring it to the device of the model."""

    @abstractmethod
    def _capacity(self) -> int:
        """Return how many samples have activations that fit the working memory."""
