"""What the choice between the ways must hold to, whatever the machine."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch_zoo import CONVOLUTION, MLP, case, network

from upweight_torch import TorchObjective, samples
from upweight_torch.costs import (
    LayerSize,
    Way,
    Work,
    cheapest_gradients,
    cheapest_products,
    forming_pays,
)

SAMPLES = (1, 16, 64, 500, 10_000)
ROWS = (1, 2, 8, 64, 300, 5_000)
SHAPES = [LayerSize(t, o, i) for t in (1, 9, 200) for o in (10, 300) for i in (3, 100)]

#: Activation bytes and parameters, of which no layer covers any.
UNCOVERED = list(itertools.product((300, 10_000, 300_000), (1_000, 100_000, 10_000_000)))


def dense(n, *widths):
    layers = tuple(LayerSize(1, o, i) for i, o in itertools.pairwise(widths))
    p = sum((layer.inputs + 1) * layer.outputs for layer in layers)
    return Work(n, p, 4 * 3 * sum(widths), layers, p)


@pytest.mark.parametrize("n", SAMPLES)
@pytest.mark.parametrize("k", ROWS)
def test_networks_of_linear_layers_stay_factored(n, k):
    for widths in [(64, 32, 10), (64, 256, 128, 10), (1_000, 4_000, 1_000)]:
        assert cheapest_products(dense(n, *widths), k) is Way.FACTORED
        assert cheapest_gradients(dense(n, *widths)) is Way.FACTORED


@pytest.mark.parametrize("n", SAMPLES)
@pytest.mark.parametrize(("activations", "p"), UNCOVERED)
def test_once_materialising_pays_it_pays_for_more_rows(n, activations, p):
    ways = [cheapest_products(Work(n, p, activations), k) for k in ROWS]
    assert Way.FACTORED not in ways
    if Way.MATERIALISED in ways:
        assert set(ways[ways.index(Way.MATERIALISED) :]) == {Way.MATERIALISED}


@pytest.mark.parametrize("n", SAMPLES)
@pytest.mark.parametrize("layer", SHAPES, ids=str)
def test_once_forming_a_layer_pays_it_pays_for_more_rows(n, layer):
    pays = [forming_pays(layer, n, k) for k in ROWS]
    assert pays == sorted(pays)


@pytest.mark.parametrize("n", SAMPLES[2:])
def test_gradients_much_larger_than_activations_are_not_formed_for_a_row(n):
    assert cheapest_products(Work(n, 10_000_000, 10_000), 1) is Way.PULLED_BACK


@pytest.mark.parametrize("n", SAMPLES)
def test_many_rows_are_not_pulled_back(n):
    for activations, p in UNCOVERED[:6]:
        assert cheapest_products(Work(n, p, activations), 100_000) is Way.MATERIALISED


def test_a_small_covered_part_does_not_pay_for_a_pass_of_its_own():
    for n, k in itertools.product(SAMPLES, ROWS[2:]):
        work = Work(n, 10_000, 14_000, (LayerSize(1, 10, 10),), 110)
        assert cheapest_products(work, k) is not Way.FACTORED
        assert cheapest_gradients(work) is Way.MATERIALISED


class Formed:
    """Counts the per-sample gradients that are formed, and the numbers in each call."""

    def __init__(self, monkeypatch):
        self.numbers = []
        plain = samples.SampleGradients._materialised

        def counting(objective, x, y):
            gradients = plain(objective, x, y)
            self.numbers.append(gradients.numel())
            return gradients

        monkeypatch.setattr(samples.SampleGradients, "_materialised", counting)


@pytest.mark.parametrize("k", [1, 60])
@pytest.mark.parametrize("case", [MLP, case("linear"), case("layers in another order")], ids=str)
def test_no_gradient_is_formed_where_layers_tell_everything(monkeypatch, case, k):
    objective, batch = TorchObjective(case.model(), case.loss), case.batch(20)
    objective.losses(batch)  # the first batch is tried out
    formed = Formed(monkeypatch)
    objective.inner_products(objective.zeros(k), batch)
    objective.gradients(batch)
    assert formed.numbers == []


@pytest.mark.parametrize("model", [MLP, CONVOLUTION, case("attention"), case("lstm")], ids=str)
@pytest.mark.filterwarnings("ignore:.*batching rule for aten..mkldnn_rnn_layer:UserWarning")  # slow
def test_gradients_for_products_are_formed_within_their_memory(monkeypatch, model):
    objective, batch = TorchObjective(model.model(), model.loss), model.batch(20)
    x, y = objective._prepared(batch)
    limit = 3 * 8 * objective.zeros(0).shape[1]
    monkeypatch.setitem(samples.GRADIENT_BYTES, "cpu", limit)
    formed = Formed(monkeypatch)
    objective._products(Way.MATERIALISED, objective.zeros(60), x, y)
    assert 8 * max(formed.numbers) <= limit
    assert sum(formed.numbers) == 20 * objective.zeros(0).shape[1]


def test_only_what_no_layer_covers_is_formed(monkeypatch):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.network = nn.Parameter(torch.ones(8)), network(8, 600, 600, 3)

        def forward(self, x):
            return self.network(x * self.scale)

    objective = TorchObjective(Scaled(), functional.cross_entropy)
    batch = torch.randn(64, 8), torch.zeros(64, dtype=torch.int64)
    objective.losses(batch)
    formed = Formed(monkeypatch)
    objective.inner_products(objective.zeros(60), batch)
    objective.gradients(batch)
    assert formed.numbers == [64 * 8] * 2
