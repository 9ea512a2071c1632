"""The curvatures of single batches of the training data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from upweight.checks import check_finite
from upweight.influence import SecondOrderMode
from upweight.linalg.neumann import largest_eigenvalue
from upweight.linalg.random import gaussian_rows
from upweight.models._curvature import curvature_product
from upweight.models._data import TrainingData
from upweight.trees import Batch

if TYPE_CHECKING:
    from upweight.protocols import Objective


@dataclass(frozen=True)
class BatchCurvatures:
    """The curvatures of the batches, known by their products, with the curvature of all for mean.

    The curvature of a batch is that of its mean loss times its size over the mean size.
    """

    objective: Objective[Any]
    mode: SecondOrderMode
    data: TrainingData[Any]

    def products(self, order: np.random.Generator | None = None) -> Iterator[Callable[[Any], Any]]:
        """Yield, once for each batch, the product with its weighted curvature.

        Args:
            order: Draws the order of the batches if they are kept.
        """
        weighted: Iterable[tuple[float, Batch[Any]]] = self.data
        if order is not None and self.data.kept:
            known = list(self.data)
            weighted = [known[i] for i in order.permutation(len(known))]
        for share, batch in weighted:
            yield partial(self._product, share * self.data.n_batches, batch)

    def largest_eigenvalue(self, seed: int) -> float:
        """Return an estimate of the largest eigenvalue of any batch, found in one pass."""
        row = gaussian_rows(np.random.default_rng(seed), self.objective.zeros(1), 1)
        largest = 0.0
        for index, product in enumerate(self.products()):
            value, row = largest_eigenvalue(product, row, similar=index > 0)
            largest = max(largest, value)
            check_finite(row * value, what="curvature of a training batch")
        return largest

    def _product(self, weight: float, batch: Batch[Any], rows: Any) -> Any:
        return weight * curvature_product(self.objective, self.mode, rows, batch)
