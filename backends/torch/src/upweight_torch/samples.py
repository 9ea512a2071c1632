"""Gradients of single samples and their products with rows, by whichever way is cheapest."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import torch
from torch.func import vmap
from torch.utils._pytree import tree_map  # noqa: PLC2701  # the trees that torch.func maps over; they have no public name

from upweight.checks import batch_size
from upweight.protocols import LayerStatistics
from upweight.trees import Batch, Tree
from upweight_torch.batches import losses_of_samples, sliced
from upweight_torch.costs import LayerSize, Way, Work, cheapest_gradients, cheapest_products
from upweight_torch.factored import add_products, write_gradients
from upweight_torch.flat import Parameters, flatten, places
from upweight_torch.functional import gradient_of
from upweight_torch.kernels import twice_differentiable_kernels
from upweight_torch.layered import LayeredModel

Tensor = torch.Tensor

#: Bytes of activations that one call may work on: what stays in the cache of a processor, and what
#: keeps an accelerator busy.
WORKING_BYTES = {"cpu": 16 * 2**20, "other": 2**30}

#: Bytes of gradients formed at a time where only their products are wanted.
GRADIENT_BYTES = {"cpu": 32 * 2**20, "other": 2**30}


class SampleGradients(LayeredModel):
    """A model with its loss, differentiated sample by sample.

    Args:
        model: The model; parameters that do not require gradients are constants.
        loss: Called as `loss(output, y)`, the mean of the losses of the samples of a batch.

    Raises:
        TypeError: the model is no module, or the loss cannot be called.
        ModelError: the model cannot be copied.
    """

    def __init__(self, model: torch.nn.Module, loss: Callable[[Any, Any], Tensor]) -> None:
        super().__init__(model, loss)
        self._sample_bytes: int | None = None

    def gradients(self, batch: Batch[Tensor]) -> Tensor:
        """Return the gradient of the loss of each sample in the parameters, (n, p)."""
        x, y = self._prepared(batch)
        if cheapest_gradients(self._work(x)) is Way.MATERIALISED:
            return self._materialised(x, y)
        return self._gradients_of_layers(x, y)

    def inner_products(self, rows: Tensor, batch: Batch[Tensor]) -> Tensor:
        """Return ⟨row, gradient of sample⟩ for each pair, (k, n)."""
        x, y = self._prepared(batch)
        way = cheapest_products(self._work(x), len(rows))
        return self._products(way, rows.detach(), x, y)

    def _products(self, way: Way, rows: Tensor, x: Tree[Tensor], y: Tree[Tensor]) -> Tensor:
        if way is Way.FACTORED:
            return self._products_of_layers(rows, x, y)
        if way is Way.PULLED_BACK:
            return self._products_pulled_back(rows, x, y)
        size = max(1, self._at_most(GRADIENT_BYTES) // (rows.shape[1] * rows.element_size()))
        pieces = [
            rows @ self._materialised(sliced(x, i, i + size), sliced(y, i, i + size)).T
            for i in range(0, batch_size(x), size)
        ]
        return torch.cat(pieces, dim=1)

    def _gradients_of_layers(self, x: Tree[Tensor], y: Tree[Tensor]) -> Tensor:
        """Return the gradients (n, p), those of layers rebuilt from their statistics."""
        place = places(self._free)
        total = self._any().new_empty((batch_size(x), self._size()))
        for some, layers in self._statistics(x, y):
            for layer in layers:
                bias = None if layer.bias is None else total[some, place[layer.bias]]
                write_gradients(layer, total[some, place[layer.weight]], bias)
        rest = self._uncovered()
        if rest is not None:
            found = rest._materialised(x, y)
            for name, columns in places(rest._free).items():
                total[:, place[name]] = found[:, columns]
        return total

    def _products_of_layers(self, rows: Tensor, x: Tree[Tensor], y: Tree[Tensor]) -> Tensor:
        place = places(self._free)
        total = rows.new_zeros((len(rows), batch_size(x)))
        for some, layers in self._statistics(x, y):
            for layer in layers:
                bias = None if layer.bias is None else rows[:, place[layer.bias]]
                add_products(layer, rows[:, place[layer.weight]], bias, total[:, some])
        rest = self._uncovered()
        if rest is not None:
            theirs = torch.cat([rows[:, place[name]] for name in rest._free], dim=1)
            way = cheapest_products(rest._work(x), len(rows))
            total += rest._products(way, theirs, x, y)
        return total

    def _products_pulled_back(self, rows: Tensor, x: Tree[Tensor], y: Tree[Tensor]) -> Tensor:
        n = batch_size(x)

        def weighted_gradient(weights: Tensor) -> Parameters:
            return gradient_of(lambda free: weights @ self._losses(free, x, y), self._free)

        products: Tensor = self._linearised(weighted_gradient, rows.new_ones(n), n)(rows)
        return products

    def _statistics(
        self, x: Tree[Tensor], y: Tree[Tensor]
    ) -> Iterator[tuple[slice, list[LayerStatistics[Tensor]]]]:
        """Yield the statistics of all layers, for as many samples at once as memory allows."""
        n, step = batch_size(x), self._capacity()
        for start in range(0, n, step):
            some = slice(start, min(n, start + step))
            piece = sliced(x, some.start, some.stop), sliced(y, some.start, some.stop)
            yield some, [*self.layers(piece).values()]

    def _materialised(self, x: Tree[Tensor], y: Tree[Tensor]) -> Tensor:
        """Return the gradients (n, p), each one by itself."""

        def gradient(x: Any, y: Any) -> Parameters:
            one = tree_map(lambda leaf: leaf.unsqueeze(0), (x, y))
            return gradient_of(lambda free: self._losses(free, *one).sum(), self._free)

        with twice_differentiable_kernels():
            return flatten(vmap(gradient, chunk_size=self._capacity())(x, y))

    def _losses(self, free: Parameters, x: Tree[Tensor], y: Tree[Tensor]) -> Tensor:
        return losses_of_samples(self._loss, self._model({**self._fixed, **free}, x), y)

    def _work(self, x: Tree[Tensor]) -> Work:
        covered = self._covered(x)
        names = {name for layer in covered for name in (layer.weight, layer.bias)}
        return Work(
            batch_size(x),
            self._size(),
            self._sample_bytes or 0,
            tuple(
                LayerSize(layer.positions, *self._free[layer.weight].flatten(1).shape)
                for layer in covered
            ),
            sum(value.numel() for name, value in self._free.items() if name in names),
        )

    def _uncovered(self) -> Self | None:
        """Return the same loss as a function of the parameters that belong to no covered layer."""
        covered = {name for layer in self._layers or () for name in (layer.weight, layer.bias)}
        names = [name for name in self._free if name not in covered]
        if not names:
            return None
        rest = self.restrict(names)
        rest._layers = ()
        return rest

    def _size(self) -> int:
        return sum(value.numel() for value in self._free.values())

    def _capacity(self) -> int:
        """Return how many samples have activations that fit the working memory."""
        return max(1, self._at_most(WORKING_BYTES) // (self._sample_bytes or 1))

    def _at_most(self, limits: dict[str, int]) -> int:
        return limits["cpu" if self._any().device.type == "cpu" else "other"]

    def _any(self) -> Tensor:
        return next(iter(self._free.values()))

    @abstractmethod
    def restrict(self, names: Sequence[str]) -> Self:
        """Return the same loss, seen as a function of the named parameters only."""

    @abstractmethod
    def _linearised(
        self, gradient_at: Callable[[Any], Parameters], point: Any, n: int
    ) -> Callable[[Tensor], Any]:
        """Linearise a map to gradients once; return what pulls each row back through it."""
