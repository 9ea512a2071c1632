"""Influence through conjugate gradients on products with the Hessian."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from array_api_compat import array_namespace

from upweight.checks import check_finite
from upweight.errors import ConvergenceWarning, IndefiniteCurvatureError
from upweight.linalg.cg import CgSolution, conjugate_gradients
from upweight.models._base import CurvatureInfluence
from upweight.models._data import TrainingData
from upweight.trees import Batch

if TYPE_CHECKING:
    from upweight.protocols import Objective

A = TypeVar("A")


class CgInfluence(CurvatureInfluence[A]):
    r"""Influence with the Hessian H of the mean training loss, solved by conjugate gradients.

    Factors are \((H + \lambda I)^{-1} \nabla_\theta \ell(z)\). Each step of a solve multiplies by
    the Hessian, in one pass over the training data for all rows together; nothing of the size p²
    is ever formed.

    Args:
        objective: The mean loss, seen through its derivatives.
        regularization: \(\lambda\), in units of the curvature. It must lift the curvature above
            zero along every direction that a solve meets.
        rtol: A row is solved when the norm of its residual is at most `rtol` times its own norm,
        atol: or at most `atol`.
        maxiter: Most steps of a row.

    References:
        Koh and Liang, "Understanding Black-box Predictions via Influence Functions", ICML 2017,
        section 3; Martens, "Deep learning via Hessian-free optimization", ICML 2010, section 4.
    """

    def __init__(
        self,
        objective: Objective[A],
        *,
        regularization: float = 0.0,
        rtol: float = 1e-4,
        atol: float = 0.0,
        maxiter: int = 1000,
    ) -> None:
        super().__init__(objective, regularization=regularization)
        if not (rtol >= 0 and atol >= 0 and rtol + atol > 0):
            raise ValueError(
                "`rtol` and `atol` must not be negative, and one of them must be positive; "
                f"got rtol={rtol!r} and atol={atol!r}."
            )
        if maxiter < 1:
            raise ValueError(f"`maxiter` must be at least 1; got {maxiter!r}.")
        self._options: dict[str, Any] = {"rtol": rtol, "atol": atol, "maxiter": maxiter}

    def _invert(self, data: Iterable[Batch[A]], *, progress: bool) -> CgInverse[A]:
        kept = TrainingData(data, self._objective, progress=progress)
        return CgInverse(self._objective, kept, self._regularization, self._options)

    @property
    def last_solution(self) -> CgSolution | None:
        """Steps, residuals and curvatures of the last solve, or None before the first.

        With several threads, of the one that ended last.
        """
        return cast("CgInverse[A]", self._fitted()).last_solution


class CgInverse(Generic[A]):
    """The inverse of the damped Hessian over training data, applied by conjugate gradients."""

    def __init__(
        self,
        objective: Objective[A],
        data: TrainingData[A],
        damping: float,
        options: dict[str, Any],
    ) -> None:
        self._objective = objective
        self._data = data
        self._damping = damping
        self._options = options
        self.last_solution: CgSolution | None = None

    def solve(self, rows: A) -> A:
        """Return (H + λI)⁻¹ times each row, (k, p).

        Raises:
            NonFiniteError: a product with the Hessian is NaN or infinite.
            IndefiniteCurvatureError: a search direction has negative curvature.
        """
        solution = conjugate_gradients(self._product, rows, **self._options)
        self.last_solution = solution
        xp = array_namespace(rows)
        check_finite(solution.residuals, what="product with the Hessian")
        lowest = float(xp.min(solution.curvatures))
        if lowest <= 0:
            raise IndefiniteCurvatureError(
                f"The Hessian plus the regularization {self._damping:g} is not positive definite: "
                f"a search direction has the curvature {lowest:.3g}. "
                f"Use a regularization above {self._damping - lowest:.3g}, or train longer."
            )
        missed = int(xp.sum(xp.astype(~solution.converged, xp.int64)))
        if missed:
            warnings.warn(
                f"{missed} of {solution.steps.shape[0]} rows have not converged after at most "
                f"{int(xp.max(solution.steps))} steps; the largest residual norm is "
                f"{float(xp.max(solution.residuals)):.3g}. "
                "Use a larger regularization, a larger maxiter or a larger rtol.",
                ConvergenceWarning,
                stacklevel=4,
            )
        return cast(A, solution.value)

    def _product(self, rows: Any) -> Any:
        product: Any = self._damping * rows
        for share, batch in self._data:
            curved: Any = self._objective.hessian_product(rows, batch)
            product = product + share * curved
        return product
