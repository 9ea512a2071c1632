"""Influence without curvature: inner products of gradients, and their cosines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

from array_api_compat import array_namespace

from upweight.checks import batch_size, check_finite
from upweight.influence import BlockMode, InfluenceMode, ModeLike, SecondOrderMode
from upweight.models._base import CurvatureInfluence, FittedCurvature
from upweight.models._diagnostics import Diagnostics
from upweight.trees import Batch, Tree, map_leaves, perturbed_leaf

if TYPE_CHECKING:
    from upweight.protocols import Objective

A = TypeVar("A")


class GradientInfluence(CurvatureInfluence[A]):
    r"""Influence with the identity for curvature: \(\langle \nabla m(z'), \nabla \ell(z) \rangle\).

    With `normalize`, both gradients are divided by their norms and the influence is the cosine of
    the angle between them; a gradient of zero has cosine 0 with every other. Perturbation influence
    is then the derivative of that cosine. Blocks share the norm of the whole gradient, so what they
    contribute adds up to the cosine.

    Nothing is learnt from data. `fit` marks the model as fitted, so that it can stand wherever
    another method does; the data may be left out and is not read.

    Args:
        objective: The mean loss, seen through its derivatives.
        normalize: Whether influences are cosines.
        block_structure: Into which blocks contributions are told apart.
        measurement: What is measured on test samples instead of the loss, as an objective.

    References:
        Pruthi, Liu, Kale and Sundararajan, "Estimating Training Data Influence by Tracing Gradient
        Descent", NeurIPS 2020, section 3.3, for one checkpoint and step size 1; Barshan, Brunet and
        Dziugaite, "RelatIF: Identifying Explanatory Training Examples via Relative Influence",
        AISTATS 2020, for normalised gradients.
    """

    def __init__(
        self,
        objective: Objective[A],
        *,
        normalize: bool = False,
        block_structure: BlockMode | str | Mapping[str, Sequence[str]] = BlockMode.FULL,
        measurement: Objective[A] | None = None,
    ) -> None:
        super().__init__(
            objective,
            regularization=0.0,
            block_structure=block_structure,
            second_order_mode=SecondOrderMode.HESSIAN,
            measurement=measurement,
        )
        self._normalize = normalize

    def fit(self, data: Iterable[Batch[A]] = (), *, progress: bool = True) -> Self:
        """Mark the model as fitted and return it.

        Args:
            data: Not read; anything but a collection that can be read again is refused, as by the
                other methods.
            progress: There is no progress to show.
        """
        return super().fit(data, progress=progress)

    def with_regularization(self, regularization: float | Mapping[str, float]) -> Self:
        r"""Return a model with the curvature \(I + \lambda I\): influences divided by 1 + λ.

        Cosines do not change when all blocks have the same \(\lambda\).

        Args:
            regularization: A number, or one for each block by name.

        Raises:
            NotFittedError: `fit` has not been called.
            ValueError: the regularization is negative or not finite, or names other blocks.
        """
        return super().with_regularization(regularization)

    def influences_from_factors(
        self, z_test_factors: A, x: Tree[A], y: Tree[A], mode: ModeLike = InfluenceMode.Up
    ) -> A:
        """Return the influences of training samples, given the factors of test samples.

        See `InfluenceFunctionModel.influences_from_factors`.
        """
        if not self._normalize:
            return super().influences_from_factors(z_test_factors, x, y, mode)
        mode = InfluenceMode(mode)
        self._fitted()
        n = batch_size(x, y)
        self._check_factors(z_test_factors)
        gradients: Any = self._objective.gradients((x, y))
        units = _units(gradients)
        xp = array_namespace(gradients)
        values: Any = z_test_factors @ xp.matrix_transpose(units)
        if mode is InfluenceMode.Perturbation:
            perturbed_leaf(x)
            moved: Any = self._objective.input_gradients(z_test_factors, (x, y))
            # The norm moves with the input, too: d⟨f, g⟩/|g| = (d⟨f, g⟩ - cos d⟨u, g⟩)/|g|, u = g/|g|.
            lengths: Any = xp.concat([self._along(units, x, y, i) for i in range(n)], axis=1)
            tail = (1,) * (moved.ndim - 2)
            cosines = xp.reshape(values, (*values.shape, *tail))
            norms = xp.reshape(_norms_or_infinity(gradients), (1, n, *tail))
            values = (moved - cosines * lengths) / norms
        check_finite(values, what="influence", axis=1)
        checked: A = values
        return checked

    def self_influences(self, x: Tree[A], y: Tree[A]) -> A:
        """Return the influence of each sample on itself, (n,): 1 for cosines of the loss.

        See `CurvatureInfluence.self_influences`.
        """
        if not self._normalize:
            return super().self_influences(x, y)
        factors: Any = self.influence_factors(x, y)
        gradients: Any = self._objective.gradients((x, y))
        result: A = array_namespace(factors).sum(factors * _units(gradients), axis=1)
        return result

    def _settings(self) -> dict[str, Any]:
        return {"second_order_mode": "identity", "normalize": self._normalize}

    def _fit(self, data: Iterable[Batch[A]], *, progress: bool) -> dict[str, FittedCurvature[A]]:  # noqa: ARG002  # there is nothing to learn
        return dict.fromkeys(self.block_names, Identity())

    def _solved(self, gradients: Any) -> dict[str, A]:
        factors = super()._solved(gradients)
        return (
            self._blocks.split(_units(self._blocks.join(factors))) if self._normalize else factors
        )

    def _along(self, units: Any, x: Tree[A], y: Tree[A], i: int) -> Any:
        """Return the derivative of the norm of gradient i in its input, (1, 1, *x)."""

        def one(leaf: Any) -> Any:
            return leaf[i : i + 1, ...]

        return self._objective.input_gradients(
            units[i : i + 1, :], (map_leaves(one, x), map_leaves(one, y))
        )


@dataclass(frozen=True)
class Identity:
    """The identity as a curvature."""

    @property
    def diagnostics(self) -> Diagnostics:
        """Nothing took time, and every eigenvalue is 1."""
        return Diagnostics(0.0, smallest_eigenvalue=1.0, largest_eigenvalue=1.0)

    def damped(self, damping: float) -> Multiple:
        """Return (I + λI)⁻¹."""
        return Multiple(1 / (1 + damping))


@dataclass(frozen=True)
class Multiple:
    """A multiple of the identity."""

    factor: float

    def solve(self, rows: Any) -> Any:
        """Return the multiple of each row, (k, p)."""
        return rows if self.factor == 1 else self.factor * rows


def _units(rows: Any) -> Any:
    """Divide each row by its norm, and leave rows of zeros as they are."""
    xp = array_namespace(rows)
    # The squares of small numbers vanish in single precision, so the largest becomes one first.
    peaks = xp.max(xp.abs(rows), axis=1, keepdims=True)
    scaled = rows / xp.where(peaks > 0, peaks, xp.ones_like(peaks))
    norms = xp.linalg.vector_norm(scaled, axis=1, keepdims=True)
    return scaled / xp.where(norms > 0, norms, xp.ones_like(norms))


def _norms_or_infinity(rows: Any) -> Any:
    """Return the norm of each row, and infinity for rows of zeros, (k,)."""
    xp = array_namespace(rows)
    norms = xp.sum(rows * _units(rows), axis=1)
    return xp.where(norms > 0, norms, xp.full_like(norms, float("inf")))
