"""Products with the curvature of the mean loss, for each of its definitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from array_api_compat import array_namespace, device

from upweight.errors import UnsupportedCurvatureError
from upweight.influence import SecondOrderMode
from upweight.protocols import Objective, SupportsDenseHessian, SupportsGaussNewton
from upweight.trees import Batch

if TYPE_CHECKING:
    from upweight.models._data import TrainingData

A = TypeVar("A")


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
        gradients: Any = objective.gradients(batch)
        xp = array_namespace(gradients)
        return (rows @ xp.matrix_transpose(gradients)) @ gradients / gradients.shape[0]
    return objective.hessian_product(rows, batch)


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

    def __init__(
        self, objective: Objective[A], mode: SecondOrderMode, data: TrainingData[A]
    ) -> None:
        self.objective = objective
        self._mode = mode
        self.data = data

    def __call__(self, rows: Any) -> Any:
        """Return the curvature times each row, (k, p)."""
        total: Any = None
        for share, batch in self.data:
            part = share * curvature_product(self.objective, self._mode, rows, batch)
            total = part if total is None else total + part
        return total
