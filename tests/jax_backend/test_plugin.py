"""JAX, found through its entry point, and the models that belong to it."""

from importlib.metadata import entry_points

import numpy as np
import pytest
from jax_zoo import ATTENTION, MLP, STRIDED, TOKENS

import upweight
import upweight_jax
from upweight_jax.plugin import upweight_backend, upweight_owner

installed = pytest.mark.skipif(
    not entry_points(group="upweight.backends", name="jax"),
    reason="upweight-jax is not installed, only on the path",
)


@installed
def test_the_backend_is_listed():
    assert "jax" in upweight.backends()


@installed
def test_the_backend_is_found():
    assert upweight.get_backend("jax").objective is upweight_jax.JaxObjective


@pytest.mark.parametrize(
    ("attribute", "name"),
    [
        ("objective", "JaxObjective"),
        ("converter", "JaxNumpyConverter"),
        ("aggregator", "JaxCatAggregator"),
        ("nested_aggregator", "NestedJaxCatAggregator"),
    ],
)
def test_the_backend_brings_the_public_names(attribute, name):
    assert getattr(upweight_backend("jax"), attribute) is getattr(upweight_jax, name)


def test_other_backends_are_not_its_business():
    assert upweight_backend("torch") is None


@pytest.mark.parametrize("case", [MLP, ATTENTION, STRIDED, TOKENS], ids=str)
def test_models_of_every_kind_belong_to_jax(case):
    assert upweight_owner(case.model()) == "jax"


@pytest.mark.parametrize("other", [np.ones(1), len, (1, {}), (len, {}), None], ids=str)
def test_nothing_else_does(other):
    assert upweight_owner(other) is None


@pytest.mark.parametrize("name", upweight_jax.__all__)
def test_public_names_are_there(name):
    assert hasattr(upweight_jax, name)
    assert name in dir(upweight_jax)


def test_other_names_are_not():
    assert not hasattr(upweight_jax, "TorchInfluence")
