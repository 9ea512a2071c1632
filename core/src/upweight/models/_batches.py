"""The curvatures of single batches of the training data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from upweight.checks import check_finite
from upweight.linalg.neumann import largest_eigenvalue
from upweight.linalg.random import gaussian_rows
from upweight.models._curvature import CurvatureOperator, WeightedProduct


@dataclass(frozen=True)
class BatchCurvatures:
    """The curvatures of the batches, known by their products, with the curvature of all for mean.

    The curvature of a batch is that of its mean loss times its size over the mean size.
    """

    whole: CurvatureOperator[Any]

    @property
    def count(self) -> int:
        """Number of batches."""
        return self.whole.data.n_batches

    def prepared(self) -> BatchCurvatures:
        """Return the same curvatures, ready for many products; see `CurvatureOperator.prepared`."""
        return replace(self, whole=self.whole.prepared())

    def products(self, order: np.random.Generator | None = None) -> Iterator[Callable[[Any], Any]]:
        """Yield, once for each batch, the product with its weighted curvature.

        Args:
            order: Draws the order of the batches if they are kept.
        """
        parts: Iterable[WeightedProduct] = self.whole.parts()
        if order is not None and self.whole.data.kept:
            known = list(parts)
            parts = [known[i] for i in order.permutation(len(known))]
        for share, product in parts:
            yield partial(_weighted, share * self.count, product)

    def largest_eigenvalue(self, seed: int) -> float:
        """Return an estimate of the largest eigenvalue of any batch, found in one pass."""
        rng = np.random.default_rng(seed)
        row = gaussian_rows(rng, self.whole.objective.zeros(1), 1)
        largest = 0.0
        for index, product in enumerate(self.prepared().products()):
            value, row = largest_eigenvalue(product, row, similar=index > 0)
            largest = max(largest, value)
            check_finite(row * value, what="curvature of a training batch")
        return largest


def _weighted(weight: float, product: Callable[[Any], Any], rows: Any) -> Any:
    return weight * product(rows)
