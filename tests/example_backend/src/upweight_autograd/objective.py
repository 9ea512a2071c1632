from collections import namedtuple

import autograd.numpy as np
from autograd import grad, make_jvp, make_vjp

from upweight import LossError
from upweight.checks import batch_size

Model = namedtuple("Model", ["apply", "parameters"])  # called as apply(parameters, x)


class NumpyConverter:
    to_numpy = from_numpy = staticmethod(np.asarray)


class AutogradObjective:
    is_thread_safe = False  # autograd keeps its traces on one stack
    numpy_converter = NumpyConverter

    def __init__(self, model, loss, names=None):
        self._apply, self._loss = model.apply, loss
        self._values = {name: np.array(value) for name, value in model.parameters.items()}
        self.parameters = {name: self._values[name].shape for name in names or self._values}
        self._theta = np.concatenate([self._values[name].ravel() for name in self.parameters])
        self.dtype = self._theta.dtype

    def restrict(self, names):
        if unknown := set(names) - set(self.parameters):
            raise ValueError(f"No parameters {unknown}; there are {list(self.parameters)}.")
        return AutogradObjective(Model(self._apply, self._values), self._loss, names)

    def zeros(self, k):
        return np.zeros((k, self._theta.size), self.dtype)

    def losses(self, batch):
        losses = self._stack(self._mean(self._theta, *one) for one in single(batch))
        if abs(losses.mean() - self._mean(self._theta, *batch)) > 1e-3 * abs(losses.mean()):
            raise LossError("The loss of a batch must be the mean of the losses of its samples.")
        return losses

    def gradients(self, batch):
        return self._stack(grad(self._mean)(self._theta, *one) for one in single(batch))

    def inner_products(self, rows, batch):
        return rows @ self.gradients(batch).T

    def hessian_product(self, rows, batch):
        pull, _ = make_vjp(grad(self._mean))(self._theta, *batch)  # linearised once for all rows
        return self._stack(map(pull, rows))

    def gauss_newton_product(self, rows, batch):
        pull, outputs = make_vjp(self._outputs)(self._theta, batch[0])
        push = make_jvp(self._outputs)(self._theta, batch[0])
        curve, _ = make_vjp(grad(self._loss))(outputs, batch[1])
        return self._stack(pull(curve(push(row)[1])) for row in rows)

    def input_gradients(self, rows, batch):
        x, y = batch
        pull, _ = make_vjp(lambda x: grad(self._mean)(self._theta, x, y) * len(x))(x)
        return self._stack(map(pull, rows))

    def parameter_values(self):
        return self._values.items()

    def _outputs(self, theta, x):
        free, start = {}, 0
        for name, shape in self.parameters.items():
            end = start + int(np.prod(shape))
            free[name], start = theta[start:end].reshape(shape), end
        return self._apply({**self._values, **free}, x)

    def _mean(self, theta, x, y):
        return self._loss(self._outputs(theta, x), y)

    def _stack(self, results):
        return np.array(list(results), self.dtype)


def single(batch):
    n = batch_size(*batch)  # refuses what are no arrays of n samples
    return [tuple(array[i : i + 1] for array in batch) for i in range(n)]
