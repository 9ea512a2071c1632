"""A method takes the same options in every framework, with the same defaults."""

import inspect

import pytest
from agreement.networks import FRAMEWORKS

#: What only one framework takes: parameters of torch are frozen by `requires_grad`, while arrays of
#: JAX have no such mark.
OWN = {"torch": set(), "jax": {"trainable"}}


def options(framework, method):
    backend, _ = FRAMEWORKS[framework]
    parameters = inspect.signature(backend.models[method]).parameters
    return [
        (name, parameter.kind, parameter.default)
        for name, parameter in parameters.items()
        if name not in OWN[framework]
    ]


def test_torch_and_jax_have_the_same_methods():
    assert set(FRAMEWORKS["torch"][0].models) == set(FRAMEWORKS["jax"][0].models)


@pytest.mark.parametrize("method", FRAMEWORKS["torch"][0].models)
def test_torch_and_jax_take_the_same_options(method):
    assert options("jax", method) == options("torch", method)


@pytest.mark.parametrize("method", FRAMEWORKS["torch"][0].models)
def test_what_one_framework_has_alone_is_there(method):
    for framework, names in OWN.items():
        backend, _ = FRAMEWORKS[framework]
        assert names <= set(inspect.signature(backend.models[method]).parameters)
