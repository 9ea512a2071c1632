"""Torch, found through its entry point."""

from importlib.metadata import entry_points

import pytest
import torch

import upweight
import upweight_torch
from upweight_torch.plugin import upweight_owner

installed = pytest.mark.skipif(
    not entry_points(group="upweight.backends", name="torch"),
    reason="upweight-torch is not installed, only on the path",
)


@installed
def test_the_backend_is_listed():
    assert "torch" in upweight.backends()


@installed
@pytest.mark.parametrize(
    ("attribute", "name"),
    [
        ("objective", "TorchObjective"),
        ("converter", "TorchNumpyConverter"),
        ("aggregator", "TorchCatAggregator"),
        ("nested_aggregator", "NestedTorchCatAggregator"),
    ],
)
def test_the_backend_brings_the_public_names(attribute, name):
    assert getattr(upweight.get_backend("torch"), attribute) is getattr(upweight_torch, name)


@installed
@pytest.mark.parametrize(("name", "method"), [("direct", "DirectInfluence"), ("cg", "CgInfluence")])
def test_the_backend_brings_its_methods(name, method):
    assert upweight.get_backend("torch").models[name] is getattr(upweight_torch, method)


@pytest.mark.parametrize(
    ("model", "owner"), [(torch.nn.Linear(1, 1), "torch"), (torch.ones(1), None), (len, None)]
)
def test_modules_belong_to_torch(model, owner):
    assert upweight_owner(model) == owner


@pytest.mark.parametrize("name", upweight_torch.__all__)
def test_public_names_are_there(name):
    assert hasattr(upweight_torch, name)
    assert name in dir(upweight_torch)


def test_other_names_are_not():
    assert not hasattr(upweight_torch, "JaxInfluence")
