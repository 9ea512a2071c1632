"""A restricted objective is the same loss, seen as a function of some of the parameters."""

import math

import pytest
import torch
from torch_zoo import CONVOLUTION, MLP, case

from upweight_torch import TorchObjective

SUBSETS = [
    pytest.param(MLP, ["0.weight"], id="one weight"),
    pytest.param(MLP, ["2.bias"], id="one bias"),
    pytest.param(MLP, ["4.bias", "0.weight"], id="in another order"),
    pytest.param(CONVOLUTION, ["0.weight", "5.bias"], id="convolution"),
    pytest.param(case("lstm"), ["layer.weight_hh_l0"], id="lstm"),
    pytest.param(case("weight used besides"), ["layer.weight"], id="used besides"),
]


def place(objective, names):
    """Return where the named parameters are in the vector of all."""
    found, start = [], 0
    for name, shape in objective.parameters.items():
        stop = start + math.prod(shape)
        found += range(start, stop) if name in names else []
        start = stop
    return torch.tensor(found)


def assert_close(value, expected):
    torch.testing.assert_close(value, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(("case", "names"), SUBSETS)
def test_parameters_keep_the_order_of_the_model(case, names):
    whole = TorchObjective(case.model(), case.loss)
    expected = {name: shape for name, shape in whole.parameters.items() if name in names}
    assert list(whole.restrict(names).parameters.items()) == list(expected.items())


@pytest.mark.parametrize(("case", "names"), SUBSETS)
def test_losses_are_the_same(case, names):
    whole, batch = TorchObjective(case.model(), case.loss), case.batch(4)
    assert_close(whole.restrict(names).losses(batch), whole.losses(batch))


@pytest.mark.parametrize(("case", "names"), SUBSETS)
def test_gradients_are_columns_of_those_of_the_whole(case, names):
    whole, batch = TorchObjective(case.model(), case.loss), case.batch(4)
    expected = whole.gradients(batch)[:, place(whole, names)]
    assert_close(whole.restrict(names).gradients(batch), expected)


@pytest.mark.parametrize(("case", "names"), SUBSETS)
def test_hessian_is_a_block_of_that_of_the_whole(case, names):
    whole, batch = TorchObjective(case.model(), case.loss), case.batch(4)
    at = place(whole, names)
    assert_close(whole.restrict(names).hessian(batch), whole.hessian(batch)[at][:, at])


@pytest.mark.parametrize("method", ["hessian_product", "inner_products", "input_gradients"])
@pytest.mark.parametrize(("case", "names"), SUBSETS)
def test_products_are_those_with_zeros_elsewhere(case, names, method):
    whole, batch = TorchObjective(case.model(), case.loss), case.batch(4)
    at = place(whole, names)
    rows = torch.randn(2, len(at), generator=torch.Generator().manual_seed(0)).double()
    padded = whole.zeros(2)
    padded[:, at] = rows
    expected = getattr(whole, method)(padded, batch)
    expected = expected[:, at] if method == "hessian_product" else expected
    assert_close(getattr(whole.restrict(names), method)(rows, batch), expected)


def test_restricting_twice_keeps_the_rest_constant():
    whole, batch = TorchObjective(MLP.model(), MLP.loss), MLP.batch(4)
    twice = whole.restrict(["0.weight", "2.weight"]).restrict(["2.weight"])
    assert_close(twice.hessian(batch), whole.restrict(["2.weight"]).hessian(batch))


def test_the_whole_is_not_changed():
    whole = TorchObjective(MLP.model(), MLP.loss)
    before = dict(whole.parameters)
    whole.restrict(["0.weight"])
    assert dict(whole.parameters) == before


@pytest.mark.parametrize("names", [["nothing"], ["0.weight", "nothing"], []])
def test_unknown_names_and_no_name_are_refused(names):
    with pytest.raises(ValueError, match=r"parameters \['0.weight'.*; got \["):
        TorchObjective(MLP.model(), MLP.loss).restrict(names)
