"""The reference model in blocks, and its curvatures from closed forms as NumPy float64."""

import math
from importlib import import_module

import array_api_strict
import numpy as np
import pytest
from oracle import gradients
from reference import SoftmaxRegression, dense_hessian, softmax_problem

NAMESPACES = ["numpy", "array_api_strict", "torch"]
MODES = ["hessian", "gauss_newton", "empirical_fisher"]
STRUCTURES = ["full", "parameter_wise"]

#: How far below that of the reference the eigenvalues of a saddle are.
SHIFT = 0.7


def namespace(name):
    """Return an array namespace by name, or skip the test."""
    known = {"numpy": np, "array_api_strict": array_api_strict}
    if name in known:
        return known[name]
    pytest.importorskip(name)
    return import_module(f"array_api_compat.{name}")


class Softmax(SoftmaxRegression):
    """The reference model with Gauss-Newton products, which can be restricted."""

    def gauss_newton_product(self, rows, batch):
        return SoftmaxRegression.hessian_product(self, rows, batch)

    def restrict(self, names):
        return Restricted(self, names)


class Saddle(Softmax):
    """A loss of negative curvature: the Hessian, and it alone, less a multiple of the unit."""

    def hessian_product(self, rows, batch):
        return super().hessian_product(rows, batch) - SHIFT * rows


class Restricted:
    """A model as a function of some of its parameters."""

    is_thread_safe = True

    def __init__(self, whole, names):
        self.whole, self.dtype = whole, whole.dtype
        self.parameters = {name: whole.parameters[name] for name in names}
        picked, start = [], 0
        for name, shape in whole.parameters.items():
            stop = start + math.prod(shape)
            picked += range(start, stop) if name in names else ()
            start = stop
        self.picks = whole.xp.asarray(np.eye(start, dtype=self.dtype)[picked, :])  # (p, whole p)

    def zeros(self, k):
        return self.whole.zeros(k) @ self.picks.T

    def losses(self, batch):
        return self.whole.losses(batch)

    def gradients(self, batch):
        return self.whole.gradients(batch) @ self.picks.T

    def hessian_product(self, rows, batch):
        return self.whole.hessian_product(rows @ self.picks, batch) @ self.picks.T

    def gauss_newton_product(self, rows, batch):
        return self.whole.gauss_newton_product(rows @ self.picks, batch) @ self.picks.T


def problem(xp=np, *, kind=Softmax, **options):
    """Return an objective of 15 parameters, training data of 30 and test data of 7 samples."""
    objective, train = softmax_problem(xp=xp, **options)
    test = softmax_problem(n=7, seed=5, xp=xp, dtype=options.get("dtype", "float64"))[1]
    return kind(objective.weight, objective.bias), train, test


def dense_curvature(objective, train, *, mode="hessian", structure="full"):
    """Return the curvature of the mean loss, zero between blocks, (p, p)."""
    if mode == "empirical_fisher":
        rows = gradients(objective, train)
        matrix = rows.T @ rows / len(rows)
    else:
        matrix = dense_hessian(objective, train[0])
    if structure == "parameter_wise":
        sizes = [math.prod(shape) for shape in objective.parameters.values()]
        block = np.repeat(np.arange(len(sizes)), sizes)
        matrix = np.where(block[:, None] == block[None, :], matrix, 0)
    return matrix


def dense_factors(matrix, rows, *, damping):
    """Return (matrix + damping · I)⁻¹ times each row."""
    return np.linalg.solve(matrix + damping * np.eye(len(matrix)), rows.T).T
