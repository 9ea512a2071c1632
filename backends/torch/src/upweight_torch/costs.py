"""Which way to gradients of samples and their products with rows is the cheapest.

The ways are chosen here and nowhere else. Costs are counted in multiply-adds of a large matrix
product; what the other operations cost in these was measured on one thread of a CPU
(`tests/benchmarks/cost_model.py` compares the choices with measured times). Only the order of the
ways matters, and no choice changes a result.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

#: A call that differentiates a model, whatever the number of samples; what is done by `torch.func`
#: once costs `MAPPED` of it, and twice, `TWICE`.
CALL, MAPPED, TWICE = 60_000_000, 2, 2.5

#: A byte of activations, forwards and backwards; for a parameter, three multiply-adds.
BYTE, PARAMETER = 70, 3

#: A row pulled back through the linearised gradient, in forward and backward passes.
PULL = 0.75

#: A number in the gradients that `torch.func.vmap` forms.
MAPPED_NUMBER = 170

#: For the gradients of a layer: writing a number; adding a position to it.
WRITE, POSITION = 16, 8

#: For rows that map one side of a layer: a number of a mapped side; the scalar product in which it
#: ends; and numbers below which a side does not make a product cheaper.
MAP, DOT, NARROW = 6, 1000, 32


class Way(Enum):
    """How gradients of samples meet rows.

    `FACTORED`: from inputs and output gradients of layers, where there are such; the parameters
    that belong to none, by the cheaper one of the others. `PULLED_BACK`: each row by itself through
    the linearised gradient. `MATERIALISED`: the gradients are formed, sample by sample.
    """

    FACTORED = auto()
    PULLED_BACK = auto()
    MATERIALISED = auto()


@dataclass(frozen=True)
class LayerSize:
    """Positions t, outputs o and inputs i of a layer."""

    positions: int
    outputs: int
    inputs: int


@dataclass(frozen=True)
class Work:
    """A model, and how many samples it is differentiated for.

    Attributes:
        samples: n.
        parameters: p.
        activation_bytes: What autograd keeps for a sample.
        layers: The layers whose statistics are at hand.
        covered: How many of the parameters belong to these.
    """

    samples: int
    parameters: int
    activation_bytes: int
    layers: tuple[LayerSize, ...] = ()
    covered: int = 0

    @property
    def rest(self) -> Work:
        """The same for the parameters that belong to no layer."""
        return Work(self.samples, self.parameters - self.covered, self.activation_bytes)


def cheapest_products(work: Work, k: int) -> Way:
    """Return the way to the inner products of k rows with all gradients."""
    costs = {
        Way.PULLED_BACK: _pulling_back(work, k),
        Way.MATERIALISED: _materialising(work, k),
    }
    if work.layers:
        costs[Way.FACTORED] = _statistics(work) + sum(
            min(forming(layer, work.samples, k), mapping(layer, work.samples, k))
            for layer in work.layers
        )
        if work.covered < work.parameters:
            # The rows are divided, and the samples are differentiated again.
            rest = min(_pulling_back(work.rest, k), _materialising(work.rest, k))
            costs[Way.FACTORED] += CALL + rest
    return min(costs, key=lambda way: costs[way])


def cheapest_gradients(work: Work) -> Way:
    """Return the way to the gradients themselves, `FACTORED` or `MATERIALISED`."""
    if not work.layers:
        return Way.MATERIALISED
    factored = _statistics(work) + sum(forming(layer, work.samples, 0) for layer in work.layers)
    if work.covered < work.parameters:
        factored += _materialising(work.rest, 0)
    return Way.FACTORED if factored < _materialising(work, 0) else Way.MATERIALISED


def forming_pays(layer: LayerSize, n: int, k: int) -> bool:
    """Return whether products with k rows are cheaper if the gradients of a layer are formed.

    Otherwise each row maps the side of fewer numbers, at every position.
    """
    return forming(layer, n, k) < mapping(layer, n, k)


def forming(layer: LayerSize, n: int, k: int) -> float:
    """Return what gradients of a layer and their products with k rows cost."""
    numbers = n * layer.outputs * layer.inputs
    return numbers * (WRITE + POSITION * (layer.positions - 1) + k)


def mapping(layer: LayerSize, n: int, k: int) -> float:
    """Return what products with k rows cost if each row maps one side of the layer."""
    narrow, wide = sorted((layer.outputs, layer.inputs))
    return k * n * layer.positions * (max(narrow, NARROW) * wide + MAP * narrow + DOT)


def _pass(work: Work) -> float:
    """Return what a forward and a backward pass cost, without the call."""
    return work.samples * (BYTE * work.activation_bytes + PARAMETER * work.parameters)


def _statistics(work: Work) -> float:
    return CALL + _pass(work)


def _pulling_back(work: Work, k: int) -> float:
    return TWICE * CALL + (2 + PULL * k) * _pass(work)


def _materialising(work: Work, k: int) -> float:
    return MAPPED * CALL + _pass(work) + work.samples * work.parameters * (MAPPED_NUMBER + k)
