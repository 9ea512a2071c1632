"""A model and its loss, seen through the layers: what `SupportsLayers` asks for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch.func import vjp, vmap
from torch.utils._pytree import tree_map  # noqa: PLC2701  # the trees that torch.func maps over; they have no public name

from upweight.protocols import LayerStatistics, RandomRows
from upweight.trees import Batch, Tree
from upweight_torch.batches import losses_of_samples
from upweight_torch.flat import Parameters
from upweight_torch.functional import FunctionalModel
from upweight_torch.kernels import twice_differentiable_kernels
from upweight_torch.layers import Layer, covered_layers, flat_output, layer_statistics
from upweight_torch.outputs import output_hessians, sampled_directions

Tensor = torch.Tensor
Loss = Callable[[Any, Any], Tensor]


class LayeredModel(ABC):
    """A snapshot of a model with its loss.

    Args:
        model: The model; parameters that do not require gradients are constants.
        loss: Called as `loss(output, y)`, the mean of the losses of the samples of a batch.

    Raises:
        TypeError: the model is no module, or the loss cannot be called.
        ModelError: the model cannot be copied.
    """

    def __init__(self, model: torch.nn.Module, loss: Loss) -> None:
        if not callable(loss):
            raise TypeError(f"The loss must be callable as loss(output, y); got {loss!r}.")
        self._model = FunctionalModel(model)
        self._loss = loss
        self._free: Parameters = self._model.trainable
        self._fixed: Parameters = {}
        self._layers: tuple[Layer, ...] | None = None

    def layers(
        self, batch: Batch[Tensor], directions: Tensor | None = None
    ) -> dict[str, LayerStatistics[Tensor]]:
        """Return inputs and output gradients of each covered layer, by its name.

        See `upweight.protocols.SupportsLayers`. Covered are `Linear`, `Conv1d` and `Conv2d` without
        groups whose weight is trainable and has no other use besides; what is covered is found on
        the first batch. A layer used several times has its uses side by side along t.
        """
        x, y = self._prepared(batch)
        covered = self._covered(x)
        values = {**self._fixed, **self._free}
        several = directions is not None and directions.ndim == 3

        def functions(output: Any) -> list[Tensor]:
            if directions is None:
                return [losses_of_samples(self._loss, output, y).sum()]
            flat = flat_output(output)
            return [(each * flat).sum() for each in (directions if several else directions[None])]

        statistics = layer_statistics(self._model, values, covered, x, functions)
        if several:
            return statistics
        return {name: replace(s, gradients=s.gradients[0]) for name, s in statistics.items()}

    def output_hessians(self, batch: Batch[Tensor]) -> Tensor:
        """Return the Hessian of the loss of each sample in its output, (n, c, c).

        Raises:
            MemoryLimitError: they would take more than 2 GiB.
        """
        output, y = self._outputs(batch)
        return output_hessians(self._loss, output, y)

    def sampled_directions(self, batch: Batch[Tensor], rng: RandomRows) -> Tensor:
        """Return gradients in the output for labels drawn from the prediction, (n, c).

        See `upweight.protocols.SupportsLayers`.
        """
        output, y = self._outputs(batch)
        return sampled_directions(self._loss, output, y, rng)

    def output_gradients(self, batch: Batch[Tensor], directions: Tensor) -> Tensor:
        """Return Jᵀu for each sample, with J the Jacobian of its c outputs, (d, n, p).

        See `upweight.protocols.SupportsOutputGradients`.
        """
        x, _ = self._prepared(batch)

        def pulled_back(x: Any, rows: Tensor) -> Parameters:
            def output(free: Parameters) -> Tensor:
                one = tree_map(lambda leaf: leaf.unsqueeze(0), x)
                return flat_output(self._model({**self._fixed, **free}, one))[0]

            _, pull, *_ = vjp(output, self._free)
            pulled: Parameters = vmap(lambda row: pull(row)[0])(rows)
            return pulled

        with twice_differentiable_kernels():
            rows = directions.movedim(0, 1)
            gradients: Parameters = vmap(pulled_back, chunk_size=self._capacity())(x, rows)
        return torch.cat([value.flatten(2) for value in gradients.values()], dim=2).movedim(0, 1)

    def _covered(self, x: Tree[Tensor]) -> tuple[Layer, ...]:
        """Return the layers that are covered, found on the first inputs that arrive."""
        if self._layers is None:
            values = {**self._fixed, **self._free}
            self._layers = covered_layers(self._model, values, self._free, x)
        return self._layers

    def _outputs(self, batch: Batch[Tensor]) -> tuple[Any, Tree[Tensor]]:
        x, y = self._prepared(batch)
        with torch.no_grad():
            return self._model({**self._fixed, **self._free}, x), y

    @abstractmethod
    def _prepared(self, batch: Batch[Tensor]) -> Batch[Tensor]:
        """Check a batch and bring it to the device of the model."""

    @abstractmethod
    def _capacity(self) -> int:
        """Return how many samples have activations that fit the working memory."""
