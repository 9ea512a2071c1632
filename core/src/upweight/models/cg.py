"""Influence through conjugate gradients on products with the curvature."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from array_api_compat import array_namespace

from upweight.checks import check_finite
from upweight.errors import IndefiniteCurvatureError
from upweight.influence import BlockMode, SecondOrderMode
from upweight.linalg.block_cg import block_conjugate_gradients
from upweight.linalg.cg import conjugate_gradients
from upweight.models._base import CurvatureInfluence, FittedCurvature
from upweight.models._curvature import CurvatureOperator
from upweight.models._diagnostics import Diagnostics, integers_in, numbers_in, warn_if_missed
from upweight.models._sums import summed_data
from upweight.models.preconditioners import Preconditioner
from upweight.progress import inner_bar
from upweight.trees import Batch

if TYPE_CHECKING:
    from upweight.protocols import Objective

A = TypeVar("A")

SOLVERS = {"lockstep": conjugate_gradients, "block": block_conjugate_gradients}


class CgInfluence(CurvatureInfluence[A]):
    r"""Influence with the curvature H of the mean training loss, solved by conjugate gradients.

    Factors are \((H + \lambda I)^{-1} \nabla_\theta \ell(z)\). Each step of a solve multiplies by
    the curvature, in one pass over the training data for all rows together; nothing of the size p²
    is ever formed.

    Args:
        objective: The mean loss, seen through its derivatives.
        regularization: \(\lambda\), in units of the curvature; a number, or one for each block. It
            must lift the curvature above zero along every direction that a solve meets.
        rtol: A row is solved when the norm of its residual is at most `rtol` times its own norm,
        atol: or at most `atol`.
        maxiter: Most steps of a row.
        solver: "lockstep", in which each row has a Krylov space of its own, so that its factor does
            not depend on the other rows; or "block", in which all rows of a solve share one. The
            block takes fewer steps, far fewer for many rows and an ill-conditioned curvature, and
            its factors depend on the other rows within the tolerance.
        preconditioner: A cheap curvature, fitted to the same data, whose damped inverse shortens
            the solves, such as `JacobiPreconditioner()`.
        block_structure: Which parameters have a curvature of their own.
        second_order_mode: Which curvature: Hessian, Gauss-Newton or empirical Fisher.
        measurement: What is measured on test samples instead of the loss, as an objective.

    References:
        Koh and Liang, "Understanding Black-box Predictions via Influence Functions", ICML 2017,
        section 3; Martens, "Deep learning via Hessian-free optimization", ICML 2010, section 4.
    """

    def __init__(
        self,
        objective: Objective[A],
        *,
        regularization: float | Mapping[str, float] = 0.0,
        rtol: float = 1e-4,
        atol: float = 0.0,
        maxiter: int = 1000,
        solver: Literal["lockstep", "block"] = "lockstep",
        preconditioner: Preconditioner | None = None,
        block_structure: BlockMode | str | Mapping[str, Sequence[str]] = BlockMode.FULL,
        second_order_mode: SecondOrderMode | str = SecondOrderMode.HESSIAN,
        measurement: Objective[A] | None = None,
    ) -> None:
        super().__init__(
            objective,
            regularization=regularization,
            block_structure=block_structure,
            second_order_mode=second_order_mode,
            measurement=measurement,
        )
        if not (rtol >= 0 and atol >= 0 and rtol + atol > 0):
            raise ValueError(
                "`rtol` and `atol` must not be negative, and one of them must be positive; "
                f"got rtol={rtol!r} and atol={atol!r}."
            )
        if maxiter < 1:
            raise ValueError(f"`maxiter` must be at least 1; got {maxiter!r}.")
        if solver not in SOLVERS:
            raise ValueError(f"`solver` must be one of {list(SOLVERS)}; got {solver!r}.")
        self._options: dict[str, Any] = {"rtol": rtol, "atol": atol, "maxiter": maxiter}
        self._solver = solver
        self._preconditioner = preconditioner

    def _settings(self) -> dict[str, Any]:
        return {
            **self._options,
            "solver": self._solver,
            "preconditioner": repr(self._preconditioner),
        }

    def _fit(self, data: Iterable[Batch[A]], *, progress: bool) -> dict[str, FittedCurvature[A]]:
        start = time.perf_counter()
        kept = summed_data(data, self._objective, progress=progress)
        curvatures: dict[str, FittedCurvature[A]] = {}
        for name, objective in self._objectives().items():
            operator = CurvatureOperator(objective, self._mode, kept)
            close = None if self._preconditioner is None else self._preconditioner.fit(operator)
            seconds = time.perf_counter() - start
            curvatures[name] = CgCurvature(
                operator, close, self._solver, self._options, name, seconds
            )
        return curvatures


@dataclass(frozen=True)
class CgCurvature:
    """The curvature of a block, known by its products, and one close to it."""

    operator: CurvatureOperator[Any]
    close: FittedCurvature[Any] | None
    solver: str
    options: Mapping[str, Any]
    block: str
    seconds: float

    @property
    def distributed(self) -> bool:
        """Whether each step of a solve is computed elsewhere."""
        return self.operator.data.distributed

    @property
    def diagnostics(self) -> Diagnostics:
        """How long the fit took."""
        return Diagnostics(self.seconds)

    def damped(self, damping: float) -> CgInverse:
        """Return (H + λI)⁻¹."""
        close = None if self.close is None else self.close.damped(damping)
        options = {**self.options, "preconditioner": close and close.solve}
        return CgInverse(self.operator, damping, self.solver, options, self.block)


class CgInverse:
    """The inverse of a damped curvature, applied by conjugate gradients."""

    def __init__(
        self,
        operator: CurvatureOperator[Any],
        damping: float,
        solver: str,
        options: Mapping[str, Any],
        block: str,
    ) -> None:
        self._operator = operator
        self._damping = damping
        self._solver = solver
        self._options = options
        self._block = block
        self.diagnostics: Diagnostics | None = None

    def solve(self, rows: Any) -> Any:
        """Return (H + λI)⁻¹ times each row, (k, p).

        Raises:
            NonFiniteError: a product with the Hessian is NaN or infinite.
            IndefiniteCurvatureError: a search direction has negative curvature.
        """
        start = time.perf_counter()
        operator = self._operator.prepared()
        with inner_bar(None, label="Conjugate gradients", unit="step") as advance:

            def damped(v: Any) -> Any:
                advance(1)
                return operator(v) + self._damping * v

            solution = SOLVERS[self._solver](damped, rows, **self._options)
        check_finite(
            solution.residuals, what=f"product with the curvature of block {self._block!r}"
        )
        lowest = float(array_namespace(rows).min(solution.curvatures))
        self.diagnostics = Diagnostics(
            time.perf_counter() - start,
            steps=integers_in(solution.steps),
            residuals=numbers_in(solution.residuals),
            smallest_eigenvalue=lowest - self._damping,
        )
        if lowest <= 0:
            raise IndefiniteCurvatureError(
                f"The curvature of block {self._block!r} plus the regularization "
                f"{self._damping:g} is not positive definite: a search direction has the "
                f"curvature {lowest:.3g}. Use a regularization above "
                f"{self._damping - lowest:.3g}, the Gauss-Newton matrix, or train longer."
            )
        warn_if_missed(solution, block=self._block, maxiter=self._options["maxiter"])
        return solution.value
