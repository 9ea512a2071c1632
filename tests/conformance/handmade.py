"""A backend in NumPy for the one network of the conformance kit, differentiated by hand.

Products with the Hessian are the derivative of the gradient along a vector, as in Pearlmutter,
"Fast Exact Multiplication by the Hessian", Neural Computation 6 (1994).
"""

import math

import numpy as np

from upweight import Backend, LossError, hookimpl
from upweight.checks import batch_size
from upweight.models import DirectInfluence
from upweight.protocols import LayerStatistics

#: The parameters in the order of the backend, which is not that of the kit.
SHAPES = {"head.bias": (3,), "head.weight": (3, 5), "hidden.weight": (5, 4), "hidden.bias": (5,)}


class Network:
    """The weights, and what a careless objective may leave with them."""

    def __init__(self, weights):
        self.weights = {name: np.array(weights[name]) for name in SHAPES}
        self.grad = None


def cross_entropy(output, y):
    return np.mean(np.log(np.exp(output).sum(1)) - output[np.arange(len(y)), y])


class Handmade:
    """The objective."""

    is_thread_safe = True

    def __init__(self, network, loss):
        self.model, self.loss = network, loss
        self.values = {name: value.copy() for name, value in network.weights.items()}
        self.parameters = dict(SHAPES)
        self.dtype = network.weights["head.bias"].dtype

    def restrict(self, names):
        if set(names) - set(self.parameters):
            raise ValueError(f"There are only {list(self.parameters)}.")
        other = type(self)(self.model, self.loss)
        other.parameters = {name: SHAPES[name] for name in names}
        return other

    def zeros(self, k):
        return np.zeros((k, sum(map(math.prod, self.parameters.values()))), self.dtype)

    def numpy_converter(self):
        return NumpyConverter()

    def parameter_values(self):
        return self.values.items()

    def losses(self, batch):
        batch_size(*batch)
        x, y = batch
        z = self.outputs(x)
        losses = np.log(np.exp(z).sum(1)) - z[np.arange(len(y)), y]
        if abs(self.loss(z, y) - losses.mean()) > 1e-3 * losses.mean():
            raise LossError("The loss is not the mean over the samples.")
        return losses

    def gradients(self, batch):
        return self.output_gradients(batch, self.slopes(*batch)[None])[0]

    def inner_products(self, rows, batch):
        return rows @ self.gradients(batch).T

    def hessian_product(self, rows, batch):
        return self.stacked(self.curved(row, *batch, self.slopes(*batch)) for row in rows)

    def gauss_newton_product(self, rows, batch):
        nothing = 0 * self.slopes(*batch)
        return self.stacked(self.curved(row, *batch, nothing) for row in rows)

    def input_gradients(self, rows, batch):
        x, y = batch
        return np.stack([self.moved(row, x, self.slopes(x, y))["x"] for row in rows])

    def output_gradients(self, batch, directions):
        x, _ = batch
        return np.stack([self.flat(self.outer(x, u), len(x)) for u in directions])

    def layers(self, batch, directions=None):
        x, y = batch
        u = self.slopes(x, y) if directions is None else directions
        a, below = self.hidden(x), self.below(x, u)
        pairs = {"hidden": (x, below), "head": (a, u)}
        return {
            name: LayerStatistics(
                f"{name}.weight", f"{name}.bias", inputs[:, None, :], gradients[..., None, :]
            )
            for name, (inputs, gradients) in pairs.items()
        }

    def output_hessians(self, batch):
        q = self.probabilities(batch[0])
        return q[:, :, None] * np.eye(3, dtype=q.dtype) - q[:, :, None] * q[:, None, :]

    def sampled_directions(self, batch, rng):
        q = self.probabilities(batch[0])
        labels = (q.cumsum(1) < rng.random((len(q), 1))).sum(1).clip(max=2)
        return q - np.eye(3, dtype=q.dtype)[labels]

    def hidden(self, x):
        return np.tanh(x @ self.values["hidden.weight"].T + self.values["hidden.bias"])

    def outputs(self, x):
        return self.hidden(x) @ self.values["head.weight"].T + self.values["head.bias"]

    def probabilities(self, x):
        e = np.exp(self.outputs(x))
        return e / e.sum(1, keepdims=True)

    def slopes(self, x, y):
        return self.probabilities(x) - np.eye(3, dtype=self.dtype)[y]

    def below(self, x, u):
        return (u @ self.values["head.weight"]) * (1 - self.hidden(x) ** 2)

    def outer(self, x, u):
        a, g = self.hidden(x), self.below(x, u)
        return {
            "hidden.weight": g[:, :, None] * x[:, None, :],
            "hidden.bias": g,
            "head.weight": u[:, :, None] * a[:, None, :],
            "head.bias": u,
        }

    def curved(self, row, x, y, slopes):
        """Return the mean derivative of the gradient along a row, where the loss has these slopes."""
        return self.flat(self.moved(row, x, slopes), len(x)).mean(0)

    def moved(self, row, x, slopes):
        """Return the derivative along a row of the gradients in the parameters and in x."""
        v = self.unflat(row)
        a, q = self.hidden(x), self.probabilities(x)
        first, second = self.values["hidden.weight"], self.values["head.weight"]
        ra = (x @ v["hidden.weight"].T + v["hidden.bias"]) * (1 - a**2)
        rz = ra @ second.T + a @ v["head.weight"].T + v["head.bias"]
        ru = q * (rz - (q * rz).sum(1, keepdims=True))
        g = self.below(x, slopes)
        rg = (ru @ second + slopes @ v["head.weight"]) * (1 - a**2)
        rg = rg - 2 * (slopes @ second) * a * ra
        return {
            "hidden.weight": rg[:, :, None] * x[:, None, :],
            "hidden.bias": rg,
            "head.weight": ru[:, :, None] * a[:, None, :] + slopes[:, :, None] * ra[:, None, :],
            "head.bias": ru,
            "x": rg @ first + g @ v["hidden.weight"],
        }

    def flat(self, pieces, n):
        return np.concatenate([pieces[name].reshape(n, -1) for name in self.parameters], axis=1)

    def unflat(self, row):
        sizes = [math.prod(shape) for shape in self.parameters.values()]
        pieces = np.split(row, np.cumsum(sizes)[:-1])
        named = {
            name: piece.reshape(SHAPES[name])
            for name, piece in zip(self.parameters, pieces, strict=True)
        }
        return {name: named.get(name, np.zeros(SHAPES[name], self.dtype)) for name in SHAPES}

    def stacked(self, rows):
        return np.stack([self.zeros(1)[0], *rows])[1:]


class NumpyConverter:
    def to_numpy(self, x):
        return np.asarray(x)

    def from_numpy(self, x):
        return np.asarray(x)


def concatenated(chunks):
    return np.concatenate(list(chunks))


def joined(rows):
    return np.concatenate([np.concatenate(list(row), axis=1) for row in rows])


class Plugin:
    """The plugin of a backend with this name."""

    def __init__(self, name="handmade", objective=Handmade, **changes):
        brought = {
            "converter": NumpyConverter,
            "aggregator": lambda: concatenated,
            "nested_aggregator": lambda: joined,
            "models": {"direct": lambda m, loss, **o: DirectInfluence(objective(m, loss), **o)},
            "capabilities": frozenset(
                {
                    "SupportsGaussNewton",
                    "SupportsLayers",
                    "SupportsOutputGradients",
                    "SupportsSaving",
                }
            ),
            "reference": lambda weights: (Network(weights), cross_entropy, tuple(SHAPES)),
        }
        self.backend = Backend(
            name=name,
            objective=objective,
            **{**brought, **changes},
        )

    @hookimpl
    def upweight_backend(self, name):
        return self.backend if name == self.backend.name else None

    @hookimpl
    def upweight_owner(self, model):
        return self.backend.name if isinstance(model, Network) else None
