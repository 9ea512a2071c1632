"""Influence predicts what leaving a sample out and training again does to the test loss."""

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from torch.nn.functional import cross_entropy

from upweight_torch import CgInfluence, DirectInfluence

N, LEFT_OUT = 450, 100

#: Large enough that leaving out one sample is a small change: with 0.01 the correlation is 0.987.
PENALTY = 0.05


def breast_cancer():
    """Return scaled inputs with a last column of ones, and labels."""
    x, y = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order], y[order]
    return np.column_stack([(x - x.mean(axis=0)) / x.std(axis=0), np.ones(len(x))]), y


def trained(x, y, weights, theta):
    """Minimise Σ wᵢ ℓᵢ + ½ PENALTY ‖θ‖² of softmax regression by Newton's method, θ (2, d)."""
    for _ in range(50):
        probability = softmax(x @ theta.T)
        slopes = (probability - np.eye(2)[y]) * weights[:, None]
        gradient = slopes.T @ x + PENALTY * theta
        spread = probability[:, 0] * probability[:, 1] * weights
        block = (x * spread[:, None]).T @ x
        hessian = np.block([[block, -block], [-block, block]]) + PENALTY * np.eye(theta.size)
        step = np.linalg.solve(hessian, gradient.ravel()).reshape(theta.shape)
        theta = theta - step
        if np.abs(step).max() < 1e-12:
            return theta
    raise AssertionError("Newton's method has not converged.")


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def mean_loss(x, y, theta):
    return -np.mean(np.log(softmax(x @ theta.T)[np.arange(len(y)), y]))


def actual_changes(x, y, theta):
    """Return how the test loss changes as each of the first samples is left out."""
    before = mean_loss(x[N:], y[N:], theta)
    changes = []
    for left_out in range(LEFT_OUT):
        weights = np.full(N, 1 / N)
        weights[left_out] = 0
        changes.append(mean_loss(x[N:], y[N:], trained(x[:N], y[:N], weights, theta)) - before)
    return np.array(changes)


def predicted_changes(method, x, y, theta, **options):
    network = torch.nn.Linear(x.shape[1], 2, bias=False, dtype=torch.float64)
    with torch.no_grad():
        network.weight.copy_(torch.from_numpy(theta))
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y)
    train = inputs[:N], labels[:N]
    model = method(network, cross_entropy, regularization=PENALTY, **options).fit([train])
    some = inputs[:LEFT_OUT], labels[:LEFT_OUT]
    return model.influences(inputs[N:], labels[N:], *some).mean(dim=0).numpy() / N


def test_leaving_samples_out_changes_the_test_loss_as_predicted():
    x, y = breast_cancer()
    theta = trained(x[:N], y[:N], np.full(N, 1 / N), np.zeros((2, x.shape[1])))
    actual = actual_changes(x, y, theta)
    for method, options in ((DirectInfluence, {}), (CgInfluence, {"rtol": 1e-8})):
        predicted = predicted_changes(method, x, y, theta, **options)
        assert np.corrcoef(predicted, actual)[0, 1] > 0.99
        slope = predicted @ actual / (predicted @ predicted)
        assert 0.8 < slope < 1.3  # right in sign and scale, up to the second order
