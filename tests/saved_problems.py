"""A backend of softmax regressions on NumPy arrays, whose fitted models can be saved."""

from typing import NamedTuple

import numpy as np
from curvatures import Restricted, Softmax
from reference import softmax_problem

from upweight import Backend, ListAggregator, NestedListAggregator, hookimpl


class Model(NamedTuple):
    """Weights, and a number that the model holds besides."""

    weight: np.ndarray
    bias: np.ndarray
    scale: np.ndarray = np.ones(1)


class Converter:
    def to_numpy(self, x):
        return np.asarray(x)

    def from_numpy(self, x):
        return x


class Told:
    """What saving asks of an objective."""

    def numpy_converter(self):
        return Converter()

    def parameter_values(self):
        model = self if isinstance(self, Objective) else self.whole
        yield from {"weight": model.weight, "bias": model.bias, "scale": model.scale}.items()


class Part(Told, Restricted):
    """The model as a function of some of its parameters."""

    def inner_products(self, rows, batch):
        return rows @ self.gradients(batch).T


class Objective(Told, Softmax):
    """The model with its loss, a multiple of the cross-entropy."""

    def __init__(self, model, loss):
        super().__init__(model.weight, model.bias)
        self.scale, self.times = model.scale, loss

    def gradients(self, batch):
        return self.times * super().gradients(batch)

    def restrict(self, names):
        return Part(self, names)


class Plugin:
    @hookimpl
    def upweight_backend(self, name):
        if name != "saved":
            return None
        return Backend("saved", Objective, Converter, ListAggregator, NestedListAggregator)

    @hookimpl
    def upweight_owner(self, model):
        return "saved" if isinstance(model, Model) else None


def saved_problem(dtype="float64"):
    """Return a model, training batches and a test batch."""
    objective, (x, y) = softmax_problem(dtype=dtype)
    test = softmax_problem(n=7, seed=5, dtype=dtype)[1]
    return Model(objective.weight, objective.bias), [(x[:12], y[:12]), (x[12:], y[12:])], test
