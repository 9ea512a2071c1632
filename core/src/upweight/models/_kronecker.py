"""Curvatures of blocks that are diagonal in a known basis, with absolute or relative damping."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from upweight.errors import IndefiniteCurvatureError
from upweight.linalg.diagonal import DiagonalInverse
from upweight.linalg.kronecker import KroneckerEigen
from upweight.models._diagnostics import Diagnostics
from upweight.models._fisher import LayerFactors


@dataclass(frozen=True)
class KroneckerCurvature:
    """The curvature of the weight of a layer, and of its bias as the weight of a last input 1."""

    eigen: KroneckerEigen
    has_bias: bool
    weight_first: bool
    relative: bool
    block: str
    seconds: float
    transposed: bool = False

    @property
    def diagnostics(self) -> Diagnostics:
        """The extreme eigenvalues."""
        return _diagnostics(self.eigen.eigenvalues, self.seconds)

    def damped(self, damping: float) -> KroneckerInverse:
        """Return (H + λI)⁻¹."""
        values = self.eigen.eigenvalues
        absolute = _absolute(values, damping, relative=self.relative, block=self.block)
        return KroneckerInverse(
            self.eigen, self.has_bias, self.weight_first, absolute, self.transposed
        )


@dataclass(frozen=True)
class KroneckerInverse:
    """The inverse of a damped curvature of a layer."""

    eigen: KroneckerEigen
    has_bias: bool
    weight_first: bool
    damping: float
    transposed: bool = False

    def solve(self, rows: Any) -> Any:
        """Return (H + λI)⁻¹ times each row, (k, p of the layer)."""
        o, i = self.eigen.eigenvalues.shape
        xp = array_namespace(rows)
        if not self.has_bias:
            shaped = self._shaped(rows, o, i)
            return self._as_rows(self.eigen.solve(shaped, damping=self.damping))
        split = o * (i - 1) if self.weight_first else o
        pieces = [rows[:, :split], rows[:, split:]]
        weight, bias = pieces if self.weight_first else reversed(pieces)
        joined = xp.concat([self._shaped(weight, o, i - 1), bias[:, :, None]], axis=2)
        return self._as_rows(self.eigen.solve(joined, damping=self.damping))

    def solve_factored(self, layer: LayerFactors) -> Any:
        """Return (H + λI)⁻¹ times the gradient of each sample, (n, p of the layer)."""
        inputs, gradients = layer.inputs, layer.gradients[0, ...]
        return self._as_rows(self.eigen.solve_factored(inputs, gradients, damping=self.damping))

    def solve_inside(self, layer: LayerFactors) -> Any:
        """Return (Λ + λ)⁻¹ times the gradient of each sample in the eigenbasis, (n, o · i)."""
        inputs, gradients = layer.inputs, layer.gradients[0, ...]
        inside = self.eigen.solve_inside(inputs, gradients, damping=self.damping)
        return array_namespace(inside).reshape(inside, (inputs.shape[0], -1))

    def products_inside(self, rows: Any, layer: LayerFactors) -> Any:
        """Return the inner products of rows in the eigenbasis with the gradients, (k, n)."""
        return self.eigen.products_inside(rows, layer.inputs, layer.gradients)

    def self_products(self, layer: LayerFactors) -> Any:
        """Return the inner product of each gradient with (H + λI)⁻¹ times itself, (n,)."""
        inputs, gradients = layer.inputs, layer.gradients[0, ...]
        return self.eigen.self_products(inputs, gradients, damping=self.damping)

    def _as_rows(self, joined: Any) -> Any:
        """Return weights with their bias (k, o, i) in the order of the parameters."""
        if not self.has_bias:
            return self._flat(joined)
        xp = array_namespace(joined)
        weight, bias = self._flat(joined[:, :, :-1]), joined[:, :, -1]
        return xp.concat([weight, bias] if self.weight_first else [bias, weight], axis=1)

    def _shaped(self, rows: Any, o: int, i: int) -> Any:
        """Return weights as they are stored in rows as matrices, (k, o, i)."""
        xp = array_namespace(rows)
        if self.transposed:
            return xp.matrix_transpose(xp.reshape(rows, (-1, i, o)))
        return xp.reshape(rows, (-1, o, i))

    def _flat(self, weights: Any) -> Any:
        """Undo `_shaped`."""
        xp = array_namespace(weights)
        stored = xp.matrix_transpose(weights) if self.transposed else weights
        return xp.reshape(stored, (weights.shape[0], -1))


@dataclass(frozen=True)
class DiagonalCurvature:
    """A diagonal curvature (p,) of parameters that no layer covers."""

    diagonal: Any
    relative: bool
    block: str
    seconds: float

    @property
    def diagnostics(self) -> Diagnostics:
        """The extreme eigenvalues."""
        return _diagnostics(self.diagonal, self.seconds)

    def damped(self, damping: float) -> DiagonalInverse:
        """Return (H + λI)⁻¹."""
        absolute = _absolute(self.diagonal, damping, relative=self.relative, block=self.block)
        return DiagonalInverse(self.diagonal + absolute)


def _absolute(values: Any, damping: float, *, relative: bool, block: str) -> float:
    """Return λ in units of the curvature, after a check that the damped curvature is regular."""
    xp = array_namespace(values)
    absolute = damping * float(xp.mean(values)) if relative else damping
    smallest, largest = float(xp.min(values)) + absolute, float(xp.max(values)) + absolute
    if not smallest > float(xp.finfo(values.dtype).eps) * largest:
        raise IndefiniteCurvatureError(
            f"The curvature of block {block!r}, with eigenvalues from {smallest - absolute:.3g} to "
            f"{largest - absolute:.3g}, is singular with the damping {absolute:g}. Use a larger "
            "regularization with damping='absolute', or freeze parameters that the loss does not "
            "depend on."
        )
    return absolute


def _diagnostics(values: Any, seconds: float) -> Diagnostics:
    xp = array_namespace(values)
    return Diagnostics(
        seconds,
        smallest_eigenvalue=float(xp.min(values)),
        largest_eigenvalue=float(xp.max(values)),
    )
