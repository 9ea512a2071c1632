"""Derivatives that share no code with the torch backend.

Of layered networks by hand, in NumPy: gradients by the chain rule, second derivatives by a complex
step, which is exact to rounding because nothing is subtracted. Of any other torch model by central
differences of its losses and gradients, sample by sample, as plain autograd gives them.
"""

import copy

import numpy as np
import torch
from torch.utils._pytree import tree_map

TINY = 1e-30
STEP = 2e-4
STEPS = (-2 * STEP, -STEP, STEP, 2 * STEP)


class LayeredNetwork:
    """Linear layers with tanh between them and the cross-entropy of the softmax of the last."""

    def __init__(self, module):
        values = [p.detach().numpy().astype(complex) for p in module.parameters()]
        self.shapes = [value.shape for value in values]
        self.theta = np.concatenate([value.ravel() for value in values])

    def losses(self, x, y):
        return self._losses(self.theta, x, y).real

    def gradients(self, x, y):
        return self._slopes(self.theta, x, y)[0].real

    def hessian_product(self, rows, x, y):
        moved = [self._slopes(self.theta + 1j * TINY * row, x, y)[0].imag / TINY for row in rows]
        return np.stack(moved).mean(1)

    def hessian(self, x, y):
        return self.hessian_product(np.eye(len(self.theta)), x, y)

    def input_gradients(self, rows, x, y):
        return np.stack(
            [self._slopes(self.theta + 1j * TINY * row, x, y)[1].imag / TINY for row in rows]
        )

    def _forward(self, theta, x):
        ends = np.cumsum([np.prod(shape, dtype=int) for shape in self.shapes])
        values = [
            v.reshape(s) for v, s in zip(np.split(theta, ends[:-1]), self.shapes, strict=True)
        ]
        layers = list(zip(values[::2], values[1::2], strict=True))
        inputs = [x]
        for weight, bias in layers[:-1]:
            inputs.append(np.tanh(inputs[-1] @ weight.T + bias))
        weight, bias = layers[-1]
        return layers, inputs, inputs[-1] @ weight.T + bias

    def _losses(self, theta, x, y):
        logits = self._forward(theta, x)[2]
        return np.log(np.exp(logits).sum(1)) - logits[np.arange(len(y)), y]

    def _slopes(self, theta, x, y):
        """Return the gradients of the losses in θ (n, p) and in x (n, d)."""
        layers, inputs, logits = self._forward(theta, x)
        slope = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        slope[np.arange(len(y)), y] -= 1
        pieces = []
        for index in reversed(range(len(layers))):
            weight, _ = layers[index]
            pieces += [slope, (slope[:, :, None] * inputs[index][:, None, :]).reshape(len(y), -1)]
            slope = slope @ weight
            if index > 0:
                slope = slope * (1 - inputs[index] ** 2)
        return np.concatenate(pieces[::-1], axis=1), slope


class Differences:
    """Central differences on a copy of a torch model in evaluation mode."""

    def __init__(self, module, loss):
        self._module = copy.deepcopy(module).eval()
        self._loss = loss
        self._free = [p for p in self._module.parameters() if p.requires_grad]

    def losses(self, batch):
        with torch.no_grad():
            return np.array([float(self._loss_of(one)) for one in samples(batch)])

    def inner_products(self, rows, batch):
        """Return the slopes of the losses along each row, (k, n)."""
        return np.stack([self._along(row, lambda: self.losses(batch)) for row in rows])

    def hessian_product(self, rows, batch):
        return np.stack([self._along(row, lambda: self._gradients(batch).mean(0)) for row in rows])

    def input_product(self, rows, batch, direction):
        """Return the inner products of each row and gradient, along a direction of x, (k, n)."""
        x, y = batch
        leaf = next(leaf for leaf in leaves(x) if leaf.is_floating_point())
        found = []
        for step in STEPS:
            moved = tree_map(lambda other: other + step * direction if other is leaf else other, x)  # noqa: B023
            found.append(rows @ self._gradients((moved, y)).T)
        return slope(found)

    def _gradients(self, batch):
        """Return the gradients of plain autograd, (n, p)."""
        rows = []
        for one in samples(batch):
            found = torch.autograd.grad(self._loss_of(one), self._free)
            rows.append(np.concatenate([value.numpy().ravel() for value in found]))
        return np.stack(rows)

    def _loss_of(self, one):
        x, y = tree_map(torch.clone, one)  # a model may change its input
        if isinstance(x, dict):
            return self._loss(self._module(**x), y)
        return self._loss(self._module(*x) if isinstance(x, tuple) else self._module(x), y)

    def _along(self, row, function):
        """Return the derivative of a function of the parameters along a direction."""
        before = torch.nn.utils.parameters_to_vector(self._free).detach().clone()
        found = []
        for step in (*STEPS, 0):
            moved = before + step * torch.as_tensor(row)
            torch.nn.utils.vector_to_parameters(moved, self._free)
            found.append(function())
        return slope(found)


def slope(values):
    """Return the derivative at zero from the values at the steps, to fourth order."""
    low2, low, high, high2, *_ = values
    return (low2 - 8 * low + 8 * high - high2) / (12 * STEP)


def leaves(x):
    return tuple(x.values()) if isinstance(x, dict) else x if isinstance(x, tuple) else (x,)


def samples(batch):
    """Return the samples of a batch, each as a batch of one."""
    n = len(leaves(batch[0])[0])
    return [tree_map(lambda leaf: leaf[[i]], batch) for i in range(n)]  # noqa: B023
