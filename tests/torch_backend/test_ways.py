"""All ways to gradients of samples and their products with rows give the same numbers."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch_zoo import CONVOLUTION, MLP, ZOO, Case, case, network, normal

from upweight_torch import TorchObjective, factored, samples
from upweight_torch.costs import Way

FLOAT32 = 1e-4
FLOAT64 = 1e-10


class AlongSequence(nn.Module):
    """The same layers at every position of a sequence, wide ones among them."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 9), nn.Linear(9, 2)
        self.head = nn.Linear(2, 3)

    def forward(self, x):
        return self.head(self.second(self.first(x).tanh()).tanh().mean(1))


SEQUENCE = Case("sequence", AlongSequence, normal(4, 2))
WIDE = Case("wide", lambda: network(3, 20, 2, 3), normal(3))
STRIDED = Case(
    "two convolutions",
    lambda: nn.Sequential(
        nn.Conv2d(1, 3, 3, stride=2, bias=False), nn.Tanh(), nn.Conv2d(3, 2, 2), nn.Flatten()
    ),
    normal(1, 7, 7),
    lambda rng, n: rng.integers(0, 8, n),
)
CASES = [*ZOO, SEQUENCE, WIDE, STRIDED]


def rows_for(objective, k, dtype=torch.float64):
    rows = np.random.default_rng(0).standard_normal(objective.zeros(k).shape)
    return torch.as_tensor(rows, dtype=dtype)


def by_every_way(objective, rows, batch):
    """Return the products of rows with the gradients of a batch by each way."""
    x, y = objective._prepared(batch)
    covered = objective._covered(x)
    ways = [way for way in Way if covered or way is not Way.FACTORED]
    return {way: objective._products(way, rows, x, y) for way in ways}


def assert_all_close(found, expected, tolerance):
    scale = float(expected.abs().max())
    for way, values in found.items():
        error = float((values - expected).abs().max())
        assert error <= tolerance * scale, f"{way}: {error}"


def plain_gradients(case, model, batch):
    """Return the gradients (n, p) of plain autograd, sample by sample."""
    x, y = batch
    free = [value for value in model.parameters() if value.requires_grad]
    rows = []
    for i in range(len(leaf_of(y))):
        one_x, one_y = (torch.utils._pytree.tree_map(lambda v: v[[i]].clone(), t) for t in (x, y))  # noqa: B023
        output = (
            model(**one_x)
            if isinstance(one_x, dict)
            else model(*(one_x if isinstance(one_x, tuple) else (one_x,)))
        )
        found = torch.autograd.grad(
            case.loss(output, one_y), free, materialize_grads=True, allow_unused=True
        )
        rows.append(torch.cat([value.flatten() for value in found]))
    return torch.stack(rows)


def leaf_of(tree):
    return tree[0] if isinstance(tree, tuple) else tree


@pytest.mark.filterwarnings("ignore:.*batching rule for aten..mkldnn_rnn_layer:UserWarning")  # slow
@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_products_are_those_of_plain_gradients(case, n):
    model, batch = case.model(), case.batch(n)
    objective = TorchObjective(model, case.loss)
    rows = rows_for(objective, 7)
    expected = rows @ plain_gradients(case, model, batch).T
    found = by_every_way(objective, rows, batch)
    assert_all_close(found, expected, FLOAT64)


@pytest.mark.filterwarnings("ignore:.*batching rule for aten..mkldnn_rnn_layer:UserWarning")  # slow
@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_are_those_of_plain_autograd(case, n):
    model, batch = case.model(), case.batch(n)
    objective = TorchObjective(model, case.loss)
    x, y = objective._prepared(batch)
    objective._covered(x)
    expected = plain_gradients(case, model, batch)
    found = {
        Way.FACTORED: objective._gradients_of_layers(x, y),
        Way.MATERIALISED: objective._materialised(x, y),
    }
    assert_all_close(found, expected, FLOAT64)


@pytest.mark.parametrize("case", [MLP, CONVOLUTION, case("attention"), SEQUENCE], ids=str)
def test_ways_agree_in_single_precision(case):
    model = case.model()
    rows = rows_for(TorchObjective(model, case.loss), 3)
    expected = rows @ plain_gradients(case, model, case.batch(4)).T
    single = TorchObjective(case.model().float(), case.loss)
    found = by_every_way(single, rows.float(), case.batch(4, torch.float32))
    assert all(values.dtype == torch.float32 for values in found.values())
    assert_all_close(found, expected.float(), FLOAT32)


@pytest.mark.parametrize("pays", [True, False])
@pytest.mark.parametrize("numbers", [1, 7, 50, 2**19])
@pytest.mark.parametrize("k", [1, 6])
@pytest.mark.parametrize("case", [MLP, WIDE, CONVOLUTION, SEQUENCE, STRIDED], ids=str)
def test_neither_pieces_nor_the_form_of_a_product_change_it(monkeypatch, case, k, numbers, pays):
    monkeypatch.setitem(factored.PIECE_NUMBERS, "cpu", numbers)
    monkeypatch.setattr(factored, "forming_pays", lambda *_: pays)
    model, batch = case.model(), case.batch(5)
    objective = TorchObjective(model, case.loss)
    rows = rows_for(objective, k)
    x, y = objective._prepared(batch)
    objective._covered(x)
    found = objective._products(Way.FACTORED, rows, x, y)
    expected = rows @ plain_gradients(case, model, batch).T
    assert_all_close({pays: found}, expected, FLOAT64)


@pytest.mark.parametrize("case", [MLP, CONVOLUTION, case("attention")], ids=str)
def test_little_memory_changes_no_result(monkeypatch, case):
    model, batch = case.model(), case.batch(5)
    monkeypatch.setitem(samples.GRADIENT_BYTES, "cpu", 1)
    monkeypatch.setitem(samples.WORKING_BYTES, "cpu", 1)
    objective = TorchObjective(model, case.loss)
    rows = rows_for(objective, 3)
    expected = rows @ plain_gradients(case, model, batch).T
    assert_all_close(by_every_way(objective, rows, batch), expected, FLOAT64)


SUBSETS = [
    pytest.param(MLP, ["0.weight"], id="weight without its bias"),
    pytest.param(MLP, ["2.bias", "4.weight"], id="bias without its weight"),
    pytest.param(CONVOLUTION, ["0.weight", "1.bias"], id="convolution and normalisation"),
    pytest.param(case("weight used besides"), ["layer.weight", "head.bias"], id="used besides"),
]


@pytest.mark.parametrize(("case", "names"), SUBSETS)
def test_a_restricted_objective_has_the_columns_of_the_whole(case, names):
    model, batch = case.model(), case.batch(5)
    whole = TorchObjective(model, case.loss)
    whole.layers(batch)  # what covers the whole must not be taken for what covers the part
    part = whole.restrict(names)
    for name, value in model.named_parameters():
        value.requires_grad_(name in names)
    rows = rows_for(part, 3)
    expected = rows @ plain_gradients(case, model, batch).T
    assert_all_close(by_every_way(part, rows, batch), expected, FLOAT64)
    torch.testing.assert_close(rows @ part.gradients(batch).T, expected, rtol=0, atol=1e-10)


def test_batches_of_other_sizes_follow_the_first():
    model = MLP.model()
    objective = TorchObjective(model, functional.cross_entropy)
    rows = rows_for(objective, 40)
    for n in (4, 1, 7):
        batch = MLP.batch(n)
        expected = rows @ plain_gradients(MLP, model, batch).T
        torch.testing.assert_close(objective.inner_products(rows, batch), expected)


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("case", [MLP, case("regression"), CONVOLUTION], ids=str)
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_gradients_are_taken_where_the_caller_turned_them_off(context, case, n):
    model, batch = case.model(), case.batch(n)
    expected = plain_gradients(case, model, batch)
    with context():
        objective = TorchObjective(model, case.loss)
        x, y = objective._prepared(tuple(value.clone() for value in batch))
        objective._covered(x)
        found = objective._gradients_of_layers(x, y)
    assert_all_close({context: found}, expected, FLOAT64)
