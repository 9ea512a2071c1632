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


def problem(xp=np, *, kind=Softmax, k=7, **options):
    """Return an objective of 15 parameters, training data of 30 and test data of k samples."""
    objective, train = softmax_problem(xp=xp, **options)
    test = softmax_problem(n=k, seed=5, xp=xp, dtype=options.get("dtype", "float64"))[1]
    return kind(objective.weight, objective.bias), train, test


def split(batch, sizes):
    """Split a batch into batches of the given sizes."""
    stops = np.cumsum(sizes).tolist()
    return [
        tuple(array[stop - size : stop, ...] for array in batch)
        for size, stop in zip(sizes, stops, strict=True)
    ]


def blocks_of(objective, structure):
    """Return the columns of each block of a structure, by name."""
    sizes = [math.prod(shape) for shape in objective.parameters.values()]
    stops = np.cumsum(sizes).tolist()
    if structure == "full":
        return {"full": np.arange(stops[-1])}
    return {
        name: np.arange(stop - size, stop)
        for name, size, stop in zip(objective.parameters, sizes, stops, strict=True)
    }


def dense_curvature(objective, train, *, mode="hessian", structure="full"):
    """Return the curvature of the mean loss in float64, zero between blocks, (p, p)."""
    if mode == "empirical_fisher":
        rows = gradients(objective, train)
        matrix = rows.T @ rows / len(rows)
    else:
        matrix = dense_hessian(objective, train[0])
    inside = np.zeros_like(matrix)
    for columns in blocks_of(objective, structure).values():
        inside[np.ix_(columns, columns)] = matrix[np.ix_(columns, columns)]
    return inside


def dense_factors(matrix, rows, *, damping):
    """Return (matrix + damping · I)⁻¹ times each row."""
    return np.linalg.solve(matrix + damping * np.eye(len(matrix)), rows.T).T


def exact_factors(objective, train, test, *, damping, **options):
    """Return the factors of the test samples with a curvature of the training data, (k, p)."""
    matrix = dense_curvature(objective, train, **options)
    return dense_factors(matrix, gradients(objective, test), damping=damping)
