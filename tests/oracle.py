"""Influences of softmax regression from closed forms, as NumPy float64: what the tests compare with."""

import numpy as np
from reference import dense_hessian

from upweight.trees import leaves

#: Relative errors that results may have, by the type of the numbers.
TOLERANCES = {"float64": 1e-9, "float32": 1e-4}


def numbers(objective, batch):
    """Return weights (c, d + 1), inputs with a column of ones (n, d + 1) and one-hot labels (n, c)."""
    weight, bias = np.asarray(objective.weight, float), np.asarray(objective.bias, float)
    columns = [np.asarray(leaf, float) for leaf in leaves(batch[0])]
    inputs = np.column_stack([*columns, np.ones(len(columns[0]))])
    return np.column_stack([weight, bias]), inputs, np.eye(len(bias))[np.asarray(batch[1])]


def slopes(weights, inputs, onehot):
    """Return the gradient of each loss in the logits, also for complex inputs, (n, c)."""
    exponentials = np.exp(inputs @ weights.T)
    return exponentials / exponentials.sum(1, keepdims=True) - onehot


def gradients(objective, batch):
    """Return the gradient of each loss in the parameters, (n, p)."""
    return _flat(slopes(*numbers(objective, batch)), numbers(objective, batch)[1])


def factors(objective, train, test, *, regularization):
    """Return the factors of the test samples, (k, p)."""
    hessian = dense_hessian(objective, train[0])
    damped = hessian + regularization * np.eye(len(hessian))
    return np.linalg.solve(damped, gradients(objective, test).T).T


def influences(objective, train, test, *, regularization):
    """Return the up-weighting influences of the training samples on the test samples, (k, n)."""
    return (
        factors(objective, train, test, regularization=regularization)
        @ gradients(objective, train).T
    )


def perturbations(rows, objective, batch):
    """Return ∇x ⟨row, ∇θ loss⟩ by a complex step in each coordinate of the input, (k, n, d)."""
    weights, inputs, onehot = numbers(objective, batch)
    step = 1e-30
    derivatives = []
    for coordinate in range(inputs.shape[1] - 1):
        moved = inputs.astype(complex)
        moved[:, coordinate] += step * 1j
        gradient = _flat(slopes(weights, moved, onehot), moved)
        derivatives.append(np.asarray(rows, float) @ gradient.imag.T / step)
    return np.stack(derivatives, axis=-1)


def relative_error(actual, expected):
    """Return the largest error as a multiple of the largest expected number."""
    expected = np.asarray(expected, float)
    actual = np.asarray(actual, float)
    assert actual.shape == expected.shape
    return np.abs(actual - expected).max() / np.abs(expected).max()


def _flat(slope, inputs):
    outer = slope[:, :, None] * inputs[:, None, :]
    return np.concatenate([outer[:, :, :-1].reshape(len(inputs), -1), outer[:, :, -1]], axis=1)
