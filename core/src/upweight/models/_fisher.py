r"""Factored gradients of samples, whose second moment is the Fisher matrix of each layer.

With \(u_d\) such that \(\sum_d u_d u_d^\top = H_\ell\), exactly or in expectation, the generalised
Gauss-Newton matrix is the mean over samples of \(\sum_d (J^\top u_d)(J^\top u_d)^\top\); for losses
that are negative log-likelihoods of exponential families it is the Fisher matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast

import numpy as np
from array_api_compat import array_namespace

from upweight.checks import batch_size
from upweight.errors import IndefiniteCurvatureError, UnsupportedCurvatureError
from upweight.models._data import KEEP_BYTES
from upweight.models._streams import RowStreams
from upweight.sums import Piece
from upweight.trees import Batch, map_leaves, summed

if TYPE_CHECKING:
    from upweight.models._sums import SummedData
    from upweight.protocols import LayerStatistics, SupportsLayers

A = TypeVar("A")

#: Numbers in the Hessians in the output that are formed at a time.
HESSIAN_NUMBERS = 2**22


class FisherMode(StrEnum):
    """Where the output gradients come from whose second moment is the curvature.

    `SAMPLED`: labels drawn from the model's prediction. `EXACT`: every direction of the Hessian of
    the loss in the output. `EMPIRICAL`: the training labels. The strings are accepted, too.
    """

    SAMPLED = "sampled"
    EXACT = "exact"
    EMPIRICAL = "empirical"


class LayerFactors(NamedTuple):
    """What the gradients of one layer are made of.

    Attributes:
        weight: Name of the weight.
        bias: Name of the bias, which is the weight of a last input 1, or None.
        inputs: a, (n, t, i).
        gradients: g for d directions, (d, n, t, o).
        transposed: Whether the weight is stored as (i, o).
    """

    weight: str
    bias: str | None
    inputs: Any
    gradients: Any
    transposed: bool = False


@dataclass(frozen=True)
class FisherOptions:
    """Where output gradients come from.

    Attributes:
        mode: Which. A loss whose labels cannot be drawn takes the exact form instead of the sampled
            one.
        draws: Labels drawn for each sample.
        seed: Seed of the labels drawn.
        first: The number of the first draw, each of which has random numbers of its own.
    """

    mode: FisherMode
    draws: int = 1
    seed: int = 0
    first: int = 0


class FisherFactors(Generic[A]):
    """The factored gradients over training data, which are kept if they are small, and not elsewhere.

    Args:
        objective: The mean loss.
        data: The training data.
        options: Where output gradients come from.
    """

    def __init__(
        self, objective: SupportsLayers[A], data: SummedData[A], options: FisherOptions
    ) -> None:
        self._objective = objective
        self._data = data
        self._options = options
        self._kept: list[dict[str, LayerFactors]] | None = None

    def total(
        self, function: Callable[..., Mapping[Any, Any]], *shared: Mapping[Any, A]
    ) -> Mapping[Any, Any]:
        """Return the sum of a function of the factors of each layer, by its name.

        Raises:
            IndefiniteCurvatureError: the loss is not convex in the output of the model.
        """
        if self._data.distributed:
            summand = partial(_total_of_piece, self._options, function)
            total: Mapping[Any, Any] = self._data.total(self._objective, summand, *shared)
            return total
        return _total(function, self, *shared)

    def redrawn(self) -> FisherFactors[A]:
        """Return them with labels drawn anew, or the same where no labels are drawn."""
        options = self._options
        if options.mode is not FisherMode.SAMPLED:
            return self
        again = replace(options, first=options.first + options.draws)
        return FisherFactors(self._objective, self._data, again)

    def __iter__(self) -> Iterator[dict[str, LayerFactors]]:
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[dict[str, LayerFactors]] | None = []
        numbers = first = 0
        for _, batch in self._data:
            for factors in self._of_piece(Piece(batch, first)):
                numbers += sum(_size(f.inputs) + _size(f.gradients) for f in factors.values())
                if kept is not None and 8 * numbers <= KEEP_BYTES:
                    kept.append(factors)
                else:
                    kept = None
                yield factors
            first += batch_size(*batch)
        self._kept = kept

    def _of_piece(self, piece: Piece) -> Iterator[dict[str, LayerFactors]]:
        directions = None
        if self._options.mode is FisherMode.SAMPLED:
            directions = drawn_directions(self._options, self._objective, piece)
            if directions is None:  # nor will it be known for other batches
                self._options = replace(self._options, mode=FisherMode.EXACT)
        yield from _factors(self._options, self._objective, piece.batch, directions)


def _total_of_piece(
    options: FisherOptions,
    function: Callable[..., Mapping[Any, Any]],
    objective: SupportsLayers[A],
    piece: Piece,
    *shared: Any,
) -> Mapping[Any, Any]:
    directions = None
    if options.mode is FisherMode.SAMPLED:
        directions = drawn_directions(options, objective, piece)
        if directions is None:
            options = replace(options, mode=FisherMode.EXACT)
    return _total(function, _factors(options, objective, piece.batch, directions), *shared)


def _total(
    function: Callable[..., Mapping[Any, Any]],
    factors: Iterable[dict[str, LayerFactors]],
    *shared: Any,
) -> Mapping[Any, Any]:
    total: Any = {}
    for one in factors:
        total = summed(total, function(one, *shared))
    return cast(Mapping[Any, Any], total)


def drawn_directions(
    options: FisherOptions, objective: SupportsLayers[A], piece: Piece
) -> Any | None:
    """Return the gradients in the output for labels drawn, (d, n, c), or None if none can be."""
    numbers = range(options.first, options.first + options.draws)
    streams = [RowStreams([options.seed, draw], piece.first) for draw in numbers]
    try:
        draws: list[Any] = [objective.sampled_directions(piece.batch, rng) for rng in streams]
    except UnsupportedCurvatureError:
        return None
    return array_namespace(*draws).stack(draws) / options.draws**0.5


def _factors(
    options: FisherOptions, objective: SupportsLayers[A], batch: Batch[A], directions: Any
) -> Iterator[dict[str, LayerFactors]]:
    if options.mode is not FisherMode.EXACT:
        yield layer_factors(objective.layers(batch, directions))
        return
    for part, exact in exact_directions(objective, batch):
        yield layer_factors(objective.layers(part, exact))


def layer_factors(statistics: Mapping[str, LayerStatistics[Any]]) -> dict[str, LayerFactors]:
    """Return the statistics with an input 1 for the bias, and an axis of directions."""
    factors = {}
    for name, layer in statistics.items():
        xp = array_namespace(layer.inputs)
        inputs, gradients = layer.inputs, layer.gradients
        if layer.bias is not None:
            inputs = xp.concat([inputs, xp.ones_like(inputs[:, :, :1])], axis=2)
        if gradients.ndim == 3:
            gradients = gradients[None, ...]
        factors[name] = LayerFactors(layer.weight, layer.bias, inputs, gradients, layer.transposed)
    return factors


def exact_directions(
    objective: SupportsLayers[A], batch: Batch[A], count: int | None = None
) -> Iterator[tuple[Batch[A], A]]:
    r"""Yield pieces of a batch with directions u in their outputs, \(\sum_d u_d u_d^\top = H_\ell\).

    Args:
        objective: The mean loss.
        batch: n samples.
        count: Number d of directions, those of the largest eigenvalues; by default all c, without
            those that vanish for every sample of a piece.

    Yields:
        Pieces, and directions (d, n of the piece, c) in ascending order of eigenvalues.

    Raises:
        IndefiniteCurvatureError: the loss is not convex in the output of the model.
    """
    first: Any = objective.output_hessians(sliced(batch, 0, 1))
    step = max(1, HESSIAN_NUMBERS // first.shape[1] ** 2)
    for start in range(0, batch_size(*batch), step):
        piece = sliced(batch, start, start + step)
        yield piece, _roots(objective.output_hessians(piece), count)


def _roots(hessians: Any, count: int | None) -> Any:
    xp = array_namespace(hessians)
    values, vectors = xp.linalg.eigh(hessians)
    largest = xp.max(xp.abs(values))
    rounding = 10 * values.shape[1] * float(xp.finfo(values.dtype).eps) * float(largest)
    lowest = float(xp.min(values))
    if not lowest >= -rounding:
        raise IndefiniteCurvatureError(
            "The loss is not convex in the output of the model: its Hessian there has the "
            f"eigenvalue {lowest:.3g}, so it has no Fisher matrix. Use the empirical Fisher, or a "
            "convex loss."
        )
    c = values.shape[1]
    if count is None:
        used = [d for d in range(c) if float(xp.max(values[:, d])) > rounding] or [c - 1]
    else:
        used = list(range(max(0, c - count), c))
    roots = vectors * xp.sqrt(xp.where(values > 0, values, 0 * values))[:, None, :]
    return xp.stack([roots[:, :, d] for d in used])


def sliced(batch: Batch[Any], start: int, stop: int) -> Batch[Any]:
    """Return the samples from `start` up to `stop`."""
    x, y = batch
    return (
        map_leaves(lambda leaf: leaf[start:stop, ...], x),
        map_leaves(lambda leaf: leaf[start:stop, ...], y),
    )


def _size(array: Any) -> int:
    return int(np.prod(array.shape))
