"""The dense Hessian is assembled from layers where that holds, and by products where it does not."""

import pytest
import torch
from torch.nn import functional
from torch_zoo import LINEAR, MLP, ZOO, Case, case, network, normal

from upweight_torch import TorchObjective

ASSEMBLED = [
    "linear",
    "mlp",
    "attention between linears",
    "layers in another order",
    "partly frozen",
    "two heads",
    "in-place",
    "regression",
]
WIDE = Case("more outputs than inputs", lambda: network(2, 9, 3), normal(2))
RELU = Case("relu", lambda: network(4, 6, 3, activation=torch.nn.ReLU), normal(4))
TOLERANCE = 1e-11


@pytest.fixture
def products(monkeypatch):
    """Return a list of the number of rows in each product with the Hessian."""
    counted = []
    product = TorchObjective.hessian_product
    monkeypatch.setattr(
        TorchObjective,
        "hessian_product",
        lambda self, rows, batch: counted.append(len(rows)) or product(self, rows, batch),
    )
    return counted


def by_products(objective, batch):
    unit = torch.eye(objective.zeros(0).shape[1], dtype=objective.zeros(0).dtype)
    return objective.hessian_product(unit, batch)


def assert_close(value, expected):
    torch.testing.assert_close(
        value, expected, rtol=0, atol=TOLERANCE * float(expected.abs().max())
    )


@pytest.mark.parametrize("case", ZOO, ids=str)
def test_only_layers_that_are_used_once_are_assembled(case, products):
    objective = TorchObjective(case.model(), case.loss)
    objective.hessian(case.batch(3))
    assembled = objective.zeros(0).shape[1] not in products
    assert assembled == (case.name in ASSEMBLED)


@pytest.mark.parametrize("case", [LINEAR, MLP, WIDE, RELU, *map(case, ASSEMBLED[2:])], ids=str)
@pytest.mark.parametrize("n", [1, 2, 20])
def test_assembled_and_by_products_are_the_same(case, n):
    objective, batch = TorchObjective(case.model(), case.loss), case.batch(n)
    assert_close(objective.hessian(batch), by_products(objective, batch))


def test_pieces_of_a_batch_add_up(monkeypatch):
    objective, batch = TorchObjective(MLP.model(), MLP.loss), MLP.batch(20)
    whole = objective.hessian(batch)
    monkeypatch.setattr("upweight_torch.hessian.PRODUCTS", 600)
    assert_close(objective.hessian(batch), whole)


@pytest.mark.parametrize("case", [LINEAR, MLP, case("lstm"), case("attention")], ids=str)
def test_it_is_symmetric(case):
    hessian = TorchObjective(case.model(), case.loss).hessian(case.batch(5))
    assert_close(hessian, hessian.T)


@pytest.mark.parametrize("name", ["weight used besides", "layer used twice", "tied weights"])
def test_another_use_of_a_weight_is_noticed_where_all_gradients_vanish(name):
    model, (x, _) = case(name).model(), case(name).batch(4)
    objective, batch = TorchObjective(model, functional.mse_loss), (x, model(x).detach())
    assert_close(objective.hessian(batch), by_products(objective, batch))


class Anchored(torch.nn.Module):
    """A penalty on the distance of a weight from where it is: no gradient, but curvature."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)
        self.register_buffer("anchor", self.layer.weight.detach().clone())

    def forward(self, x):
        penalty = (self.layer.weight - self.anchor).square().sum()
        return self.layer(x) + penalty


def test_another_use_of_a_weight_is_noticed_where_it_has_no_gradient():
    torch.manual_seed(0)
    objective = TorchObjective(Anchored().double(), functional.mse_loss)
    batch = torch.ones(2, 3).double(), torch.zeros(2, 2).double()
    assert_close(objective.hessian(batch), by_products(objective, batch))


def test_a_trained_minimum_hides_nothing():
    """The gradients of the samples cancel, and the second use of the weight still counts."""
    model = case("weight used besides").model()
    x, y = case("weight used besides").batch(6)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=500, tolerance_grad=1e-10)

    def step():
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x), y, label_smoothing=0.3)
        loss.backward()
        return loss

    for _ in range(5):
        optimizer.step(step)
    objective = TorchObjective(
        model, lambda out, y: functional.cross_entropy(out, y, label_smoothing=0.3)
    )
    assert_close(objective.hessian((x, y)), by_products(objective, (x, y)))
