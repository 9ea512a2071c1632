"""Every derivative of layered networks is the one worked out by hand, in NumPy and float64."""

import numpy as np
import pytest
import torch
from torch_oracles import LayeredNetwork
from torch_zoo import LINEAR, MLP

from upweight_torch import TorchObjective

RTOL = {torch.float64: 1e-11, torch.float32: 2e-4}
ROWS = [1, 3, 90]  # the last are more than the parameters


def assert_close(value, expected):
    assert tuple(value.shape) == expected.shape
    atol = RTOL[value.dtype] * np.abs(expected).max()
    np.testing.assert_allclose(value.numpy(), expected, rtol=0, atol=atol)


@pytest.fixture(params=[LINEAR, MLP], ids=str)
def case(request):
    return request.param


@pytest.fixture(params=[torch.float32, torch.float64], ids=str)
def dtype(request):
    return request.param


@pytest.fixture
def problem(case, dtype):
    """Return an objective, its batch, the oracle and the batch as NumPy float64."""
    model, (x, y) = case.model(dtype), case.batch(7, dtype)
    objective = TorchObjective(model, case.loss)
    return objective, (x, y), LayeredNetwork(model), (x.double().numpy(), y.numpy())


def rows_for(objective, k):
    some = objective.zeros(k)
    return torch.randn(some.shape, generator=torch.Generator().manual_seed(k)).to(some.dtype)


def test_losses(problem):
    objective, batch, oracle, arrays = problem
    assert_close(objective.losses(batch), oracle.losses(*arrays))


def test_gradients(problem):
    objective, batch, oracle, arrays = problem
    assert_close(objective.gradients(batch), oracle.gradients(*arrays))


@pytest.mark.parametrize("k", ROWS)
def test_inner_products(problem, k):
    objective, batch, oracle, arrays = problem
    rows = rows_for(objective, k)
    expected = rows.double().numpy() @ oracle.gradients(*arrays).T
    assert_close(objective.inner_products(rows, batch), expected)


@pytest.mark.parametrize("k", ROWS)
def test_hessian_product(problem, k):
    objective, batch, oracle, arrays = problem
    rows = rows_for(objective, k)
    expected = oracle.hessian_product(rows.double().numpy(), *arrays)
    assert_close(objective.hessian_product(rows, batch), expected)


def test_hessian(problem):
    objective, batch, oracle, arrays = problem
    assert_close(objective.hessian(batch), oracle.hessian(*arrays))


@pytest.mark.parametrize("k", ROWS)
def test_input_gradients(problem, k):
    objective, batch, oracle, arrays = problem
    rows = rows_for(objective, k)
    expected = oracle.input_gradients(rows.double().numpy(), *arrays)
    assert_close(objective.input_gradients(rows, batch), expected)


@pytest.mark.parametrize("n", [1, 2])
def test_a_batch_of_few_samples(case, n):
    model, (x, y) = case.model(), case.batch(n)
    value = TorchObjective(model, case.loss).gradients((x, y))
    assert_close(value, LayeredNetwork(model).gradients(x.numpy(), y.numpy()))


@pytest.mark.parametrize("method", ["hessian_product", "input_gradients", "inner_products"])
def test_products_are_the_same_with_little_working_memory(monkeypatch, case, method):
    batch = case.batch(7)
    objective = TorchObjective(case.model(), case.loss)
    rows = rows_for(objective, 5)
    whole = getattr(objective, method)(rows, batch)
    monkeypatch.setattr("upweight_torch.samples.WORKING_BYTES", {"cpu": 1})
    assert_close(getattr(objective, method)(rows, batch), whole.numpy())
