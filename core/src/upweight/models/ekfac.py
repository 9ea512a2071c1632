"""Influence through Kronecker-factored curvatures of layers."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from array_api_compat import array_namespace

from upweight.checks import batch_size, check_finite
from upweight.errors import UnsupportedCurvatureError
from upweight.influence import BlockMode
from upweight.linalg.kronecker import KroneckerEigen, second_moments, squared_projections
from upweight.models._base import FittedCurvature
from upweight.models._columns import Columns
from upweight.models._fisher import (
    FisherFactors,
    FisherMode,
    FisherOptions,
    LayerFactors,
    sliced,
)
from upweight.models._kronecker import DiagonalCurvature, KroneckerCurvature
from upweight.models._layer_pairs import LayerPairs
from upweight.models._low_rank import checked_choice
from upweight.models._sums import SummedData, summed_data
from upweight.protocols import SupportsLayers
from upweight.trees import Batch

if TYPE_CHECKING:
    from upweight.protocols import Objective
    from upweight.sums import Piece

A = TypeVar("A")

Damping = Literal["relative", "absolute"]
Uncovered = Literal["diagonal", "refuse"]

#: Numbers in the gradients of uncovered parameters that are formed at a time.
GRADIENT_NUMBERS = 2**22


class EkfacInfluence(LayerPairs[A]):
    r"""Influence with the Fisher matrix of each layer, diagonal in a Kronecker eigenbasis (EK-FAC).

    For a layer with inputs a and output gradients g, weight and bias together, the curvature is
    \((Q_G \otimes Q_A) \Lambda (Q_G \otimes Q_A)^\top\), with \(Q_G\) and \(Q_A\) the eigenvectors
    of \(\mathbb{E}[g g^\top]\) and \(\mathbb{E}[a a^\top]\), and \(\Lambda\) the mean squares of
    the gradients in this basis, its best diagonal there. Layers do not interact. A linear model
    with a quadratic loss has exactly this curvature.

    Args:
        objective: The mean loss, seen through its derivatives and layers.
        regularization: The damping \(\lambda\), a number or one for each layer; in units set by
            `damping`.
        damping: "relative": \(\lambda\) is a multiple of the mean eigenvalue of the layer;
            "absolute": it is in units of the curvature.
        fisher: "sampled": labels are drawn from the prediction of the model; "exact": all
            directions of the Hessian of the loss in the output, which takes c backward passes for c
            outputs; "empirical": the training labels. Where the predictive distribution of the loss
            is not known, "sampled" takes the exact form.
        corrected: Whether to use \(\Lambda\); without, the curvature is the Kronecker product
            itself (K-FAC), which takes one pass less.
        uncovered: What becomes of parameters outside of linear and convolution layers, or tied
            ones: "diagonal": their curvature is the mean of the squared loss gradients; "refuse":
            an error.
        draws: Labels drawn for each training sample, once for the eigenvectors and once more for
            their eigenvalues.
        seed: Seed of the labels drawn.
        measurement: What is measured on test samples instead of the loss, as an objective.

    Raises:
        ValueError: an option is unknown, or the regularization negative or named for other blocks.
        UnsupportedCurvatureError: the objective does not know layers.

    References:
        George et al., "Fast Approximate Natural Gradient Descent in a Kronecker-factored
        Eigenbasis", NeurIPS 2018, section 3.1, equations (5) and (6); Grosse et al., "Studying
        Large Language Model Generalization with Influence Functions", 2023, section 3.1.
    """

    def __init__(
        self,
        objective: Objective[A],
        *,
        regularization: float | Mapping[str, float] = 0.1,
        damping: Damping = "relative",
        fisher: FisherMode | Literal["sampled", "exact", "empirical"] = FisherMode.SAMPLED,
        corrected: bool = True,
        uncovered: Uncovered = "diagonal",
        draws: int = 1,
        seed: int = 0,
        measurement: Objective[A] | None = None,
    ) -> None:
        super().__init__(
            objective,
            regularization=regularization,
            block_structure=BlockMode.LAYER_WISE,
            measurement=measurement,
        )
        if not isinstance(objective, SupportsLayers):
            raise UnsupportedCurvatureError(
                f"EK-FAC needs inputs and output gradients of layers, and "
                f"{type(objective).__name__} does not give them. Use CgInfluence."
            )
        checked_choice(damping, name="damping", choices=get_args(Damping))
        checked_choice(uncovered, name="uncovered", choices=get_args(Uncovered))
        if draws < 1:
            raise ValueError(f"`draws` must be at least 1; got {draws!r}.")
        self._relative = damping == "relative"
        self._fisher = FisherMode(fisher)
        self._corrected = corrected
        self._uncovered = uncovered
        self._draws = draws
        self._seed = seed
        self._layer_of: dict[str, str] = {}
        self._columns = Columns()

    def _settings(self) -> dict[str, Any]:
        return {
            "damping": "relative" if self._relative else "absolute",
            "second_order_mode": "fisher",
            "fisher": self._fisher.value,
            "corrected": self._corrected,
            "uncovered": self._uncovered,
            "draws": self._draws,
            "seed": self._seed,
        }

    def _fit(self, data: Iterable[Batch[A]], *, progress: bool) -> dict[str, FittedCurvature[A]]:
        start = time.perf_counter()
        kept = summed_data(data, self._objective, progress=progress)
        objective: Any = self._objective
        options = FisherOptions(self._fisher, self._draws, self._seed)
        factors = FisherFactors(objective, kept, options)
        eigen, layers = _kronecker_eigen(factors, kept.n_samples)
        layer_of = self._layer_of_block(layers)
        self._layer_of = layer_of
        if self._corrected:
            # Along eigenvectors of the very labels drawn, second moments would be too uneven.
            redrawn = factors.redrawn()
            eigen = _with_corrected_eigenvalues(eigen, redrawn, kept.n_samples)
        diagonals = self._diagonals(kept, set(self.block_names) - set(layer_of))
        seconds = time.perf_counter() - start
        curvatures: dict[str, FittedCurvature[A]] = {}
        for block in self.block_names:
            if block in diagonals:
                curvatures[block] = DiagonalCurvature(
                    diagonals[block], self._relative, block, seconds
                )
            else:
                layer = layers[layer_of[block]]
                first = self._blocks.by_name[block].parameters[0]
                curvatures[block] = KroneckerCurvature(
                    eigen[layer_of[block]],
                    layer.bias is not None,
                    first == layer.weight,
                    self._relative,
                    block,
                    seconds,
                    layer.transposed,
                )
        return curvatures

    def _layer_of_block(self, layers: Mapping[str, LayerFactors]) -> dict[str, str]:
        """Return the layer that each block consists of, where there is one."""
        names = {
            frozenset({layer.weight, layer.bias} - {None}): name for name, layer in layers.items()
        }
        found = {
            block: names[frozenset(division.parameters)]
            for block, division in self._blocks.by_name.items()
            if frozenset(division.parameters) in names
        }
        missed = [
            parameter
            for block, division in self._blocks.by_name.items()
            if block not in found
            for parameter in division.parameters
        ]
        if missed and self._uncovered == "refuse":
            raise UnsupportedCurvatureError(
                f"The parameters {missed} do not belong to a layer that EK-FAC covers. Freeze them "
                "(`requires_grad`), or use uncovered='diagonal'."
            )
        return found

    def _diagonals(self, data: SummedData[A], blocks: set[str]) -> dict[str, Any]:
        """Return the mean of the squared gradients in the parameters of blocks."""
        if not blocks:
            return {}
        objectives = {
            block: self._objective.restrict(self._blocks.by_name[block].parameters)
            for block in sorted(blocks)
        }
        totals = data.total(objectives, _squared_gradients)
        return {block: total / data.n_samples for block, total in totals.items()}


def _kronecker_eigen(
    factors: FisherFactors[Any], n_samples: int
) -> tuple[dict[str, KroneckerEigen], dict[str, LayerFactors]]:
    """Return the eigendecomposition of G ⊗ A of each layer, and which layers there are.

    Inputs are averaged over samples and positions, gradients over samples and summed over
    positions: the mean of Σ_t g_t a_tᵀ squared, if positions are independent.
    """
    totals = factors.total(_moments)
    eigen: dict[str, KroneckerEigen] = {}
    layers: dict[str, LayerFactors] = {}
    for name, layer, _ in totals:
        if name in layers:
            continue
        layers[name] = layer
        a, g, positions = (totals[name, layer, what] for what in ("inputs", "gradients", "count"))
        for moment in (a, g):
            check_finite(moment, what=f"curvature of layer {name!r}")
        eigen[name] = KroneckerEigen.of(g / n_samples, a / max(1, positions))
    return eigen, layers


def _moments(factors: Mapping[str, LayerFactors]) -> dict[tuple[str, LayerFactors, str], Any]:
    """Return second moments of layers and numbers of positions; the keys say what layers they are."""
    found: dict[tuple[str, LayerFactors, str], Any] = {}
    for name, layer in factors.items():
        which = layer._replace(inputs=None, gradients=None)
        a, g = second_moments(layer.inputs, layer.gradients)
        found[name, which, "inputs"], found[name, which, "gradients"] = a, g
        found[name, which, "count"] = layer.inputs.shape[0] * layer.inputs.shape[1]
    return found


def _with_corrected_eigenvalues(
    eigen: Mapping[str, KroneckerEigen], factors: FisherFactors[Any], n_samples: int
) -> dict[str, KroneckerEigen]:
    arrays = {
        (name, field): array for name, one in eigen.items() for field, array in vars(one).items()
    }
    totals = factors.total(_squared_projections, arrays)
    return {name: eigen[name].corrected(total / n_samples) for name, total in totals.items()}


def _squared_projections(
    factors: Mapping[str, LayerFactors], arrays: Mapping[tuple[str, str], Any]
) -> dict[str, Any]:
    found = {}
    for name, layer in factors.items():
        basis = KroneckerEigen(
            *(arrays[name, field] for field in ("outputs", "inputs", "eigenvalues"))
        )
        found[name] = squared_projections(basis, layer.inputs, layer.gradients)
    return found


def _squared_gradients(objectives: Mapping[str, Objective[Any]], piece: Piece) -> dict[str, Any]:
    totals: dict[str, Any] = {}
    n = batch_size(*piece.batch)
    for block, objective in objectives.items():
        step = max(1, GRADIENT_NUMBERS // objective.zeros(0).shape[1])
        for start in range(0, n, step):
            gradients: Any = objective.gradients(sliced(piece.batch, start, start + step))
            part = array_namespace(gradients).sum(gradients**2, axis=0)
            totals[block] = totals[block] + part if block in totals else part
    return totals
