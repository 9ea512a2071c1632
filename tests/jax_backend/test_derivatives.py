"""Every derivative of every kind of model is what the same network in NumPy has."""

import jax
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


def test_inner_products(problem):
    _, objective, batch, network = problem
    rows = rows_for(objective, 3)
    expected = rows @ network.gradients(*batch).T
    assert_close(objective.inner_products(rows, batch), expected, EXACT)


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


def test_output_gradients(problem):
    _, objective, batch, network = problem
    directions = np.random.default_rng(1).standard_normal((2, 3, 3))
    expected = np.einsum("dnc,ncp->dnp", directions, network.jacobians(batch[0]))
    assert_close(objective.output_gradients(batch, directions), expected, EXACT)


@pytest.mark.parametrize("k", [1, ROWS_AT_ONCE + 1, 2 * ROWS_AT_ONCE + 9, MOST_ROWS + 3])
@pytest.mark.parametrize("at_once", [1, 7, 10**6])
def test_any_number_of_rows_is_that_many_single_ones(k, at_once, monkeypatch):
    objective, batch = MLP.objective(), MLP.batch(5)
    monkeypatch.setattr(objective, "_capacity", lambda: at_once)
    rows = rows_for(objective, k)
    expected = rows @ MLP.network().gradients(*batch).T
    assert_close(objective.inner_products(rows, batch), expected, EXACT)


def test_no_rows_have_no_products():
    objective = MLP.objective()
    assert objective.hessian_product(objective.zeros(0), MLP.batch(2)).shape == (0, 73)


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_gradients_do_not_depend_on_how_many_are_taken_at_once(at_once, monkeypatch):
    objective, batch = MLP.objective(), MLP.batch(5)
    monkeypatch.setattr(objective, "_capacity", lambda: at_once)
    assert_close(objective.gradients(batch), MLP.network().gradients(*batch), EXACT)


@pytest.mark.parametrize("method", ["inner_products", "hessian_product", "gauss_newton_product"])
def test_one_sample_is_a_batch(method):
    objective, batch = MLP.objective(), MLP.batch(1)
    rows = rows_for(objective, 2)
    network = MLP.network()
    expected = {
        "inner_products": lambda: rows @ network.gradients(*batch).T,
        "hessian_product": lambda: network.hessian_product(rows, *batch),
        "gauss_newton_product": lambda: rows @ network.gauss_newton(*batch),
    }[method]()
    assert_close(getattr(objective, method)(rows, batch), expected, DIFFERENCES)


def test_jax_arrays_are_as_good_as_those_of_numpy():
    objective, batch = MLP.objective(), MLP.batch(3)
    jaxed = jax.tree.map(jax.numpy.asarray, batch)
    np.testing.assert_array_equal(objective.gradients(jaxed), objective.gradients(batch))


@pytest.mark.parametrize("case", [MLP, TOKENS], ids=str)
@pytest.mark.parametrize("method", ["inner_products", "hessian_product"])
def test_float32_agrees_with_float64(case, method):
    double, single = case.objective(), case.objective("float32")
    rows = rows_for(double, 3)
    expected = getattr(double, method)(rows, case.batch(4))
    value = getattr(single, method)(rows.astype("float32"), case.batch(4, "float32"))
    assert value.dtype == "float32"
    assert single.dtype == np.float32
    assert_close(value, np.asarray(expected), 1e-4)
