"""Preconditioners of conjugate gradients: cheap curvatures close to the one that is inverted."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from array_api_compat import array_namespace, device

from upweight.models._diagnostics import Diagnostics

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
        if self.probes < 1:
            raise ValueError(f"`probes` must be at least 1; got {self.probes}.")

    def fit(self, operator: CurvatureOperator[Any]) -> DiagonalCurvature:
        """Return the diagonal of the curvature."""
        start = time.perf_counter()
        none: Any = operator.objective.zeros(0)
        xp = array_namespace(none)
        p = none.shape[1]
        if p <= self.probes:
            probes = np.eye(p)
        else:
            probes = np.random.default_rng(self.seed).choice([-1.0, 1.0], (self.probes, p))
        rows = xp.asarray(probes.tolist(), dtype=none.dtype, device=device(none))
        scale = 1.0 if p <= self.probes else 1.0 / self.probes
        diagonal = xp.abs(scale * xp.sum(rows * operator(rows), axis=0))
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
class DiagonalInverse:
    """The inverse of a positive diagonal matrix."""

    diagonal: Any

    def solve(self, rows: Any) -> Any:
        """Return D⁻¹ times each row, (k, p)."""
        return rows / self.diagonal
