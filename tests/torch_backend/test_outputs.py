"""Second derivatives of losses in the output, whole and sampled, against closed forms."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from upweight.errors import MemoryLimitError, UnsupportedCurvatureError
from upweight_torch import TorchObjective


def softmax_hessians(logits):
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return np.stack([np.diag(row) - np.outer(row, row) for row in p])


def bernoulli_hessians(logits):
    p = 1 / (1 + np.exp(-logits))
    return np.stack([np.diag(row * (1 - row)) / len(row) for row in p])


LOSSES = {
    "cross-entropy": (functional.cross_entropy, nn.CrossEntropyLoss(), softmax_hessians),
    "squared error": (
        functional.mse_loss,
        nn.MSELoss(),
        lambda out: np.stack([2 / out.shape[1] * np.eye(out.shape[1])] * len(out)),
    ),
    "binary": (
        functional.binary_cross_entropy_with_logits,
        nn.BCEWithLogitsLoss(),
        bernoulli_hessians,
    ),
}


def output_problem(name, *, n=4):
    torch.manual_seed(0)
    x = torch.randn(n, 4, dtype=torch.float64)
    y = torch.rand(n, 3, dtype=torch.float64)
    return nn.Linear(4, 3).double(), (x, y.argmax(1) if name == "cross-entropy" else y)


@pytest.mark.parametrize("name", LOSSES)
def test_output_hessians_are_those_of_the_closed_form(name):
    model, batch = output_problem(name)
    function, _, closed = LOSSES[name]
    hessians = TorchObjective(model, function).output_hessians(batch)
    expected = closed(model(batch[0]).detach().numpy())
    np.testing.assert_allclose(hessians, expected, rtol=1e-12, atol=1e-14)


def second_moments(objective, batch, *, draws=4000):
    """Return the mean of u uᵀ over labels drawn again and again, (n, c, c)."""
    x, y = (value.repeat(draws, *[1] * (value.ndim - 1)) for value in batch)
    u = objective.sampled_directions((x, y), np.random.default_rng(0))
    u = u.reshape(draws, len(batch[0]), -1).numpy()
    return np.einsum("dni,dnj->nij", u, u) / draws


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("which", [0, 1])
def test_sampled_directions_have_the_output_hessian_as_second_moment(name, which):
    model, batch = output_problem(name)
    objective = TorchObjective(model, LOSSES[name][which])
    moment = second_moments(objective, batch)
    expected = LOSSES[name][2](model(batch[0]).detach().numpy())
    np.testing.assert_allclose(moment, expected, atol=5 * expected.max() / math.sqrt(4000))


def test_sampled_directions_count_only_the_positions_that_the_loss_counts():
    torch.manual_seed(0)
    model = nn.Conv1d(2, 3, 1).double()
    x, y = torch.randn(2, 2, 4, dtype=torch.float64), torch.tensor([[0, 1, -100, 2], [2, 2, 1, 0]])
    objective = TorchObjective(model, nn.CrossEntropyLoss())
    moment = second_moments(objective, (x, y))
    np.testing.assert_allclose(moment, objective.output_hessians((x, y)), atol=0.02)


@pytest.mark.parametrize("name", LOSSES)
def test_sampled_directions_do_not_depend_on_the_division_into_batches(name):
    model, (x, y) = output_problem(name, n=6)
    objective = TorchObjective(model, LOSSES[name][0])
    whole = objective.sampled_directions((x, y), np.random.default_rng(3))
    rng = np.random.default_rng(3)
    parts = [objective.sampled_directions((x[s], y[s]), rng) for s in (slice(0, 1), slice(1, 6))]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    "loss",
    [
        lambda out, y: 1.0 * functional.cross_entropy(out, y),
        nn.CrossEntropyLoss(weight=torch.ones(3, dtype=torch.float64)),
    ],
)
def test_labels_of_other_losses_cannot_be_drawn(loss):
    model, batch = output_problem("cross-entropy")
    with pytest.raises(UnsupportedCurvatureError, match="exact"):
        TorchObjective(model, loss).sampled_directions(batch, np.random.default_rng(0))


def test_hessians_that_no_memory_holds_are_refused_and_labels_are_drawn_all_the_same():
    model = nn.Linear(1, 100_000)
    batch = torch.ones(1, 1), torch.zeros(1, dtype=torch.int64)
    objective = TorchObjective(model, functional.cross_entropy)
    with pytest.raises(MemoryLimitError, match=r"100,000 outputs.*37\.3 GiB.*sampled"):
        objective.output_hessians(batch)
    assert objective.sampled_directions(batch, np.random.default_rng(0)).shape == (1, 100_000)
