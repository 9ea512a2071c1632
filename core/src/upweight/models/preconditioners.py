"""Preconditioners of conjugate gradients: cheap curvatures close to the one that is inverted."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import numpy as np
from array_api_compat import array_namespace, device

from upweight.linalg.diagonal import DiagonalInverse
from upweight.linalg.low_rank import LowRankInverse
from upweight.linalg.nystroem import NystroemApproximation, nystroem
from upweight.linalg.random import sign_rows
from upweight.models._diagnostics import Diagnostics
from upweight.models._low_rank import checked_count
from upweight.models.ekfac import EkfacInfluence

if TYPE_CHECKING:
    from upweight.models._base import FittedCurvature
    from upweight.models._curvature import CurvatureOperator

A = TypeVar("A")


class Preconditioner(Protocol):
    """A recipe for a curvature that is cheap to invert for any damping."""

    def fit(self, operator: CurvatureOperator[A]) -> FittedCurvature[A]:
        """Return an approximation of the curvature, positive semi-definite."""


@dataclass(frozen=True)
class JacobiPreconditioner:
    r"""The diagonal of the curvature, estimated from products with random signs.

    The mean of \(z \circ H z\) over vectors z of random signs; its magnitude is taken, because an
    indefinite curvature may have a negative diagonal.

    Attributes:
        probes: Number of random vectors. For a block of no more parameters than that the diagonal
            is exact.
        seed: Seed of the random vectors.

    References:
        Bekas, Kokiopoulou and Saad, "An estimator for the diagonal of a matrix", Applied Numerical
        Mathematics 57 (2007), equation (3).
    """

    probes: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        checked_count(self.probes, name="probes", least=1)
        checked_count(self.seed, name="seed", least=0)

    def fit(self, operator: CurvatureOperator[Any]) -> DiagonalCurvature:
        """Return the diagonal of the curvature."""
        start = time.perf_counter()
        like: Any = operator.objective.zeros(1)
        xp = array_namespace(like)
        p = like.shape[1]
        if p <= self.probes:
            rows, weight = xp.eye(p, dtype=like.dtype, device=device(like)), 1.0
        else:
            rng = np.random.default_rng(self.seed)
            rows, weight = sign_rows(rng, like, self.probes), 1 / self.probes
        diagonal = xp.abs(weight * xp.sum(rows * operator(rows), axis=0))
        return DiagonalCurvature(diagonal, Diagnostics(time.perf_counter() - start))


@dataclass(frozen=True)
class DiagonalCurvature:
    """A diagonal curvature, (p,)."""

    diagonal: Any
    diagnostics: Diagnostics

    def damped(self, damping: float) -> DiagonalInverse:
        """Return (D + λI)⁻¹; entries far below the mean count as a thousandth of it."""
        xp = array_namespace(self.diagonal)
        damped = self.diagonal + damping
        least = 1e-3 * xp.mean(damped)
        return DiagonalInverse(xp.where(damped > least, damped, least))


@dataclass(frozen=True)
class NystroemPreconditioner:
    r"""A low-rank approximation of the curvature from one product with random rows.

    Outside the sketch the smallest eigenvalue that was kept stands for all others, so that the
    damped curvature is left with a condition number of about one if the others are smaller still.

    Attributes:
        rank: Rows of the sketch.
        seed: Seed of the sketch.

    References:
        Frangella, Tropp and Udell, "Randomized Nyström Preconditioning", SIAM Journal on Matrix
        Analysis and Applications 44 (2023), equation (1.3).
    """

    rank: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        checked_count(self.rank, name="rank", least=1)
        checked_count(self.seed, name="seed", least=0)

    def fit(self, operator: CurvatureOperator[Any]) -> SketchedCurvature:
        """Return the approximation of the curvature."""
        start = time.perf_counter()
        like: Any = operator.objective.zeros(1)
        rng = np.random.default_rng(self.seed)
        sketch = nystroem(operator, like, rank=self.rank, rng=rng)
        return SketchedCurvature(sketch, Diagnostics(time.perf_counter() - start))


@dataclass(frozen=True)
class SketchedCurvature:
    """A Nyström approximation of a curvature."""

    sketch: NystroemApproximation
    diagnostics: Diagnostics

    def damped(self, damping: float) -> LowRankInverse:
        """Return an approximation of (H + λI)⁻¹ up to a factor; negative eigenvalues count as 0."""
        xp = array_namespace(self.sketch.values)
        values = xp.maximum(self.sketch.values, xp.zeros_like(self.sketch.values))
        least, largest = float(xp.min(values)), float(xp.max(values))
        # A matrix of lower rank than the sketch leaves nothing outside but the damping.
        outside = max(damping + least, float(xp.finfo(values.dtype).eps) * largest)
        return LowRankInverse.of(
            values - least, self.sketch.vectors, damping=outside or 1.0, dropped=False
        )


@dataclass(frozen=True)
class EkfacPreconditioner:
    """The Kronecker-factored curvature of layers (EK-FAC), for models whose layers are known.

    It is close to the Gauss-Newton matrix, and meant for it. All layers together are one
    preconditioner, whatever the blocks of the solve.

    Attributes:
        fisher: "sampled", "exact" or "empirical", as in `EkfacInfluence`.
        seed: Seed of the labels drawn.
    """

    fisher: Literal["sampled", "exact", "empirical"] = "sampled"
    seed: int = 0

    def fit(self, operator: CurvatureOperator[Any]) -> LayerwiseCurvature:
        """Return the curvature of the layers.

        Raises:
            UnsupportedCurvatureError: the objective does not know layers.
        """
        model: EkfacInfluence[Any] = EkfacInfluence(
            operator.objective,
            regularization=1.0,
            damping="absolute",
            fisher=self.fisher,
            seed=self.seed,
        )
        return LayerwiseCurvature(model.fit(operator.data, progress=False))


@dataclass(frozen=True)
class LayerwiseCurvature:
    """The curvature of all layers of a fitted model, side by side."""

    model: EkfacInfluence[Any]

    @property
    def diagnostics(self) -> Diagnostics:
        """How long the fit took."""
        return next(iter(self.model.fit_diagnostics.values()))

    def damped(self, damping: float) -> EkfacInfluence[Any]:
        """Return the model with this damping, which solves for vectors over all layers."""
        return self.model.with_regularization(damping)
