"""Pair factors through both calculators: the same influences, held in fewer numbers."""

import dask.array as da
import numpy as np
import pytest
import torch
from torch_backend.test_gram import close, fitted, in_batches
from torch_zoo import network

from upweight import (
    DaskInfluenceCalculator,
    DisableClientSingleThreadCheck,
    SequentialInfluenceCalculator,
)
from upweight_torch import GramInfluence, NestedTorchCatAggregator, TorchNumpyConverter


@pytest.fixture(scope="module")
def problem():
    torch.manual_seed(0)
    model = network(6, 12, 10, 3).double()
    random = torch.Generator().manual_seed(0)

    def batch(n):
        x = torch.randn(n, 6, generator=random, dtype=torch.float64)
        return x, torch.randint(0, 3, (n,), generator=random)

    train, test = batch(11), batch(7)
    influence = fitted(model, train, directions=1)
    factors = influence.influence_factors(*test)
    return influence, train, test, influence.influences_from_factors(factors, *train)


@pytest.fixture
def primal(monkeypatch):
    """Return the shapes of the influence factors that were asked for."""
    seen = []
    solve = GramInfluence.influence_factors

    def noted(self, x, y):
        factors = solve(self, x, y)
        seen.append(tuple(factors.shape))
        return factors

    monkeypatch.setattr(GramInfluence, "influence_factors", noted)
    return seen


def test_they_are_small(problem):
    influence, _, test, _ = problem
    assert influence.pair_width == 11 + sum((7 + 12, 13 + 10, 11 + 3))
    assert influence.pair_width < influence.n_parameters / 2
    assert influence.pair_factors(*test).shape == (7, influence.pair_width)


@pytest.mark.parametrize("max_memory", [1, "1 GiB"])
def test_sequentially(problem, primal, max_memory):
    influence, train, test, expected = problem
    calculator = SequentialInfluenceCalculator(influence, max_memory=max_memory)
    lazy = calculator.influences(in_batches(test, 3), in_batches(train, 4))
    close(lazy.compute(NestedTorchCatAggregator()), expected)
    assert primal == []
    close(influence.influences(*test, *train), expected)
    assert primal == []


@pytest.mark.parametrize("max_memory", [1, "1 GiB"])
def test_on_dask(problem, primal, max_memory):
    influence, train, test, expected = problem
    calculator = DaskInfluenceCalculator(
        influence, TorchNumpyConverter(), DisableClientSingleThreadCheck, max_memory=max_memory
    )
    arrays = [da.from_array(part.numpy(), chunks=(3, -1)[: part.ndim]) for part in (*test, *train)]
    values = calculator.influences(*arrays)
    close(values.compute(scheduler="threads"), expected)
    assert primal == []
    factors = calculator.influence_factors(*arrays[:2])
    assert factors.shape == (7, influence.n_parameters)
    close(
        calculator.influences_from_factors(factors, *arrays[2:]).compute(scheduler="sync"), expected
    )


def test_perturbations_need_influence_factors(problem, primal):
    influence, train, test, _ = problem
    calculator = SequentialInfluenceCalculator(influence)
    lazy = calculator.influences([test], [train], mode="perturbation")
    ((values,),) = lazy.compute()
    close(values, influence.influences(*test, *train, mode="perturbation"))
    assert set(primal) == {(7, influence.n_parameters)}
    assert np.asarray(values).shape == (7, 11, 6)
