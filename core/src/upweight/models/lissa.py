"""Influence through the Neumann series on batches of the training data."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from array_api_compat import array_namespace

from upweight.errors import DivergenceError, IndefiniteCurvatureError
from upweight.influence import BlockMode, SecondOrderMode
from upweight.linalg.neumann import GrowthError, neumann_series
from upweight.models._base import CurvatureInfluence, FittedCurvature
from upweight.models._batches import BatchCurvatures
from upweight.models._curvature import CurvatureOperator
from upweight.models._data import TrainingData
from upweight.models._diagnostics import Diagnostics, integers_in, numbers_in, warn_if_missed
from upweight.progress import inner_bar
from upweight.trees import Batch

if TYPE_CHECKING:
    from upweight.protocols import Objective

A = TypeVar("A")

#: The scale found is this many times the largest eigenvalue, whose estimate is from below.
MARGIN = 1.25


class LissaInfluence(CurvatureInfluence[A]):
    r"""Influence with the curvature H of the mean training loss, solved batch by batch (LiSSA).

    Factors are \((H + \lambda I)^{-1} \nabla_\theta \ell(z)\), as \(h / s\) with h the limit of

    \[h_{j+1} = b + (I - (H_j + \lambda I) / s) h_j\]

    where \(H_j\) is the curvature of one batch, weighted by its size so that its mean over a pass
    is H. The batches are those of the data, never rebuilt: small ones make cheap and noisy steps.
    They are taken in a random order where the data is small enough to be kept, and in the order
    in which they come where it is not. After every four passes the residual against the whole
    curvature is measured, and the recursion goes on with what is missing: the limit is exact with
    batches of any size.

    Args:
        objective: The mean loss, seen through its derivatives.
        regularization: \(\lambda\), in units of the curvature; a number, or one for each block.
        rtol: A row is solved when the norm of its residual is at most `rtol` times its own norm.
        maxiter: Most steps of a row, each of one batch.
        scale: s, the same for all blocks; every batch must have its largest eigenvalue, damping
            included, below 2 s. By default it is found by power iteration, seeded, once, as
            1.25 times the largest eigenvalue of any batch, plus the damping.
        repeats: Number of recursions, over other orders of the batches, that are averaged.
        seed: Of the orders and of the power iteration. The same model and seed give the same
            factors, whatever rows are asked for together.
        block_structure: Which parameters have a curvature of their own.
        second_order_mode: Which curvature: Hessian, Gauss-Newton or empirical Fisher.
        measurement: What is measured on test samples instead of the loss, as an objective.

    References:
        Agarwal, Bullins and Hazan, "Second-order stochastic optimization for machine learning in
        linear time", JMLR 18 (2017), section 3; Koh and Liang, "Understanding Black-box
        Predictions via Influence Functions", ICML 2017, section 3, stochastic estimation.
    """

    def __init__(
        self,
        objective: Objective[A],
        *,
        regularization: float | Mapping[str, float] = 0.0,
        rtol: float = 1e-4,
        maxiter: int = 5000,
        scale: float | None = None,
        repeats: int = 1,
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
        if not 0 < rtol < math.inf:
            raise ValueError(f"`rtol` must be positive; got {rtol!r}.")
        if scale is not None and not 0 < scale < math.inf:
            raise ValueError(f"`scale` must be positive, or None to have it found; got {scale!r}.")
        for name, value, least in (
            ("maxiter", maxiter, 1),
            ("repeats", repeats, 1),
            ("seed", seed, 0),
        ):
            if isinstance(value, bool) or int(value) != value or value < least:
                raise ValueError(f"`{name}` must be an integer of at least {least}; got {value!r}.")
        self._options = LissaOptions(rtol, maxiter, scale, repeats, seed)

    def _settings(self) -> dict[str, Any]:
        return asdict(self._options)

    def _fit(self, data: Iterable[Batch[A]], *, progress: bool) -> dict[str, FittedCurvature[A]]:
        start = time.perf_counter()
        kept = TrainingData(data, self._objective, progress=progress, join=False)
        curvatures: dict[str, FittedCurvature[A]] = {}
        for name, objective in self._objectives().items():
            batches = BatchCurvatures(CurvatureOperator(objective, self._mode, kept))
            largest = None
            if self._options.scale is None:
                largest = batches.largest_eigenvalue(self._options.seed)
            seconds = time.perf_counter() - start
            curvatures[name] = LissaCurvature(batches, largest, self._options, name, seconds)
        return curvatures


@dataclass(frozen=True)
class LissaOptions:
    """What a user chooses; see `LissaInfluence`."""

    rtol: float
    maxiter: int
    scale: float | None
    repeats: int
    seed: int


@dataclass(frozen=True)
class LissaCurvature:
    """The curvature of a block, and its largest eigenvalue if that was looked for."""

    batches: BatchCurvatures
    largest: float | None
    options: LissaOptions
    block: str
    seconds: float

    @property
    def diagnostics(self) -> Diagnostics:
        """How long the fit took, and the largest eigenvalue of any batch."""
        return Diagnostics(self.seconds, largest_eigenvalue=self.largest)

    def damped(self, damping: float) -> LissaInverse:
        """Return (H + λI)⁻¹.

        Raises:
            IndefiniteCurvatureError: the curvature is zero, and so is the damping.
        """
        if self.options.scale is None and self.scale(damping) == 0:
            raise IndefiniteCurvatureError(
                f"The curvature of block {self.block!r} is zero; use a positive regularization."
            )
        return LissaInverse(self, damping)

    def scale(self, damping: float) -> float:
        """Return a scale with which no batch of nonnegative curvature diverges."""
        largest = self.largest
        if largest is None:
            largest = self.batches.largest_eigenvalue(self.options.seed)
        return MARGIN * largest + damping


class LissaInverse:
    """The inverse of a damped curvature, applied by the recursion."""

    def __init__(self, curvature: LissaCurvature, damping: float) -> None:
        self._curvature = curvature
        self._damping = damping
        self.diagnostics: Diagnostics | None = None

    def solve(self, rows: Any) -> Any:
        """Return (H + λI)⁻¹ times each row, (k, p).

        Raises:
            DivergenceError: the scale is too small.
            IndefiniteCurvatureError: the recursion diverges whatever the scale.
        """
        start = time.perf_counter()
        options, batches = self._curvature.options, self._curvature.batches.prepared()
        scale = options.scale or self._curvature.scale(self._damping)
        try:
            with inner_bar(None, label="Recursion", unit="step") as advance:
                solution = neumann_series(
                    partial(self._damped, batches.whole),
                    [self._endless(batches, repeat, advance) for repeat in range(options.repeats)],
                    rows,
                    period=batches.count,
                    scale=scale,
                    rtol=options.rtol,
                    maxiter=options.maxiter,
                )
        except GrowthError as error:
            raise self._explanation(scale, error.direction) from error
        self.diagnostics = Diagnostics(
            time.perf_counter() - start,
            steps=integers_in(solution.steps),
            residuals=numbers_in(solution.residuals),
        )
        warn_if_missed(solution, block=self._curvature.block, maxiter=options.maxiter)
        return solution.value

    def _endless(
        self, batches: BatchCurvatures, repeat: int, advance: Callable[[int], object]
    ) -> Iterator[Callable[[Any], Any]]:
        order = np.random.default_rng([self._curvature.options.seed, repeat])
        while True:
            for product in batches.products(order):
                yield partial(self._damped, product)
                advance(1)

    def _damped(self, product: Callable[[Any], Any], rows: Any) -> Any:
        return product(rows) + self._damping * rows

    def _explanation(self, scale: float, direction: Any) -> Exception:
        block, enough = self._curvature.block, self._curvature.scale(self._damping)
        xp = array_namespace(direction)
        row = direction[None, :] / xp.linalg.vector_norm(direction)
        curvature = float(xp.sum(self._curvature.batches.whole(row) * row))
        if scale < enough and not curvature + self._damping <= 0:
            return DivergenceError(
                f"The recursion for block {block!r} diverges with the scale {scale:.3g}, which is "
                f"too small for the curvature of the batches. Use a scale of {enough:.3g}, or "
                "leave it out to have it found."
            )
        advice = f"above {-curvature:.3g}" if curvature < 0 else "that is larger"
        return IndefiniteCurvatureError(
            f"The recursion for block {block!r} diverges: the curvature, {curvature:.3g} along a "
            f"direction, is not positive on every batch with the regularization "
            f"{self._damping:g}. Use a regularization {advice}, the Gauss-Newton matrix, larger "
            "batches, or train longer."
        )
