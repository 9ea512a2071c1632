"""The model that the tests share has the derivatives that it claims."""

import numpy as np
import pytest
from oracle import gradients, perturbations, relative_error
from reference import SoftmaxRegression, dense_hessian, softmax_problem

ROUNDING = 1e-12
DIFFERENCES = 1e-8


def moved(objective, step):
    """Return the model at other parameters."""
    size = objective.weight.size
    weight = objective.weight + step[:size].reshape(objective.weight.shape)
    return SoftmaxRegression(weight, objective.bias + step[size:])


def differences(function, objective, *, step=1e-5):
    """Return central differences of a function of the model, one row a parameter."""
    directions = step * np.eye(objective.zeros(0).shape[1])
    forward = [function(moved(objective, direction)) for direction in directions]
    backward = [function(moved(objective, -direction)) for direction in directions]
    return (np.asarray(forward) - np.asarray(backward)) / (2 * step)


def test_gradients_are_the_differences_of_losses():
    objective, batch = softmax_problem()
    measured = differences(lambda model: model.losses(batch), objective).T
    assert relative_error(objective.gradients(batch), measured) < DIFFERENCES


def test_gradients_are_those_of_the_oracle(xp):
    objective, batch = softmax_problem(xp=xp)
    assert relative_error(objective.gradients(batch), gradients(objective, batch)) < ROUNDING


def test_the_dense_hessian_is_the_differences_of_the_mean_gradient():
    objective, batch = softmax_problem()
    measured = differences(lambda model: model.gradients(batch).mean(0), objective)
    assert relative_error(dense_hessian(objective, batch[0]), measured) < DIFFERENCES


def test_hessian_products_are_those_of_the_dense_hessian(xp):
    objective, batch = softmax_problem(xp=xp)
    rows = np.random.default_rng(1).standard_normal((4, 15))
    expected = rows @ dense_hessian(objective, batch[0])
    assert relative_error(objective.hessian_product(xp.asarray(rows), batch), expected) < ROUNDING


def test_input_gradients_are_those_of_the_complex_step(xp):
    objective, batch = softmax_problem(xp=xp)
    rows = np.random.default_rng(1).standard_normal((4, 15))
    expected = perturbations(rows, objective, batch)
    assert relative_error(objective.input_gradients(xp.asarray(rows), batch), expected) < ROUNDING


@pytest.mark.parametrize("k", [1, 4])
def test_inner_products_are_those_of_the_gradients(xp, k):
    objective, batch = softmax_problem(xp=xp)
    rows = np.random.default_rng(1).standard_normal((k, 15))
    expected = rows @ gradients(objective, batch).T
    assert relative_error(objective.inner_products(xp.asarray(rows), batch), expected) < ROUNDING
