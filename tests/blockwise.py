"""Softmax regression whose parameters can be told apart, and its curvatures as dense NumPy."""

import numpy as np
import oracle
from curvatures import Softmax
from reference import dense_hessian, softmax_problem


def columns_of(objective, names):
    """Return where the parameters with these names are in the vector of all."""
    sizes = [np.prod(shape, dtype=int) for shape in objective.parameters.values()]
    ends = dict(zip(objective.parameters, np.cumsum(sizes), strict=True))
    sizes = dict(zip(objective.parameters, sizes, strict=True))
    return np.concatenate([np.arange(ends[name] - sizes[name], ends[name]) for name in names])


def problem(*, xp, n=100, k=7, dtype="float64"):
    """Return an objective, training data of n samples and test data of k samples."""
    plain, train = softmax_problem(n=n, dtype=dtype, xp=xp)
    test = softmax_problem(n=k, seed=5, dtype=dtype, xp=xp)[1]
    return Softmax(plain.weight, plain.bias), train, test


def split(batch, sizes):
    """Split a batch into batches of the given sizes."""
    x, y = batch
    stops = np.cumsum(sizes).tolist()
    return [
        (x[stop - size : stop, :], y[stop - size : stop])
        for size, stop in zip(sizes, stops, strict=True)
    ]


def blocks_of(objective, structure):
    """Return the columns of each block of a structure."""
    names = list(objective.parameters)
    if structure == "parameter_wise":
        return [columns_of(objective, [name]) for name in names]
    return [columns_of(objective, names)]


def dense_curvature(objective, train, mode):
    """Return a curvature of the mean loss in float64, (p, p)."""
    if mode == "empirical_fisher":
        gradients = oracle.gradients(objective, train)
        return gradients.T @ gradients / len(gradients)
    return dense_hessian(objective, train[0])


def dense_factors(objective, train, test, *, regularization, mode="hessian", structure="full"):
    """Return the factors of the test samples, blocks apart, from dense solves, (k, p)."""
    curvature = dense_curvature(objective, train, mode)
    rows = oracle.gradients(objective, test)
    factors = np.zeros_like(rows)
    for columns in blocks_of(objective, structure):
        damped = curvature[np.ix_(columns, columns)] + regularization * np.eye(len(columns))
        factors[:, columns] = np.linalg.solve(damped, rows[:, columns].T).T
    return factors
