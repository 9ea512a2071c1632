"""EK-FAC takes gradients by their factors, and stays within a memory that is known."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from layer_problems import F64, NETWORKS, basis_of, fitted, loss_gradients, problem
from torch import nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile
from torch_zoo import SelfAttention, network

from upweight import SequentialInfluenceCalculator
from upweight.errors import NonFiniteError
from upweight.linalg import gram, kronecker
from upweight.models import _layer_pairs
from upweight_torch import EkfacInfluence, TorchObjective, factored


class LongSequence(nn.Module):
    """A small layer at so many positions that gradients are formed before they are projected."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 3)

    def forward(self, x):
        return torch.tanh(self.a(x[:, None, :] * torch.arange(1, 9)[None, :, None])).mean(1)


def ekfac_problem(name):
    if name in NETWORKS:
        return problem(name)
    torch.manual_seed(0)
    return LongSequence().to(F64), problem()[1]


def dense_factors(influence, gradients, damping):
    """Return the factors by the dense inverse of what each block represents, in NumPy."""
    pieces, start = [], 0
    for curvature in influence._curvatures.values():
        basis = basis_of(curvature.eigen, bias=curvature.has_bias)
        values = curvature.eigen.eigenvalues.numpy().ravel()
        dense = (basis * values) @ basis.T + damping * np.eye(len(values))
        stop = start + len(values)
        pieces.append(np.linalg.solve(dense, gradients[:, start:stop].T).T)
        start = stop
    return np.concatenate(pieces, axis=1)


@pytest.mark.parametrize("numbers", [1, 60, None])
@pytest.mark.parametrize("name", [*NETWORKS, "long sequence"])
def test_factors_and_self_influences_are_those_of_the_dense_curvature(monkeypatch, name, numbers):
    if numbers is not None:
        monkeypatch.setattr(kronecker, "ROW_NUMBERS", numbers)
        monkeypatch.setattr(_layer_pairs, "FACTOR_NUMBERS", numbers)
        monkeypatch.setattr(gram, "NUMBERS", numbers)
    model, batch = ekfac_problem(name)
    influence = fitted(model, batch, damping="absolute", regularization=0.02)
    gradients = loss_gradients(model, functional.cross_entropy, batch)
    expected = dense_factors(influence, gradients, 0.02)
    found = influence.influence_factors(*batch)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9)
    by_block = influence.influence_factors_by_block(*batch)
    np.testing.assert_allclose(torch.cat([*by_block.values()], 1), expected, rtol=1e-8, atol=1e-9)
    own = influence.self_influences(*batch)
    np.testing.assert_allclose(own, (expected * gradients).sum(1), rtol=1e-8, atol=1e-9)
    assert len(by_block) == len(influence.block_names)
    pairs = influence.influences_from_pair_factors(influence.pair_factors(*batch), *batch)
    np.testing.assert_allclose(pairs, expected @ gradients.T, rtol=1e-8, atol=1e-9)
    few = tuple(part[:3] for part in batch)
    of_few = influence.influences(*few, *batch)
    np.testing.assert_allclose(of_few, expected[:3] @ gradients.T, rtol=1e-8, atol=1e-9)


def test_blocks_that_are_no_layer_take_part(monkeypatch):
    monkeypatch.setattr(_layer_pairs, "FACTOR_NUMBERS", 1)
    torch.manual_seed(0)
    model, x = SelfAttention().to(F64).eval(), torch.randn(6, 3, 4, dtype=F64)
    batch = x, torch.randint(0, 3, (6,))
    influence = fitted(model, batch)
    expected = influence.influences(*batch).diagonal()
    torch.testing.assert_close(influence.self_influences(*batch), expected)
    parts = influence.influence_factors_by_block(*batch)
    assert list(parts) == list(influence.block_names)
    whole = influence.solve(TorchObjective(model, functional.cross_entropy).gradients(batch))
    torch.testing.assert_close(influence.influence_factors(*batch), whole)
    torch.testing.assert_close(
        influence.influences(*batch), influence.influences_from_factors(whole, *batch)
    )


def test_self_influences_with_a_measurement_multiply_both_gradients():
    model, batch = problem()
    influence = fitted(model, batch, measurement=lambda out, y: out[:, 0].mean())
    expected = influence.influences(*batch).diagonal()
    torch.testing.assert_close(influence.self_influences(*batch), expected)


def test_no_gradient_is_formed(monkeypatch):
    model, batch = problem()
    influence = fitted(model, batch)

    def refused(*_):
        raise AssertionError("a gradient was formed")

    monkeypatch.setattr(TorchObjective, "gradients", refused)
    monkeypatch.setattr(TorchObjective, "_materialised", refused)
    influence.influence_factors(*batch)
    influence.influence_factors_by_block(*batch)
    influence.self_influences(*batch)
    influence.influences(*batch)


@pytest.mark.parametrize("method", ["influence_factors", "pair_factors", "self_influences"])
def test_gradients_that_are_not_finite_are_named(method):
    model, (x, y) = problem()
    influence = fitted(model, (x, y))
    x = x.clone()
    x[3] = torch.nan
    with pytest.raises(NonFiniteError, match=r"gradient.*\[3\]"):
        getattr(influence, method)(x, y)


WIDTHS = (64, 256, 128, 10)
PARAMETERS = sum((i + 1) * o for i, o in pairwise(WIDTHS))
ROWS, SAMPLES = 100, 64


def wide_problem(batches):
    torch.manual_seed(0)
    model = network(*WIDTHS, activation=nn.ReLU)
    data = [(torch.randn(SAMPLES, 64), torch.randint(10, (SAMPLES,))) for _ in range(batches)]
    influence = EkfacInfluence(model, functional.cross_entropy).fit(data[:2], progress=False)
    return influence, data


def peak_bytes(run):
    """Return how many bytes torch holds at most beyond what it held before."""
    run()  # what is done once
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        run()
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return int(max(np.cumsum([event.nbytes() for event in events])))


def test_influences_hold_a_batch_of_statistics_and_a_piece_at_most():
    influence, data = wide_problem(2)
    factors = torch.randn(ROWS, PARAMETERS)
    statistics = 4 * SAMPLES * sum(i + o for i, o in pairwise(WIDTHS))
    results = 4 * ROWS * SAMPLES
    peak = peak_bytes(lambda: influence.influences_from_factors(factors, *data[0]))
    assert peak <= 4 * factored.PIECE_NUMBERS["cpu"] + 4 * statistics + 4 * results
    assert peak < 4 * SAMPLES * PARAMETERS / 3  # a third of the gradients of the batch


@pytest.mark.parametrize("batches", [3, 12])
def test_the_memory_of_influences_does_not_grow_with_the_training_data(batches):
    influence, data = wide_problem(batches)
    calculator = SequentialInfluenceCalculator(influence, progress=False)
    factors = [torch.randn(ROWS, PARAMETERS)]

    def consume():
        for row in calculator.influences_from_factors(factors, data):
            for _ in row:
                pass

    assert peak_bytes(consume) < 4 * SAMPLES * PARAMETERS / 3
