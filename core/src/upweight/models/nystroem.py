"""Influence with a randomised approximation of the curvature from a single pass."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from array_api_compat import array_namespace

from upweight.errors import CurvatureWarning, IndefiniteCurvatureError
from upweight.influence import BlockMode, SecondOrderMode
from upweight.linalg.low_rank import LowRankInverse
from upweight.linalg.nystroem import NystroemApproximation, nystroem
from upweight.models._base import CurvatureInfluence, FittedCurvature
from upweight.models._curvature import CurvatureOperator
from upweight.models._diagnostics import Diagnostics
from upweight.models._low_rank import (
    TRACE_PROBES,
    captured_share,
    check_positive,
    checked_choice,
    checked_count,
    finite_product,
)
from upweight.models._sums import summed_data
from upweight.trees import Batch

if TYPE_CHECKING:
    from upweight.protocols import Objective

A = TypeVar("A")

ADVICE = "Use a positive number."


class NystroemSketchInfluence(CurvatureInfluence[A]):
    r"""Influence with a Nyström approximation of the curvature H of the mean training loss.

    With the eigenvalues \(\hat\theta_i\) of the approximation and its orthonormal eigenvectors
    \(v_i\), factors are \(\sum_i v_i \langle v_i, g \rangle / (\hat\theta_i + \lambda)
    + g_\perp / \lambda\) for \(g = \nabla_\theta \ell(z)\): outside its range, H counts as zero. The
    fit multiplies all rows of the sketch by H in a single pass over the training data, and keeps
    none of it.

    The approximation holds for positive semidefinite H. Whether H is indefinite is judged in the
    sketch, which may miss a direction of negative curvature; the Gauss-Newton matrix of a convex
    loss and the empirical Fisher have none.

    `fit_diagnostics` holds the smallest Rayleigh quotient of H in the sketch, the largest eigenvalue
    of the approximation, its share of the trace of H, of which a few random vectors estimate what
    the approximation leaves, and the shift.

    Args:
        objective: The mean loss, seen through its derivatives.
        regularization: \(\lambda > 0\), in units of the curvature; a number, or one for each block.
        rank: Rows of the sketch of a block, no more than it has parameters.
        seed: Draws the sketch and the vectors that estimate the trace.
        indefinite: What to do about negative curvature: "refuse" raises an error; "shift" takes
            \(H + \nu I\) instead, with \(\nu\) twice the most negative Rayleigh quotient, which
            comes to a regularization of \(\lambda + \nu\), and warns.
        block_structure: Which parameters have a curvature of their own.
        second_order_mode: Which curvature: Hessian, Gauss-Newton or empirical Fisher.
        measurement: What is measured on test samples instead of the loss, as an objective.

    References:
        Frangella, Tropp and Udell, "Randomized Nyström Preconditioning", SIAM Journal on Matrix
        Analysis and Applications 44 (2023), algorithm 2.1.
    """

    def __init__(
        self,
        objective: Objective[A],
        *,
        regularization: float | Mapping[str, float],
        rank: int,
        seed: int = 0,
        indefinite: Literal["refuse", "shift"] = "refuse",
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
        self._rank = checked_count(rank, name="rank", least=1)
        self._seed = checked_count(seed, name="seed", least=0)
        choice = checked_choice(indefinite, name="indefinite", choices=("refuse", "shift"))
        self._shifts = choice == "shift"
        check_positive(self._regularization, advice=ADVICE)

    def _settings(self) -> dict[str, Any]:
        return {
            "rank": self._rank,
            "indefinite": "shift" if self._shifts else "refuse",
            "seed": self._seed,
        }

    def _fit(self, data: Iterable[Batch[A]], *, progress: bool) -> dict[str, FittedCurvature[A]]:
        kept = summed_data(data, self._objective, progress=progress)
        return {
            name: self._fit_block(CurvatureOperator(objective, self._mode, kept), name)
            for name, objective in self._objectives().items()
        }

    def _fit_block(self, operator: CurvatureOperator[A], block: str) -> NystroemCurvature:
        start = time.perf_counter()
        approximation = nystroem(
            finite_product(operator, block),
            operator.objective.zeros(1),
            rank=self._rank,
            rng=np.random.default_rng(self._seed),
            probes=TRACE_PROBES,
        )
        if approximation.indefinite and not self._shifts:
            raise IndefiniteCurvatureError(
                f"The curvature of block {block!r} has negative eigenvalues, down to "
                f"{approximation.lowest:.3g} or lower, and a Nyström approximation holds for a "
                "positive curvature. Use the Gauss-Newton matrix, train longer, use "
                "indefinite='shift', or ArnoldiInfluence."
            )
        seconds = time.perf_counter() - start
        return NystroemCurvature(approximation, block, _diagnosed(approximation, seconds))


@dataclass(frozen=True)
class NystroemDiagnostics(Diagnostics):
    """How a fit with a Nyström approximation went.

    Attributes:
        shift: What was added to the curvature because it is indefinite, in its units.
    """

    shift: float = 0.0


@dataclass(frozen=True)
class NystroemCurvature:
    """The approximate curvature of a block."""

    approximation: NystroemApproximation
    block: str
    diagnostics: NystroemDiagnostics

    def damped(self, damping: float) -> LowRankInverse:
        """Return (H + λI)⁻¹, with the shift added to λ if there had to be one."""
        check_positive({self.block: damping}, advice=ADVICE)
        shift = self.diagnostics.shift
        if shift > 0:
            warnings.warn(
                f"The curvature of block {self.block!r} has negative eigenvalues, down to "
                f"{self.approximation.lowest:.3g} or lower, and was shifted by {shift:.3g}: "
                f"with the regularization {damping:g}, influences are those of the regularization "
                f"{damping + shift:.3g}. Train longer, or use the Gauss-Newton matrix.",
                CurvatureWarning,
                stacklevel=4,
            )
        return LowRankInverse.of(
            self.approximation.values,
            self.approximation.vectors,
            damping=damping + shift,
            dropped=False,
        )


def _diagnosed(approximation: NystroemApproximation, seconds: float) -> NystroemDiagnostics:
    xp = array_namespace(approximation.values)
    return NystroemDiagnostics(
        seconds,
        smallest_eigenvalue=approximation.lowest,
        largest_eigenvalue=float(xp.max(approximation.values)),
        captured_trace=captured_share(
            float(xp.sum(approximation.values)),
            approximation.trace,
            lowest=approximation.lowest if approximation.indefinite else 0.0,
        ),
        shift=approximation.shift if approximation.indefinite else 0.0,
    )
