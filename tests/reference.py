"""A small model with derivatives written by hand, on the arrays of any namespace."""

import math

import numpy as np
from array_api_compat import array_namespace

from upweight.trees import leaves, perturbed_leaf


class SoftmaxRegression:
    """Cross-entropy of softmax(W x + b): an objective that needs no framework.

    The input is an array (n, d), or several whose features are put side by side; integers count as
    numbers. The parameters are W (c, d) and b (c,).
    """

    is_thread_safe = True

    def __init__(self, weight, bias):
        self.xp = array_namespace(weight, bias)
        self.weight, self.bias = weight, bias
        self.parameters = {"weight": tuple(weight.shape), "bias": tuple(bias.shape)}
        self.dtype = np.dtype(str(weight.dtype).rpartition(".")[2])

    def restrict(self, names):
        raise NotImplementedError("The tests of core do not restrict this model.")

    def zeros(self, k):
        p = sum(map(math.prod, self.parameters.values()))
        return self.xp.zeros((k, p), dtype=self.weight.dtype)

    def losses(self, batch):
        x, y = batch
        z = self._inputs(x) @ self._joined().T
        return self.xp.log(self.xp.sum(self.xp.exp(z), axis=1)) - self.xp.sum(
            z * self._onehot(y), axis=1
        )

    def gradients(self, batch):
        x, y = batch
        return self._flat(self._slopes(x, y)[:, :, None] * self._inputs(x)[:, None, :])

    def inner_products(self, rows, batch):
        return rows @ self.gradients(batch).T

    def hessian_product(self, rows, batch):
        x, _ = batch
        inputs, probabilities = self._inputs(x), self._probabilities(x)
        moved = inputs[None, :, :] @ self.xp.matrix_transpose(self._shaped(rows))  # (k, n, c)
        curved = self._curve(probabilities, moved)
        return self._flat(self.xp.matrix_transpose(curved) @ inputs[None, :, :]) / inputs.shape[0]

    def input_gradients(self, rows, batch):
        x, y = batch
        shaped = self._shaped(rows)
        moved = self._inputs(x)[None, :, :] @ self.xp.matrix_transpose(shaped)
        curved = self._curve(self._probabilities(x), moved)
        gradient = self._slopes(x, y)[None, :, :] @ shaped + curved @ self._joined()
        varied = perturbed_leaf(x)
        place = next(i for i, leaf in enumerate(leaves(x)) if leaf is varied)
        start = sum(leaf.shape[1] for leaf in leaves(x)[:place])
        return gradient[:, :, start : start + varied.shape[1]]

    def _inputs(self, x):
        parts = [self.xp.astype(leaf, self.weight.dtype) for leaf in leaves(x)]
        ones = self.xp.ones((parts[0].shape[0], 1), dtype=self.weight.dtype)
        return self.xp.concat([*parts, ones], axis=1)

    def _joined(self):
        return self.xp.concat([self.weight, self.bias[:, None]], axis=1)

    def _probabilities(self, x):
        z = self.xp.exp(self._inputs(x) @ self._joined().T)
        return z / self.xp.sum(z, axis=1, keepdims=True)

    def _onehot(self, y):
        classes = self.xp.arange(self.bias.shape[0])
        return self.xp.astype(y[:, None] == classes[None, :], self.weight.dtype)

    def _slopes(self, x, y):
        return self._probabilities(x) - self._onehot(y)

    def _curve(self, probabilities, moved):
        mean = self.xp.sum(probabilities * moved, axis=-1, keepdims=True)
        return probabilities * (moved - mean)

    def _flat(self, shaped):
        k = shaped.shape[0]
        weight = self.xp.reshape(shaped[:, :, :-1], (k, -1))
        return self.xp.concat([weight, shaped[:, :, -1]], axis=1)

    def _shaped(self, rows):
        c, d = self.weight.shape
        weight = self.xp.reshape(rows[:, : c * d], (-1, c, d))
        return self.xp.concat([weight, rows[:, c * d :][:, :, None]], axis=2)


def softmax_problem(*, n=30, d=4, c=3, seed=0, dtype="float64", xp=np):
    """Return an objective and a batch `(x, y)` of n samples, as arrays of a namespace."""
    rng = np.random.default_rng(seed)
    weight, bias, x = (rng.standard_normal(shape).astype(dtype) for shape in ((c, d), c, (n, d)))
    y = rng.integers(0, c, n)
    objective = SoftmaxRegression(xp.asarray(weight), xp.asarray(bias))
    return objective, (xp.asarray(x), xp.asarray(y))


def dense_hessian(objective, x):
    """Return the Hessian of the mean loss from its closed form, as NumPy float64, (p, p)."""
    weight, bias = np.asarray(objective.weight, float), np.asarray(objective.bias, float)
    inputs = np.column_stack(
        [*(np.asarray(leaf, float) for leaf in leaves(x)), np.ones(leaves(x)[0].shape[0])]
    )
    logits = inputs @ np.column_stack([weight, bias]).T
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    (c, d), n = weight.shape, len(inputs)
    hessian = np.zeros((c, d + 1, c, d + 1))
    for p, a in zip(probabilities, inputs, strict=True):
        hessian += np.einsum("ik,j,l->ijkl", np.diag(p) - np.outer(p, p), a, a) / n
    order = [i * (d + 1) + j for i in range(c) for j in range(d)]
    order += [i * (d + 1) + d for i in range(c)]
    return hessian.reshape(c * (d + 1), -1)[np.ix_(order, order)]
