r"""The inverse of a damped curvature \(C = \frac1n \sum_b b b^\top\) in the dual.

By Woodbury, \((C + \lambda I)^{-1} = \frac1\lambda (I - B^\top M B)\), with the vectors b as the
rows of B and a matrix M that needs their inner products only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from upweight.linalg.dense import DenseInverse
from upweight.models._diagnostics import Diagnostics
from upweight.models._factoring import Factoring
from upweight.models._vectors import FactoredVectors
from upweight.protocols import InverseCurvature


@dataclass(frozen=True)
class AllVectors:
    r"""The inner products of all vectors: \(M = (K + n \lambda I)^{-1}\).

    Attributes:
        matrix: K, (N, N).
        n_samples: n.
    """

    matrix: Any
    n_samples: int

    @property
    def trace(self) -> float:
        """Trace of the curvature."""
        return float(array_namespace(self.matrix).linalg.trace(self.matrix)) / self.n_samples

    @property
    def eigenvalues(self) -> Any:
        """Eigenvalues of the curvature, as many as there are vectors, computed when asked for."""
        return array_namespace(self.matrix).linalg.eigvalsh(self.matrix) / self.n_samples

    def inverse(self, damping: float) -> DenseInverse:
        """Return M."""
        return DenseInverse.of(self.matrix, damping=damping * self.n_samples)


@dataclass(frozen=True)
class Landmarks:
    r"""The curvature of all samples, projected on the span of some of the vectors.

    With \(K_{mm}\) the inner products of the landmarks and \(K_{mn}\) those with all vectors, the
    rows of \(R^\top B_m\), \(R = K_{mm}^{-1/2}\), are an orthonormal basis of the span, and
    \(R^\top K_{mn} K_{nm} R / n\) is the curvature there, with eigenvectors V and eigenvalues
    \(\Lambda\): \(M = R V \frac{\Lambda}{\Lambda + \lambda} V^\top R^\top\).

    Attributes:
        basis: \(R V\), (m, r).
        eigenvalues: \(\Lambda\), (r,).
        trace: Trace of the whole curvature.
    """

    basis: Any
    eigenvalues: Any
    trace: float

    @classmethod
    def of(cls, among: Any, with_all: Any, *, n_samples: int, trace: float) -> Landmarks:
        """Project the curvature.

        Args:
            among: Inner products of the landmarks, (m, m).
            with_all: Their inner products with all vectors, squared as a matrix, (m, m).
            n_samples: Number of samples.
            trace: Trace of the whole curvature.
        """
        xp = array_namespace(among, with_all)
        values, vectors = xp.linalg.eigh(among)
        rounding = among.shape[0] * float(xp.finfo(values.dtype).eps) * float(values[-1])
        dropped = int(xp.sum(xp.astype(values <= rounding, xp.int32)))
        root = vectors[:, dropped:] / xp.sqrt(values[dropped:])
        projected = xp.matrix_transpose(root) @ with_all @ root / n_samples
        eigenvalues, rotation = xp.linalg.eigh(projected)
        positive = xp.where(eigenvalues > 0, eigenvalues, xp.zeros_like(eigenvalues))
        return cls(root @ rotation, positive, trace)

    def inverse(self, damping: float) -> ProjectedInverse:
        """Return M."""
        return ProjectedInverse(self.basis, self.eigenvalues / (self.eigenvalues + damping))


@dataclass(frozen=True)
class ProjectedInverse:
    """The matrix that is diagonal, with some weights (r,), in a basis (m, r)."""

    basis: Any
    weights: Any

    def solve(self, rows: Any) -> Any:
        """Return the matrix times each row, (k, m)."""
        projected = (rows @ self.basis) * self.weights
        return projected @ array_namespace(self.basis).matrix_transpose(self.basis)


@dataclass(frozen=True)
class GramCurvature:
    """A curvature made of vectors, ready to be inverted for any damping.

    Attributes:
        factoring: Which parts of vectors stay factored.
        vectors: The rows of B, all or landmarks.
        dual: What is known through inner products.
        n_samples: n.
        relative: Whether damping is in units of the trace of the curvature over n.
        seconds: Wall time of the fit.
    """

    factoring: Factoring[Any]
    vectors: FactoredVectors
    dual: AllVectors | Landmarks
    n_samples: int
    relative: bool
    seconds: float

    @property
    def diagnostics(self) -> Diagnostics:
        """Extreme eigenvalues, computed when they are asked for, and what landmarks captured."""
        values = self.dual.eigenvalues
        captured = None
        if isinstance(self.dual, Landmarks):
            captured = float(array_namespace(values).sum(values)) / self.dual.trace
        return Diagnostics(
            self.seconds,
            smallest_eigenvalue=float(values[0]),
            largest_eigenvalue=float(values[-1]),
            captured_trace=captured,
        )

    def damped(self, damping: float) -> GramInverse:
        """Return (C + λI)⁻¹."""
        absolute = damping * self.dual.trace / self.n_samples if self.relative else damping
        return GramInverse(self.factoring, self.vectors, self.dual.inverse(absolute), absolute)


@dataclass(frozen=True)
class GramInverse:
    """The inverse of a damped curvature made of vectors."""

    factoring: Factoring[Any]
    vectors: FactoredVectors
    dual: InverseCurvature[Any]
    damping: float

    def solve(self, rows: Any) -> Any:
        """Return (C + λI)⁻¹ times each row, (k, p)."""
        weights = self.dual.solve(self.factoring.products(rows, self.vectors))
        return (rows - self.factoring.combinations(weights, self.vectors)) / self.damping
