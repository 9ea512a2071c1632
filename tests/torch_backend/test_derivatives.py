"""Every derivative of every kind of model is what differences of its losses and gradients say."""

import numpy as np
import pytest
import torch
from torch_oracles import Differences
from torch_zoo import ZOO

from upweight_torch import TorchObjective

ATOL = 1e-8  # of numbers around 1, by differences of fourth order
FLOAT32 = 1e-4
PERTURBED = [case for case in ZOO if case.name != "dict of tokens and mask"]


def assert_close(value, expected, atol=ATOL):
    np.testing.assert_allclose(value.numpy(), expected, rtol=0, atol=atol * np.abs(expected).max())


@pytest.fixture(params=ZOO, ids=str)
def problem(request):
    """Return an objective, its batch and the oracle."""
    model, batch = request.param.model(), request.param.batch(3)
    return TorchObjective(model, request.param.loss), batch, Differences(model, request.param.loss)


def rows_for(objective, k, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(objective.zeros(k).shape, generator=generator, dtype=torch.float64)
    return rows.to(dtype)


def test_losses(problem):
    objective, batch, oracle = problem
    assert_close(objective.losses(batch), oracle.losses(batch), atol=1e-12)


def test_gradients(problem):
    objective, batch, oracle = problem
    rows = rows_for(objective, 5)
    assert_close(rows @ objective.gradients(batch).T, oracle.inner_products(rows, batch))


@pytest.mark.parametrize("k", [2, 49])
def test_inner_products(problem, k):
    objective, batch, oracle = problem
    rows = rows_for(objective, k)
    assert_close(objective.inner_products(rows, batch)[:2], oracle.inner_products(rows[:2], batch))


def test_hessian_product(problem):
    objective, batch, oracle = problem
    rows = rows_for(objective, 2)
    assert_close(objective.hessian_product(rows, batch), oracle.hessian_product(rows, batch))


def test_hessian(problem):
    objective, batch, oracle = problem
    rows = rows_for(objective, 3)
    assert_close(rows @ objective.hessian(batch), oracle.hessian_product(rows, batch))


@pytest.mark.parametrize("case", PERTURBED, ids=str)
def test_input_gradients(case):
    model, batch = case.model(), case.batch(2)
    objective = TorchObjective(model, case.loss)
    rows = rows_for(objective, 2)
    value = objective.input_gradients(rows, batch)
    direction = torch.randn(value.shape[1:], generator=torch.Generator().manual_seed(1)).double()
    expected = Differences(model, case.loss).input_product(rows.numpy(), batch, direction)
    assert_close((value * direction).flatten(2).sum(2), expected)


@pytest.mark.parametrize("case", ZOO, ids=str)
def test_hessian_is_the_one_of_torch(case):
    model, (x, y) = case.model(), case.batch(3)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    values = [dict(model.named_parameters())[name].detach() for name in names]

    def mean_loss(*values):
        arguments = ((), x) if isinstance(x, dict) else (x if isinstance(x, tuple) else (x,), {})
        named = dict(zip(names, values, strict=True))
        return case.loss(torch.func.functional_call(model, named, *arguments), y)

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        blocks = torch.autograd.functional.hessian(mean_loss, tuple(values))
    expected = torch.cat(
        [
            torch.cat(
                [block.reshape(a.numel(), b.numel()) for block, b in zip(row, values, strict=True)],
                1,
            )
            for row, a in zip(blocks, values, strict=True)
        ]
    )
    assert_close(TorchObjective(model, case.loss).hessian((x, y)), expected.numpy(), atol=1e-11)


@pytest.mark.filterwarnings("ignore:.*batching rule for aten..mkldnn_rnn_layer:UserWarning")  # slow
@pytest.mark.parametrize("method", ["inner_products", "hessian_product"])
@pytest.mark.parametrize("case", ZOO, ids=str)
def test_float32_agrees_with_float64(case, method):
    results = []
    for dtype in (torch.float32, torch.float64):
        objective = TorchObjective(case.model().to(dtype), case.loss)
        rows = rows_for(objective, 3, dtype)
        results.append(getattr(objective, method)(rows, case.batch(5, dtype)))
    assert results[0].dtype == torch.float32
    assert_close(results[0], results[1].numpy(), atol=FLOAT32)
