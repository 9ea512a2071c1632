"""Influence through the dense Hessian."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from array_api_compat import array_namespace, device

from upweight.checks import batch_size, check_finite
from upweight.errors import CurvatureWarning, MemoryLimitError
from upweight.linalg.dense import DenseInverse
from upweight.models._base import CurvatureInfluence
from upweight.models._data import joined_batches
from upweight.protocols import ReportsMemory, SupportsDenseHessian
from upweight.trees import Batch

if TYPE_CHECKING:
    from upweight.protocols import Objective

A = TypeVar("A")

#: The matrix, its inverse, and what factorising and inverting work on.
MATRICES_AT_PEAK = 5

#: Bytes that every machine has: not worth the time to ask it.
ALWAYS_THERE = 2**28


class DirectInfluence(CurvatureInfluence[A]):
    r"""Influence with the Hessian H of the mean training loss, built in full and inverted exactly.

    Factors are \((H + \lambda I)^{-1} \nabla_\theta \ell(z)\). The Hessian takes p² numbers and
    its inverse O(p³) operations, once: for models of up to some thousands of parameters.

    Args:
        objective: The mean loss, seen through its derivatives.
        regularization: \(\lambda\), in units of the curvature.
        max_memory: Most bytes that `fit` may need; by default what is free on the device of the
            model when `fit` is called.

    References:
        Koh and Liang, "Understanding Black-box Predictions via Influence Functions", ICML 2017,
        equation (2), without its minus sign.
    """

    def __init__(
        self,
        objective: Objective[A],
        *,
        regularization: float = 0.0,
        max_memory: int | None = None,
    ) -> None:
        super().__init__(objective, regularization=regularization)
        self._max_memory = max_memory

    def _invert(self, data: Iterable[Batch[A]], *, progress: bool) -> DenseInverse:
        self._check_memory()
        hessian = self._hessian(data, progress=progress)
        inverse = DenseInverse.of(hessian, damping=self._regularization)
        if inverse.lowest is not None:
            warnings.warn(
                f"The Hessian has negative eigenvalues, down to {inverse.lowest:.3g}, so with the "
                f"regularization {self._regularization:g} influences are not those of a minimum. "
                f"Train longer, or use a regularization above {-inverse.lowest:.3g}.",
                CurvatureWarning,
                stacklevel=3,
            )
        return inverse

    def _hessian(self, data: Iterable[Batch[A]], *, progress: bool) -> Any:
        """Return the Hessian of the mean loss over the data, (p, p)."""
        total: Any = self._objective.zeros(self._n_parameters)
        samples = 0
        for batch in joined_batches(data, self._objective, label="Hessian", progress=progress):
            n = batch_size(*batch)
            total = total + n * self._batch_hessian(batch)
            samples += n
        hessian = total / samples
        check_finite(hessian, what="Hessian of the mean loss")
        return hessian

    def _batch_hessian(self, batch: Batch[A]) -> Any:
        if isinstance(self._objective, SupportsDenseHessian):
            return self._objective.hessian(batch)
        p = self._n_parameters
        none: Any = self._objective.zeros(0)
        unit = array_namespace(none).eye(p, dtype=none.dtype, device=device(none))
        return self._objective.hessian_product(unit, batch)

    def _check_memory(self) -> None:
        p = self._n_parameters
        needed = MATRICES_AT_PEAK * p**2 * self.dtype.itemsize
        if self._max_memory is None and needed <= ALWAYS_THERE:
            return
        available = self._available_memory() if self._max_memory is None else self._max_memory
        if needed > available:
            raise MemoryLimitError(
                f"The dense Hessian of {p:,} parameters and its inverse need about "
                f"{needed / 2**30:,.1f} GiB; {available / 2**30:,.1f} GiB are available. "
                "Use CgInfluence, which needs only products with the Hessian, or freeze "
                "parameters that do not matter (`requires_grad_(False)`)."
            )

    def _available_memory(self) -> int:
        on_device = None
        if isinstance(self._objective, ReportsMemory):
            on_device = self._objective.available_memory()
        return _free_main_memory() if on_device is None else on_device


def _free_main_memory() -> int:
    import psutil
    from distributed.system import MEMORY_LIMIT  # knows the limit of a container

    return int(min(psutil.virtual_memory().available, MEMORY_LIMIT))
