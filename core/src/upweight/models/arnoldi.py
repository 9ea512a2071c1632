"""Influence in the subspace of the largest eigenvalues of the curvature."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from array_api_compat import array_namespace, device

from upweight.errors import CurvatureWarning, IndefiniteCurvatureError
from upweight.influence import BlockMode, SecondOrderMode
from upweight.linalg.lanczos import KrylovSubspace, lanczos
from upweight.linalg.low_rank import LowRankInverse
from upweight.linalg.random import complement_probes
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
from upweight.progress import progress_bar
from upweight.trees import Batch

if TYPE_CHECKING:
    from upweight.protocols import Objective

A = TypeVar("A")

#: Relative error of a solve, about, above which the damped Ritz values count as singular.
ROUNDING_MARGIN = 0.1

#: How far below zero, in units of rounding, a singular curvature may seem to reach.
ROUNDING = 100.0

ADVICE = "Use a positive number, or outside='dropped'."


class ArnoldiInfluence(CurvatureInfluence[A]):
    r"""Influence with the curvature H of the mean training loss in the subspace of a Krylov method.

    With the Ritz values \(\theta_i\) of largest magnitude and their orthonormal vectors \(v_i\),
    factors are \(\sum_i v_i \langle v_i, g \rangle / (\theta_i + \lambda) + g_\perp / \lambda\) for
    \(g = \nabla_\theta \ell(z)\). H is symmetric, so that the Arnoldi iteration is that of Lanczos.
    The fit passes over the training data once for each dimension of the subspace, and keeps none of
    it.

    `fit_diagnostics` holds the smallest and the largest of all Ritz values of the subspace, the
    residual \(\|H v_i - \theta_i v_i\|\) of each that is kept, and their share of the trace of H,
    which is exact in the subspace and estimated from a few random vectors outside.

    Args:
        objective: The mean loss, seen through its derivatives.
        regularization: \(\lambda\), in units of the curvature; a number, or one for each block. It
            must be positive unless the outside is dropped.
        rank: Most Ritz pairs that are kept of a block.
        krylov_dimension: Steps of the iteration, at least `rank`; by default twice the rank, and at
            least 20 more. More steps make the pairs that are kept more accurate.
        outside: What becomes of \(g_\perp\), orthogonal to the vectors that are kept: "damped" takes
            H as zero there; "dropped" leaves it out, as in the reference.
        seed: Draws the start of the iteration and the vectors that estimate the trace.
        block_structure: Which parameters have a curvature of their own.
        second_order_mode: Which curvature: Hessian, Gauss-Newton or empirical Fisher.
        measurement: What is measured on test samples instead of the loss, as an objective.

    References:
        Schioppa, Zablotskaia, Vilar and Sokolov, "Scaling Up Influence Functions", AAAI 2022,
        whose projection on the eigenvectors of largest magnitude is `outside="dropped"` with no
        regularization.
    """

    def __init__(
        self,
        objective: Objective[A],
        *,
        regularization: float | Mapping[str, float],
        rank: int = 50,
        krylov_dimension: int | None = None,
        outside: Literal["damped", "dropped"] = "damped",
        seed: int = 0,
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
        self._dimension = max(2 * self._rank, self._rank + 20)
        if krylov_dimension is not None:
            self._dimension = checked_count(
                krylov_dimension, name="krylov_dimension", least=self._rank
            )
        choice = checked_choice(outside, name="outside", choices=("damped", "dropped"))
        self._dropped = choice == "dropped"
        self._seed = checked_count(seed, name="seed", least=0)
        if not self._dropped:
            check_positive(self._regularization, advice=ADVICE)

    def _settings(self) -> dict[str, Any]:
        return {
            "rank": self._rank,
            "krylov_dimension": self._dimension,
            "outside": "dropped" if self._dropped else "damped",
            "seed": self._seed,
        }

    def _fit(self, data: Iterable[Batch[A]], *, progress: bool) -> dict[str, FittedCurvature[A]]:
        kept = summed_data(data, self._objective, progress=progress)
        return {
            name: self._fit_block(CurvatureOperator(objective, self._mode, kept), name, progress)
            for name, objective in self._objectives().items()
        }

    def _fit_block(
        self, operator: CurvatureOperator[A], block: str, progress: bool
    ) -> RitzCurvature:
        start = time.perf_counter()
        rng = np.random.default_rng(self._seed)
        like: Any = operator.objective.zeros(1)
        steps = min(self._dimension, like.shape[1])
        with progress_bar(
            steps, label=f"Lanczos, block {block!r}", unit="step", show=progress
        ) as advance:
            prepared = operator.prepared()
            product = finite_product(prepared, block, advance)
            subspace = lanczos(product, like, dimension=steps, rng=rng)
        probes = complement_probes(rng, subspace.basis, TRACE_PROBES)
        trace = float(np.sum(subspace.values))
        if probes.shape[0] > 0:
            images = finite_product(prepared, block)(probes)
            trace += float(array_namespace(probes).sum(probes * images)) / probes.shape[0]
        rank = min(self._rank, like.shape[1])
        return RitzCurvature(
            values=subspace.values[:rank],
            vectors=subspace.vectors(rank),
            dropped=self._dropped,
            block=block,
            diagnostics=_diagnosed(subspace, rank, trace, time.perf_counter() - start),
        )


@dataclass(frozen=True)
class RitzCurvature:
    """Ritz values (r,) and vectors (r, p) of the curvature of a block."""

    values: np.ndarray[Any, np.dtype[np.float64]]
    vectors: Any
    dropped: bool
    block: str
    diagnostics: Diagnostics

    def damped(self, damping: float) -> LowRankInverse:
        """Return (H + λI)⁻¹ on the subspace."""
        if not self.dropped:
            check_positive({self.block: damping}, advice=ADVICE)
        xp = array_namespace(self.vectors)
        precision = float(xp.finfo(self.vectors.dtype).eps)
        magnitudes = np.abs(self.values + damping)
        if not np.max(magnitudes) * precision < ROUNDING_MARGIN * np.min(magnitudes):
            raise IndefiniteCurvatureError(
                f"The curvature of block {self.block!r} with the damping {damping:g} is singular "
                "to working precision in the subspace that is kept. Use a larger regularization "
                "or a smaller rank."
            )
        lowest = float(self.diagnostics.smallest_eigenvalue or 0.0)
        if lowest + damping < -ROUNDING * precision * np.max(magnitudes):
            warnings.warn(
                f"The curvature of block {self.block!r} has negative eigenvalues, down to "
                f"{lowest:.3g} or lower, so with the regularization {damping:g} influences are not "
                "those of a minimum. Train longer, use the Gauss-Newton matrix, or a "
                f"regularization above {-lowest:.3g}.",
                CurvatureWarning,
                stacklevel=4,
            )
        values = xp.asarray(self.values, dtype=self.vectors.dtype, device=device(self.vectors))
        return LowRankInverse.of(values, self.vectors, damping=damping, dropped=self.dropped)


def _diagnosed(subspace: KrylovSubspace, rank: int, trace: float, seconds: float) -> Diagnostics:
    smallest, largest = float(np.min(subspace.values)), float(np.max(subspace.values))
    # Rounding may take a zero eigenvalue below zero, which does not make the matrix indefinite.
    precision = float(array_namespace(subspace.basis).finfo(subspace.basis.dtype).eps)
    beyond_rounding = min(smallest + ROUNDING * precision * abs(largest), 0.0)
    return Diagnostics(
        seconds,
        steps=(subspace.basis.shape[0],),
        residuals=tuple(map(float, subspace.residuals[:rank])),
        smallest_eigenvalue=smallest,
        largest_eigenvalue=largest,
        captured_trace=captured_share(
            float(np.sum(subspace.values[:rank])), trace, lowest=beyond_rounding
        ),
    )
