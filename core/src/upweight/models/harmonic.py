"""Influence through the mean of the inverses of the samples' own damped curvatures."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from array_api_compat import array_namespace

from upweight.checks import check_finite
from upweight.influence import BlockMode, SecondOrderMode
from upweight.models._base import CurvatureInfluence, FittedCurvature
from upweight.models._curvature import GRADIENT_BYTES
from upweight.models._diagnostics import Diagnostics
from upweight.models._sums import SummedData, summed_data
from upweight.trees import Batch

if TYPE_CHECKING:
    from upweight.protocols import Objective
    from upweight.sums import Piece

A = TypeVar("A")


class InverseHarmonicMeanInfluence(CurvatureInfluence[A]):
    r"""Influence with the harmonic mean of the samples' own damped curvatures (DataInf).

    With \(g_i\) the gradients of the n training samples in a block, factors are

    \[\frac1n \sum_i (g_i g_i^\top + \lambda I)^{-1} b
      = \frac1\lambda \Big(b - \frac1n \sum_i
        \frac{\langle g_i, b \rangle}{\lambda + \lVert g_i \rVert^2} g_i\Big),\]

    the mean of inverses in place of the inverse of the mean, the damped empirical Fisher. It needs
    no iteration and no matrix, and each row is solved by itself. It is close to the inverse of the
    mean where \(\lambda\) is large beside \(\lVert g_i \rVert^2\); with one sample both are the
    same.

    Args:
        objective: The mean loss, seen through its derivatives.
        regularization: \(\lambda > 0\), in units of squared gradients; a number, or one for each
            block.
        block_structure: Which parameters have a curvature of their own.
        measurement: What is measured on test samples instead of the loss, as an objective.

    Raises:
        ValueError: a regularization is not positive.

    References:
        Kwon, Wu, Wu and Zou, "DataInf: Efficiently Estimating Data Influence in LoRA-tuned LLMs and
        Diffusion Models", ICLR 2024, section 3, without the minus sign of its influence.
    """

    def __init__(
        self,
        objective: Objective[A],
        *,
        regularization: float | Mapping[str, float],
        block_structure: BlockMode | str | Mapping[str, Sequence[str]] = BlockMode.LAYER_WISE,
        measurement: Objective[A] | None = None,
    ) -> None:
        super().__init__(
            objective,
            regularization=regularization,
            block_structure=block_structure,
            second_order_mode=SecondOrderMode.EMPIRICAL_FISHER,
            measurement=measurement,
        )
        for block, damping in self.regularization.items():
            _check_positive(damping, block)

    def _settings(self) -> dict[str, Any]:
        return {"second_order_mode": "empirical_fisher"}

    def _fit(self, data: Iterable[Batch[A]], *, progress: bool) -> dict[str, FittedCurvature[A]]:
        start = time.perf_counter()
        batches = summed_data(data, self._objective, progress=progress)
        kept: dict[str, list[Any]] | None = None
        needed = batches.n_samples * self.n_parameters * self.dtype.itemsize
        if not batches.distributed and needed <= GRADIENT_BYTES:
            kept = {name: [] for name in self.block_names}
            for _, batch in batches:
                gradients: Any = self._objective.gradients(batch)
                check_finite(gradients, what="gradient of the training samples")
                for name, part in self._blocks.split(gradients).items():
                    kept[name].append(part)
        seconds = time.perf_counter() - start
        return {
            name: SampleCurvatures(
                KeptGradients(kept[name]) if kept else SampleGradients(objective, batches),
                batches.n_samples,
                name,
                seconds,
            )
            for name, objective in self._objectives().items()
        }


@dataclass(frozen=True)
class KeptGradients:
    """The gradients of the training samples, (n of the batch, p) for each batch."""

    pieces: list[Any]
    distributed = False

    def combined(self, damping: float, rows: Any) -> Any:
        r"""Return \(\sum_i \frac{\langle g_i, b \rangle}{\lambda + \lVert g_i \rVert^2} g_i\), (k, p)."""
        total = array_namespace(rows).zeros_like(rows)
        for gradients in self.pieces:
            total = total + _combined(damping, gradients, rows)
        return total


@dataclass(frozen=True)
class SampleGradients:
    """The gradients of the training samples, taken afresh on every walk."""

    objective: Objective[Any]
    data: SummedData[Any]

    @property
    def distributed(self) -> bool:
        """Whether they are taken elsewhere."""
        return self.data.distributed

    def combined(self, damping: float, rows: Any) -> Any:
        """Return what `KeptGradients.combined` returns."""
        return self.data.total(self.objective, partial(_combined_afresh, damping), rows)


def _combined(damping: float, gradients: Any, rows: Any) -> Any:
    xp = array_namespace(rows)
    weights = 1 / (damping + xp.sum(gradients * gradients, axis=1))
    products = rows @ xp.matrix_transpose(gradients)  # (k, n of the piece)
    return (products * weights[None, :]) @ gradients


def _combined_afresh(damping: float, objective: Objective[Any], piece: Piece, rows: Any) -> Any:
    return _combined(damping, objective.gradients(piece.batch), rows)


@dataclass(frozen=True)
class SampleCurvatures:
    """The gradients of n training samples in a block."""

    gradients: KeptGradients | SampleGradients
    n_samples: int
    block: str
    seconds: float

    @property
    def distributed(self) -> bool:
        """Whether a solve is computed elsewhere."""
        return self.gradients.distributed

    @property
    def diagnostics(self) -> Diagnostics:
        """How long the fit took."""
        return Diagnostics(self.seconds)

    def damped(self, damping: float) -> HarmonicInverse:
        """Return the mean of the damped inverses.

        Raises:
            ValueError: the damping is not positive.
        """
        _check_positive(damping, self.block)
        return HarmonicInverse(self.gradients, self.n_samples, damping)


@dataclass(frozen=True)
class HarmonicInverse:
    """The mean of the inverses of damped outer products."""

    gradients: KeptGradients | SampleGradients
    n_samples: int
    damping: float

    def solve(self, rows: Any) -> Any:
        """Return the mean of the inverses times each row, (k, p), in one walk."""
        total = self.gradients.combined(self.damping, rows)
        return (rows - total / self.n_samples) / self.damping


def _check_positive(damping: float, block: str) -> None:
    if not damping > 0:
        raise ValueError(
            f"The harmonic mean of the samples' curvatures needs a positive `regularization`: each "
            f"of them is singular without; got {damping!r} for block {block!r}. A tenth of the "
            "mean squared norm of the gradients over the number of parameters of the block is a "
            "common choice."
        )
