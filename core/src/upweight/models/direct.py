"""Influence through the dense curvature matrix."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from array_api_compat import array_namespace

from upweight.checks import batch_size, check_finite
from upweight.errors import CurvatureWarning
from upweight.influence import BlockMode, SecondOrderMode
from upweight.linalg.dense import DenseInverse
from upweight.models._base import CurvatureInfluence, FittedCurvature
from upweight.models._curvature import curvature_matrix
from upweight.models._diagnostics import Diagnostics
from upweight.models._memory import check_memory
from upweight.models._sums import total_in_one_pass
from upweight.trees import Batch

if TYPE_CHECKING:
    from upweight.protocols import Objective
    from upweight.sums import Piece

A = TypeVar("A")

#: The matrix, its factor and inverse, and what factorising and inverting work on.
MATRICES_AT_PEAK = 6


class DirectInfluence(CurvatureInfluence[A]):
    r"""Influence with the curvature H of the mean training loss, built in full and inverted exactly.

    Factors are \((H + \lambda I)^{-1} \nabla_\theta \ell(z)\). The matrix of a block of p
    parameters takes p² numbers and its inverse O(p³) operations, once: for blocks of up to some
    thousands of parameters.

    Args:
        objective: The mean loss, seen through its derivatives.
        regularization: \(\lambda\), in units of the curvature; a number, or one for each block.
        block_structure: Which parameters have a curvature of their own.
        second_order_mode: Which curvature: Hessian, Gauss-Newton or empirical Fisher.
        measurement: What is measured on test samples instead of the loss, as an objective.
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
        regularization: float | Mapping[str, float] = 0.0,
        block_structure: BlockMode | str | Mapping[str, Sequence[str]] = BlockMode.FULL,
        second_order_mode: SecondOrderMode | str = SecondOrderMode.HESSIAN,
        measurement: Objective[A] | None = None,
        max_memory: int | None = None,
    ) -> None:
        super().__init__(
            objective,
            regularization=regularization,
            block_structure=block_structure,
            second_order_mode=second_order_mode,
            measurement=measurement,
        )
        self._max_memory = max_memory

    def _fit(self, data: Iterable[Batch[A]], *, progress: bool) -> dict[str, FittedCurvature[A]]:
        self._check_memory()
        start = time.perf_counter()
        totals, samples = total_in_one_pass(
            data,
            self._objectives(),
            partial(_curvatures, self._mode),
            label="Curvature",
            progress=progress,
        )
        seconds = time.perf_counter() - start
        for name, total in totals.items():
            check_finite(total, what=f"curvature of block {name!r}")
        return {
            name: DenseCurvature(total / samples, name, seconds) for name, total in totals.items()
        }

    def _check_memory(self) -> None:
        widths = [len(block.columns) for block in self._blocks.by_name.values()]
        needed = MATRICES_AT_PEAK * sum(p**2 for p in widths) * self.dtype.itemsize
        check_memory(
            needed,
            self._objective,
            limit=self._max_memory,
            what=f"The dense curvature of {sum(widths):,} parameters in {len(widths)} blocks and its "
            "inverse need",
            instead="Use CgInfluence, which needs only products with the curvature, smaller blocks, "
            "or freeze parameters that do not matter (`requires_grad_(False)`).",
        )


def _curvatures(
    mode: SecondOrderMode, objectives: Mapping[str, Objective[Any]], piece: Piece
) -> dict[str, Any]:
    n = batch_size(*piece.batch)
    return {
        name: n * curvature_matrix(objective, mode, piece.batch)
        for name, objective in objectives.items()
    }


@dataclass(frozen=True)
class DenseCurvature:
    """A curvature matrix, (p, p), of a block."""

    matrix: Any
    block: str
    seconds: float

    @property
    def diagnostics(self) -> Diagnostics:
        """The extreme eigenvalues, computed when they are asked for."""
        values = array_namespace(self.matrix).linalg.eigvalsh(self.matrix)
        return Diagnostics(
            self.seconds,
            smallest_eigenvalue=float(values[0]),
            largest_eigenvalue=float(values[-1]),
        )

    def damped(self, damping: float) -> DenseInverse:
        """Return (H + λI)⁻¹."""
        inverse = DenseInverse.of(self.matrix, damping=damping)
        if inverse.lowest is not None:
            warnings.warn(
                f"The curvature of block {self.block!r} has negative eigenvalues, down to "
                f"{inverse.lowest:.3g}, so with the regularization {damping:g} influences are not "
                "those of a minimum. Train longer, use the Gauss-Newton matrix, or a "
                f"regularization above {-inverse.lowest:.3g}.",
                CurvatureWarning,
                stacklevel=4,
            )
        return inverse
