"""Gradients rebuilt from inputs and output gradients of layers, against plain autograd."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from upweight.protocols import SupportsLayers
from upweight_torch import TorchObjective

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


class Forward(nn.Module):
    """Modules with a forward pass given as a function of them and the input."""

    def __init__(self, forward, **modules):
        super().__init__()
        self.function = forward
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x):
        return self.function(self, x)


def repeated(m, x):
    for _ in range(3):
        x = torch.tanh(m.a(x))
    return m.b(x)


def folded(m, x):
    n, t, d = x.shape
    return m.a(x.reshape(n * t, d)).reshape(n, t, -1).sum(1)


def averaged(m, x):
    return torch.tanh(m.a(x)).square().mean(1)


MODELS = {
    "linear": (lambda: nn.Linear(4, 3), (4,)),
    "mlp": (lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=True), nn.Linear(5, 3)), (4,)),
    "no bias": (
        lambda: nn.Sequential(nn.Linear(4, 5, bias=False), nn.Tanh(), nn.Linear(5, 3)),
        (4,),
    ),
    "sequence": (lambda: Forward(averaged, a=nn.Linear(4, 3)), (6, 4)),
    "positions on two axes": (
        lambda: Forward(lambda m, x: torch.tanh(m.a(x)).sum((1, 2)), a=nn.Linear(4, 3)),
        (2, 3, 4),
    ),
    "folded sequence": (lambda: Forward(folded, a=nn.Linear(4, 3)), (6, 4)),
    "shared": (lambda: Forward(repeated, a=nn.Linear(4, 4), b=nn.Linear(4, 3)), (4,)),
    "conv1d": (
        lambda: nn.Sequential(
            nn.Conv1d(2, 4, 3, stride=2, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(20, 3)
        ),
        (2, 9),
    ),
    "conv1d same": (
        lambda: nn.Sequential(
            nn.Conv1d(2, 3, 4, padding="same", padding_mode="circular", dilation=2, bias=False),
            nn.Tanh(),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
        ),
        (2, 9),
    ),
    "conv2d": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(0, 1), dilation=(1, 2)),
            nn.ReLU(),
            nn.Conv2d(3, 4, 2, bias=False, padding="valid"),
            nn.Flatten(),
            nn.LazyLinear(3),
        ),
        (2, 7, 6),
    ),
    "attention block": (
        lambda: nn.Sequential(
            nn.TransformerEncoderLayer(4, 2, 6, batch_first=True), nn.Flatten(), nn.Linear(20, 3)
        ),
        (5, 4),
    ),
}


def problem(name, *, dtype=torch.float64, n=5, seed=0):
    torch.manual_seed(seed)
    make, shape = MODELS[name]
    x = torch.randn(n, *shape, dtype=dtype)
    model = make().to(dtype)
    model(x)  # lazy layers learn their size
    return model, (x, torch.randint(0, 3, (n,)))


def gradients_one_by_one(model, loss, batch):
    """Return the gradient of each sample by plain autograd, (n, *shape) by parameter."""
    model = copy.deepcopy(model).eval()
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    rows = []
    for x, y in zip(*batch, strict=True):
        value = loss(model(x[None]), y[None])
        parameters = [dict(model.named_parameters())[name] for name in names]
        rows.append(torch.autograd.grad(value, parameters))
    return {
        name: torch.stack(list(g)) for name, g in zip(names, zip(*rows, strict=True), strict=True)
    }


def rebuilt(statistics):
    """Return the gradient of each sample in the parameters of each layer."""
    found = {}
    for layer in statistics.values():
        a, g = layer.inputs.numpy(), layer.gradients.numpy()
        found[layer.weight] = np.einsum("nto,nti->noi", g, a)
        if layer.bias is not None:
            found[layer.bias] = g.sum(1)
    return found


def assert_rebuilds(statistics, truth, tolerance):
    for name, value in rebuilt(statistics).items():
        np.testing.assert_allclose(
            value.reshape(truth[name].shape), truth[name], rtol=tolerance, atol=tolerance
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", MODELS)
def test_gradients_of_samples_are_rebuilt(name, dtype):
    model, batch = problem(name, dtype=dtype)
    objective = TorchObjective(model, functional.cross_entropy)
    statistics = objective.layers(batch)
    expected = {
        path
        for path, module in model.named_modules()
        if type(module) in {nn.Linear, nn.Conv1d, nn.Conv2d}
    }
    assert set(statistics) == expected
    truth = gradients_one_by_one(model, functional.cross_entropy, batch)
    assert_rebuilds(statistics, truth, TOLERANCE[dtype])
    assert {v.inputs.dtype for v in statistics.values()} == {dtype}


@pytest.mark.parametrize("name", ["mlp", "conv2d", "shared"])
def test_coverage_found_on_one_sample_holds_for_more(name):
    model, (x, y) = problem(name)
    objective = TorchObjective(model, functional.cross_entropy)
    objective.layers((x[:1], y[:1]))
    truth = gradients_one_by_one(model, functional.cross_entropy, (x, y))
    assert_rebuilds(objective.layers((x, y)), truth, 1e-12)


@pytest.mark.parametrize("name", ["mlp", "shared", "conv1d"])
def test_directions_are_pulled_back_together_as_one_by_one(name):
    model, batch = problem(name)
    objective = TorchObjective(model, functional.cross_entropy)
    directions = torch.randn(2, 5, 3, dtype=torch.float64)
    together = objective.layers(batch, directions)
    for d, direction in enumerate(directions):
        alone = objective.layers(batch, direction)
        truth = gradients_one_by_one(model, lambda out, u: (out * u).sum(), (batch[0], direction))
        assert_rebuilds(alone, truth, 1e-12)
        for layer, one in alone.items():
            torch.testing.assert_close(together[layer].gradients[d], one.gradients)
            torch.testing.assert_close(together[layer].inputs, one.inputs)


def tied_elsewhere():
    a = nn.Linear(4, 4, bias=False)
    return Forward(lambda m, x: m.b(m.a(x) @ m.a.weight), a=a, b=nn.Linear(4, 3))


def tied_module():
    a, other = nn.Linear(4, 4), nn.Linear(4, 4)
    other.weight = a.weight
    return Forward(lambda m, x: m.b(torch.tanh(m.a(x)) + m.c(x)), a=a, b=nn.Linear(4, 3), c=other)


def normed():
    return Forward(lambda m, x: m.b(m.a(x)), a=weight_norm(nn.Linear(4, 4)), b=nn.Linear(4, 3))


def samples_on_the_second_axis():
    return Forward(
        lambda m, x: m.b(m.a(torch.stack([x, 2 * x, x**2, x, x])).sum(0)),
        a=nn.Linear(4, 4),
        b=nn.Linear(4, 3),
    )


def grouped():
    return Forward(
        lambda m, x: m.b(m.a(x[:, :, None]).flatten(1)),
        a=nn.Conv1d(4, 4, 1, groups=2),
        b=nn.Linear(4, 3),
    )


def without_samples():
    return Forward(
        lambda m, x: m.b(x + m.a(torch.ones(5, 4, dtype=x.dtype))[0]),
        a=nn.Linear(4, 4),
        b=nn.Linear(4, 3),
    )


@pytest.mark.parametrize(
    "make",
    [tied_elsewhere, tied_module, normed, samples_on_the_second_axis, grouped, without_samples],
)
@pytest.mark.parametrize("first", [1, 5])
def test_layers_whose_gradients_are_more_than_their_statistics_are_left_out(make, first):
    torch.manual_seed(0)
    objective = TorchObjective(make().double(), functional.cross_entropy)
    x, y = torch.randn(5, 4, dtype=torch.float64), torch.randint(0, 3, (5,))
    objective.layers((x[:first], y[:first]))
    assert set(objective.layers((x, y))) == {"b"}


def test_frozen_parameters_are_constants():
    model, batch = problem("mlp")
    model[0].weight.requires_grad_(False)
    model[2].bias.requires_grad_(False)
    objective = TorchObjective(model, functional.cross_entropy)
    assert [(v.weight, v.bias) for v in objective.layers(batch).values()] == [("2.weight", None)]


def test_a_restricted_objective_covers_what_it_is_restricted_to():
    model, batch = problem("mlp")
    objective = TorchObjective(model, functional.cross_entropy)
    objective.layers(batch)
    assert set(objective.restrict(["2.weight", "2.bias"]).layers(batch)) == {"2"}


def test_a_layer_that_a_batch_does_not_use_has_no_positions():
    model = Forward(
        lambda m, x: m.b(m.a(x)) if bool((x > 0).all()) else m.b(x),
        a=nn.Linear(4, 4),
        b=nn.Linear(4, 3),
    ).double()
    x, y = torch.ones(2, 4, dtype=torch.float64), torch.zeros(2, dtype=torch.int64)
    objective = TorchObjective(model, functional.cross_entropy)
    objective._try_out = lambda batch: None  # branches on values cannot be mapped over samples
    assert objective.layers((x, y))["a"].inputs.shape == (2, 1, 4)
    assert objective.layers((-x, y))["a"].inputs.shape == (2, 0, 4)
    assert objective.layers((-x, y))["a"].gradients.shape == (2, 0, 4)


def test_the_model_and_its_gradients_are_untouched_and_the_objective_can_be_pickled():
    model, batch = problem("mlp")
    before = copy.deepcopy(model.state_dict())
    objective = TorchObjective(model, functional.cross_entropy)
    first = objective.layers(batch)
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(m._forward_hooks for m in model.modules())
    again = pickle.loads(pickle.dumps(objective)).layers(batch)
    assert all(torch.equal(first[k].gradients, again[k].gradients) for k in first)


def test_threads_do_not_see_each_other():
    model, (x, y) = problem("shared", n=40)
    objective = TorchObjective(model, functional.cross_entropy)
    assert isinstance(objective, SupportsLayers)
    batches = [(x[i : i + 4], y[i : i + 4]) for i in range(0, 40, 4)]
    alone = [objective.layers(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(objective.layers, batches))
    for one, other in zip(alone, together, strict=True):
        assert all(torch.equal(one[k].gradients, other[k].gradients) for k in one)
