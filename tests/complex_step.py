"""Derivatives of networks that are written in NumPy, without any framework.

First derivatives come from a complex step, which is exact to rounding because nothing is
subtracted; second ones from differences, of fourth order, of first ones.
"""

import numpy as np

TINY = 1e-30
STEP = 3e-4


def cross_entropy(logits, y):
    """Return the loss of each sample, also for complex logits, (n,)."""
    return np.log(np.exp(logits).sum(1)) - logits[np.arange(len(y)), y]


class SteppedNetwork:
    """A network `forward(parameters, x)` on NumPy arrays that may be complex.

    Args:
        forward: From parameters by name and inputs to outputs (n, c).
        parameters: Arrays by name, in the order of the vector.
        loss: From outputs and labels to the loss of each sample.
    """

    def __init__(self, forward, parameters, loss=cross_entropy):
        self.forward, self.loss = forward, loss
        self.shapes = {name: np.shape(value) for name, value in parameters.items()}
        self.theta = np.concatenate([np.ravel(value) for value in parameters.values()]).astype(
            float
        )

    def losses(self, x, y):
        return self._losses(self.theta, x, y)

    def gradients(self, x, y):
        """Return the gradient of each loss in θ, (n, p)."""
        return self._in_theta(self.theta, lambda theta: self._losses(theta, x, y))

    def hessian_product(self, rows, x, y):
        def mean_gradient(theta):
            return self._in_theta(theta, lambda theta: self._losses(theta, x, y)).mean(0)

        return np.stack([self._along(row, mean_gradient) for row in rows])

    def input_gradients(self, rows, x, y):
        """Return ∇x ⟨row, ∇θ loss⟩ as differences along rows of slopes in x, (k, n, *x)."""

        def slopes(theta):
            found = np.zeros(x.shape)
            for place in np.ndindex(x.shape[1:]):
                moved = x.astype(complex)
                moved[(slice(None), *place)] += 1j * TINY
                found[(slice(None), *place)] = self._losses(theta, moved, y).imag / TINY
            return found

        return np.stack([self._along(row, slopes) for row in rows])

    def jacobians(self, x):
        """Return the Jacobian of the outputs in θ, (n, c, p)."""
        return self._in_theta(self.theta, lambda theta: self._outputs(theta, x))

    def output_hessians(self, x, y):
        """Return the Hessian of each loss in the outputs, (n, c, c)."""
        outputs = self._outputs(self.theta, x)
        unit = np.eye(outputs.shape[1])

        def slopes(outputs):
            moved = [self.loss(outputs + 1j * TINY * row, y).imag / TINY for row in unit]
            return np.stack(moved, axis=1)

        return np.stack([along(row, slopes, outputs) for row in unit], axis=1)

    def curvature_vectors(self, x, y, *, directions=None):
        """Return Jᵀu for the scaled eigenvectors u of the output Hessians, (n, d, p)."""
        values, vectors = np.linalg.eigh(self.output_hessians(x, y))
        roots = vectors * np.sqrt(np.clip(values, 0, None))[:, None, :]
        chosen = roots[:, :, -(directions or roots.shape[2]) :]
        return np.einsum("ncd,ncp->ndp", chosen, self.jacobians(x))

    def gauss_newton(self, x, y):
        """Return the Gauss-Newton matrix of the mean loss, (p, p)."""
        J = self.jacobians(x)
        return np.einsum("nap,nab,nbq->pq", J, self.output_hessians(x, y), J) / len(J)

    def _outputs(self, theta, x):
        ends = np.cumsum([int(np.prod(shape)) for shape in self.shapes.values()])[:-1]
        named = zip(self.shapes.items(), np.split(theta, ends), strict=True)
        return self.forward({name: part.reshape(shape) for (name, shape), part in named}, x)

    def _losses(self, theta, x, y):
        return self.loss(self._outputs(theta, x), y)

    def _in_theta(self, theta, function):
        unit = np.eye(len(theta))
        return np.stack([function(theta + 1j * TINY * e).imag / TINY for e in unit], axis=-1)

    def _along(self, row, function):
        return along(row, function, self.theta)


def along(row, function, at):
    """Return the derivative of a function along a direction, to fourth order."""
    low2, low, high, high2 = (function(at + step * STEP * row) for step in (-2, -1, 1, 2))
    return (low2 - 8 * low + 8 * high - high2) / (12 * STEP)


def influences(curvature, test, train, *, damping):
    """Return influences for a dense curvature (p, p) of gradients (k, p) and (n, p), (k, n)."""
    return test @ np.linalg.solve(curvature + damping * np.eye(len(curvature)), train.T)
