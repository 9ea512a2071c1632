"""Derivatives of every kind of model are those of the same network in NumPy.

The conformance kit has all of them, for a network of layers.
"""

import numpy as np
import pytest
from jax_zoo import MLP, PAIR, TOKENS, ZOO

from upweight_jax.capacity import MOST_ROWS, ROWS_AT_ONCE

EXACT = 1e-12
DIFFERENCES = 1e-9


def assert_close(value, expected, rtol):
    value = np.asarray(value)
    assert value.shape == expected.shape
    np.testing.assert_allclose(value, expected, rtol=0, atol=rtol * np.abs(expected).max())


@pytest.fixture(scope="module", params=ZOO, ids=str)
def problem(request):
    """Return an objective, its batch and the oracle."""
    case = request.param
    return case, case.objective(), case.batch(3), case.network()


def rows_for(objective, k, seed=0):
    return np.random.default_rng(seed).standard_normal(objective.zeros(k).shape)


def test_losses(problem):
    _, objective, batch, network = problem
    assert_close(objective.losses(batch), network.losses(*batch), EXACT)


def test_gradients(problem):
    _, objective, batch, network = problem
    assert_close(objective.gradients(batch), network.gradients(*batch), EXACT)


def test_hessian_product(problem):
    _, objective, batch, network = problem
    rows = rows_for(objective, 3)
    expected = network.hessian_product(rows, *batch)
    assert_close(objective.hessian_product(rows, batch), expected, DIFFERENCES)


def test_gauss_newton_product(problem):
    _, objective, batch, network = problem
    rows = rows_for(objective, 3)
    expected = rows @ network.gauss_newton(*batch)
    assert_close(objective.gauss_newton_product(rows, batch), expected, DIFFERENCES)


def test_input_gradients(problem):
    case, objective, batch, network = problem
    if case in (TOKENS, PAIR):
        pytest.skip("its input is not one array of real numbers")
    rows = rows_for(objective, 3)
    expected = network.input_gradients(rows, *batch)
    assert_close(objective.input_gradients(rows, batch), expected, DIFFERENCES)


def test_the_floating_point_input_of_several_is_the_one_that_is_varied():
    objective, ((tokens, features), y) = PAIR.objective(), PAIR.batch(3)
    network = PAIR.network()
    forward = network.forward
    network.forward = lambda p, x: forward(p, (tokens, x))
    rows = rows_for(objective, 2)
    expected = network.input_gradients(rows, features, y)
    value = objective.input_gradients(rows, ((tokens, features), y))
    assert_close(value, expected, DIFFERENCES)


@pytest.mark.parametrize(
    ("k", "at_once"),
    [(1, 10**6), (ROWS_AT_ONCE + 1, 7), (2 * ROWS_AT_ONCE + 9, 10**6), (MOST_ROWS + 3, 40)],
)
def test_any_number_of_rows_is_that_many_single_ones(k, at_once, monkeypatch):
    objective, batch = MLP.objective(), MLP.batch(5)
    monkeypatch.setattr(objective, "_capacity", lambda: at_once)
    rows = rows_for(objective, k)
    expected = rows @ MLP.network().gradients(*batch).T
    assert_close(objective.inner_products(rows, batch), expected, EXACT)


def test_no_rows_have_no_products():
    objective = MLP.objective()
    assert objective.hessian_product(objective.zeros(0), MLP.batch(2)).shape == (0, 73)


def test_gradients_do_not_depend_on_how_many_are_taken_at_once(monkeypatch):
    objective, batch = MLP.objective(), MLP.batch(5)
    monkeypatch.setattr(objective, "_capacity", lambda: 2)
    assert_close(objective.gradients(batch), MLP.network().gradients(*batch), EXACT)


@pytest.mark.parametrize("method", ["inner_products", "hessian_product"])
def test_single_precision_is_as_exact_as_it_can_be(method):
    network, batch, objective = TOKENS.network(), TOKENS.batch(4), TOKENS.objective("float32")
    rows = rows_for(objective, 3)
    expected = {
        "inner_products": lambda: rows @ network.gradients(*batch).T,
        "hessian_product": lambda: network.hessian_product(rows, *batch),
    }[method]()
    value = getattr(objective, method)(rows.astype("float32"), TOKENS.batch(4, "float32"))
    assert value.dtype == objective.dtype == np.float32
    assert_close(value, expected, 1e-4)
