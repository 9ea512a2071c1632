"""Products with the curvature of the mean loss, for each of its definitions."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from array_api_compat import array_namespace, device

from upweight.errors import UnsupportedCurvatureError
from upweight.influence import SecondOrderMode
from upweight.protocols import (
    Objective,
    SuggestsBatchSize,
    SupportsDenseHessian,
    SupportsGaussNewton,
    SupportsLinearisedProducts,
)
from upweight.trees import Batch

if TYPE_CHECKING:
    from upweight.models._sums import SummedData
    from upweight.sums import Piece

A = TypeVar("A")

#: The share of a batch in the samples, and products of rows with the curvature of its mean loss.
WeightedProduct = tuple[float, Callable[[Any], Any]]

#: Gradients of all samples up to this many bytes are kept for as long as they are needed.
GRADIENT_BYTES = 512 * 2**20


def checked_mode(mode: SecondOrderMode | str, objective: Objective[Any]) -> SecondOrderMode:
    """Return the mode if the objective can form it.

    Raises:
        ValueError: the mode is unknown.
        UnsupportedCurvatureError: the backend has no Gauss-Newton products.
    """
    mode = SecondOrderMode(mode)
    if mode is SecondOrderMode.GAUSS_NEWTON and not isinstance(objective, SupportsGaussNewton):
        raise UnsupportedCurvatureError(
            f"{type(objective).__name__} has no products with the Gauss-Newton matrix. "
            "Use second_order_mode='hessian' or 'empirical_fisher'."
        )
    return mode


def curvature_product(
    objective: Objective[A], mode: SecondOrderMode, rows: A, batch: Batch[A]
) -> Any:
    """Return the curvature of the mean loss of a batch times each row, (k, p)."""
    if mode is SecondOrderMode.GAUSS_NEWTON:
        return objective.gauss_newton_product(rows, batch)  # type: ignore[attr-defined]  # checked_mode
    if mode is SecondOrderMode.EMPIRICAL_FISHER:
        return _fisher_product(objective.gradients(batch), rows)
    return objective.hessian_product(rows, batch)


def _fisher_product(gradients: Any, rows: Any) -> Any:
    xp = array_namespace(gradients)
    return (rows @ xp.matrix_transpose(gradients)) @ gradients / gradients.shape[0]


def _product(mode: SecondOrderMode, objective: Objective[A], piece: Piece, rows: A) -> Any:
    return curvature_product(objective, mode, rows, piece.batch)


def curvature_matrix(objective: Objective[A], mode: SecondOrderMode, batch: Batch[A]) -> Any:
    """Return the curvature of the mean loss of a batch, (p, p)."""
    if mode is SecondOrderMode.EMPIRICAL_FISHER:
        gradients: Any = objective.gradients(batch)
        xp = array_namespace(gradients)
        return xp.matrix_transpose(gradients) @ gradients / gradients.shape[0]
    if mode is SecondOrderMode.HESSIAN and isinstance(objective, SupportsDenseHessian):
        return objective.hessian(batch)
    none: Any = objective.zeros(0)
    unit = array_namespace(none).eye(none.shape[1], dtype=none.dtype, device=device(none))
    return curvature_product(objective, mode, unit, batch)


class CurvatureOperator(Generic[A]):
    """The curvature of the mean loss over training data, known by its products.

    Args:
        objective: The mean loss.
        mode: Which curvature.
        data: The training data, walked once a product.
    """

    def __init__(self, objective: Objective[A], mode: SecondOrderMode, data: SummedData[A]) -> None:
        self.objective = objective
        self._mode = mode
        self.data = data
        self._kept: list[WeightedProduct] | None = None

    def __call__(self, rows: Any) -> Any:
        """Return the curvature times each row, (k, p)."""
        if self._kept is None:
            return self.data.mean(self.objective, partial(_product, self._mode), rows)
        total: Any = None
        for share, product in self._kept:
            part = share * product(rows)
            total = part if total is None else total + part
        return total

    def parts(self) -> Iterator[WeightedProduct]:
        """Yield the share of each batch and the products with its own curvature."""
        if self._kept is not None:
            yield from self._kept
            return
        for share, batch in self.data:
            yield share, partial(self._product, batch)

    def prepared(self) -> CurvatureOperator[A]:
        """Return the same curvature, ready for many products, which share what they can.

        Those with the empirical Fisher share the gradients of all samples, if these take up to
        `GRADIENT_BYTES`; the others the linearisation of each batch, if the objective has it and
        would take all samples as one batch. What is shared lives as long as the operator that is
        returned: for one solve, or one fit.
        """
        if not self._fits():
            return self
        other = copy.copy(self)
        other._kept = [(share, self._products(batch)) for share, batch in self.data]
        return other

    def _product(self, batch: Batch[A], rows: A) -> Any:
        return curvature_product(self.objective, self._mode, rows, batch)

    def _products(self, batch: Batch[A]) -> Callable[[Any], Any]:
        objective: Any = self.objective
        if self._mode is SecondOrderMode.EMPIRICAL_FISHER:
            return partial(_fisher_product, objective.gradients(batch))
        gauss_newton = self._mode is SecondOrderMode.GAUSS_NEWTON
        linearised = objective.gauss_newton_products if gauss_newton else objective.hessian_products
        products: Callable[[Any], Any] = linearised(batch)
        return products

    def _fits(self) -> bool:
        if self.data.distributed:
            return False
        objective = self.objective
        if self._mode is SecondOrderMode.EMPIRICAL_FISHER:
            none: Any = objective.zeros(0)
            numbers: int = self.data.n_samples * none.shape[1]
            return numbers * objective.dtype.itemsize <= GRADIENT_BYTES
        if not self.data.kept or not isinstance(objective, SupportsLinearisedProducts):
            return False
        if not isinstance(objective, SuggestsBatchSize):
            return False
        _, first = next(iter(self.data))
        return self.data.n_samples <= objective.suggested_batch_size(first)
