"""Exact influences of the digits networks in float64, by none of the libraries that are measured.

The Hessian is torch's own. Everything else is NumPy and SciPy: with the inputs \\(a_i\\) of a layer and what
reaches its outputs \\(d_i\\), gradients are \\(d_i a_i^\\top\\), and their products over all layers
the sums of \\((A A^\\top) \\circ (D D^\\top)\\). So no gradient of a large network is formed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from digits import TRAIN, Problem
from scipy.linalg import cho_factor, cho_solve
from torch.nn.functional import cross_entropy

#: Relative residual of the solves by conjugate gradients.
RTOL = 1e-8


@dataclass(frozen=True)
class Vectors:
    """Vectors as long as the parameters: layer for layer, \\(d_i a_i^\\top\\).

    Attributes:
        inputs: Inputs of each layer with a column of ones for the bias, (n, i + 1).
        reached: What reaches the outputs of each layer, (n, o).
    """

    inputs: Sequence[np.ndarray]
    reached: Sequence[np.ndarray]

    def products(self, others: "Vectors") -> np.ndarray:
        """Return the inner products with other vectors, (n, m)."""
        layers = zip(self.inputs, self.reached, others.inputs, others.reached, strict=True)
        return sum((a @ b.T) * (d @ e.T) for a, d, b, e in layers)

    def squared_norms(self) -> np.ndarray:
        """Return the inner product of each vector with itself, (n,)."""
        layers = zip(self.inputs, self.reached, strict=True)
        return sum((a**2).sum(axis=1) * (d**2).sum(axis=1) for a, d in layers)


def loss_gradients(problem: Problem, start: int, stop: int) -> Vectors:
    """Return the gradients of the cross-entropy of single samples."""
    inputs, slopes, p = _forward(problem, start, stop)
    errors = p - np.eye(p.shape[1])[problem.y[start:stop].numpy()]
    return _backward(problem, inputs, slopes, errors, np.arange(len(p)))


def gauss_newton_directions(problem: Problem) -> Vectors:
    """Return b with the sum of all b bᵀ, over n, the Gauss-Newton matrix of the training samples.

    They are Jᵀ times the eigenvectors of the Hessian of the loss in the output, diag(p) - p pᵀ,
    times the roots of the eigenvalues.
    """
    inputs, slopes, p = _forward(problem, 0, TRAIN)
    hessians = p[:, :, None] * np.eye(p.shape[1]) - p[:, :, None] * p[:, None, :]
    values, vectors = np.linalg.eigh(hessians)
    scaled = np.sqrt(np.maximum(values, 0))[:, :, None] * np.swapaxes(vectors, 1, 2)
    # One of the eigenvalues is zero for each sample: a common shift of the outputs changes nothing.
    scaled, samples = (
        scaled[:, 1:].reshape(-1, p.shape[1]),
        np.repeat(np.arange(len(p)), p.shape[1] - 1),
    )
    return _backward(problem, inputs, slopes, scaled, samples)


def gauss_newton_influences(
    problem: Problem, *, rows: int, columns: int, dampings: Sequence[float]
) -> list[np.ndarray]:
    """Return the influences with the damped Gauss-Newton matrix for each damping, (rows, columns).

    By Woodbury: with B the directions as rows, (BᵀB / n + λI)⁻¹ = (I - Bᵀ (BBᵀ + nλI)⁻¹ B) / λ.
    """
    directions = gauss_newton_directions(problem)
    test = loss_gradients(problem, TRAIN, TRAIN + rows)
    train = loss_gradients(problem, 0, columns)
    gram = directions.products(directions)
    left, right = directions.products(test), directions.products(train)
    plain, influences = test.products(train), []
    for damping in dampings:
        damped = gram + TRAIN * damping * np.eye(len(gram))
        solved = cho_solve(cho_factor(damped, overwrite_a=True), left)
        influences.append((plain - solved.T @ right) / damping)
    return influences


def harmonic_influences(problem: Problem, *, rows: int, columns: int, damping: float) -> np.ndarray:
    """Return the influences with the mean of (g gᵀ + λI)⁻¹ over the training gradients g."""
    test = loss_gradients(problem, TRAIN, TRAIN + rows)
    train, all_train = loss_gradients(problem, 0, columns), loss_gradients(problem, 0, TRAIN)
    weights = test.products(all_train) / (damping + all_train.squared_norms())
    return (test.products(train) - weights @ all_train.products(train) / TRAIN) / damping


def hessian_influences(problem: Problem, *, rows: int, columns: int, damping: float) -> np.ndarray:
    """Return the influences with the damped Hessian: dense if that is small, else by its products."""
    gradient, point, x, y = _gradient(problem)
    of_samples = torch.func.vmap(gradient, in_dims=(None, 0, 0))

    def gradients(start: int, stop: int) -> np.ndarray:
        return of_samples(point, x[start:stop, None], y[start:stop, None]).numpy()

    def products(rows: np.ndarray) -> np.ndarray:
        pull = torch.func.vjp(lambda at: gradient(at, x[:TRAIN], y[:TRAIN]), point)[1]
        pulled = np.stack([pull(row, retain_graph=True)[0].numpy() for row in torch.tensor(rows)])
        return pulled + damping * rows

    test = gradients(TRAIN, TRAIN + rows)
    if len(point) < 5000:
        hessian = torch.func.jacrev(gradient, chunk_size=64)(point, x[:TRAIN], y[:TRAIN]).numpy()
        factors = np.linalg.solve(hessian + damping * np.eye(len(point)), test.T).T
    else:
        factors = _conjugate_gradients(products, test)
    return factors @ gradients(0, columns).T


def _gradient(problem: Problem):
    """Return the gradient of the mean loss as a function of flat parameters, x and y in float64."""
    shapes = {name: value.shape for name, value in problem.model.named_parameters()}
    point = torch.nn.utils.parameters_to_vector(problem.model.parameters()).detach().double()

    def loss(flat: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        pieces = flat.split([shape.numel() for shape in shapes.values()])
        parameters = {
            name: piece.reshape(shape)
            for (name, shape), piece in zip(shapes.items(), pieces, strict=True)
        }
        return cross_entropy(torch.func.functional_call(problem.model, parameters, (x,)), y)

    return torch.func.grad(loss), point, problem.x.double(), problem.y


def _conjugate_gradients(products, b: np.ndarray) -> np.ndarray:
    """Solve for each row, all in step, until the last residual is small."""
    x, r, p = np.zeros_like(b), b, b
    squares = (r**2).sum(axis=1, keepdims=True)
    while (np.linalg.norm(r, axis=1) > RTOL * np.linalg.norm(b, axis=1)).any():
        ap = products(p)
        step = squares / (p * ap).sum(axis=1, keepdims=True)
        x, r = x + step * p, r - step * ap
        before, squares = squares, (r**2).sum(axis=1, keepdims=True)
        p = r + squares / before * p
    return x


def _forward(problem: Problem, start: int, stop: int):
    """Return the inputs of the linear layers, the slopes between them, and the probabilities."""
    out = problem.x[start:stop].double().numpy()
    inputs, slopes = [], []
    for layer in problem.model:
        if isinstance(layer, torch.nn.Linear):
            inputs.append(np.hstack([out, np.ones((len(out), 1))]))
            out = inputs[-1] @ _weights(layer).T
        elif isinstance(layer, torch.nn.Tanh):
            out = np.tanh(out)
            slopes.append(1 - out**2)
        else:
            slopes.append((out > 0).astype(float))
            out = np.maximum(out, 0)
    exponentials = np.exp(out - out.max(axis=1, keepdims=True))
    return inputs, slopes, exponentials / exponentials.sum(axis=1, keepdims=True)


def _backward(problem: Problem, inputs, slopes, reached: np.ndarray, samples: np.ndarray):
    """Take directions of the output back, each of one sample, to the outputs of all layers."""
    layers = [layer for layer in problem.model if isinstance(layer, torch.nn.Linear)]
    back = [reached]
    for layer, slope in zip(layers[:0:-1], slopes[::-1], strict=True):
        back.insert(0, back[0] @ _weights(layer)[:, :-1] * slope[samples])
    return Vectors([a[samples] for a in inputs], back)


def _weights(layer: torch.nn.Linear) -> np.ndarray:
    """Return weight and bias side by side, (o, i + 1)."""
    both = torch.hstack([layer.weight, layer.bias[:, None]])
    return both.detach().double().numpy()
