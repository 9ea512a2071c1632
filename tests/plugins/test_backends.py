"""A backend is found by its name, whether it was registered or installed."""

import sys

import numpy as np
import pytest
from oracle import influences, relative_error
from reference import softmax_problem

from upweight import Backend, BackendConflictError, backends, get_backend, plugins


def test_a_registered_backend_is_listed(fake):
    assert "fake" in backends()


def test_a_registered_backend_is_found_by_its_name(fake):
    assert get_backend("fake").name == "fake"


def test_the_methods_of_a_registered_backend_run(fake):
    objective, train = softmax_problem()
    model = get_backend("fake").models["direct"](objective, regularization=0.1).fit([train])
    expected = influences(objective, train, train, regularization=0.1)
    assert relative_error(model.influences(*train), expected) < 1e-9


def test_the_converter_of_a_registered_backend_returns_what_it_was_given(fake):
    converter = get_backend("fake").converter()
    values = np.arange(3.0)
    assert np.array_equal(converter.to_numpy(converter.from_numpy(values)), values)


def test_a_backend_that_was_taken_out_is_not_listed(fake):
    plugins.unregister("fake")
    assert "fake" not in backends()


def test_a_name_is_registered_only_once(fake):
    with pytest.raises(BackendConflictError, match="'fake' already"):
        plugins.register(object(), "fake")


def test_the_name_of_an_installed_backend_cannot_be_registered(install, fake):
    install("solid")
    with pytest.raises(BackendConflictError, match="'solid' already"):
        plugins.register(object(), "solid")


def test_an_installed_backend_is_found_by_its_name(install):
    install("solid")
    assert isinstance(get_backend("solid"), Backend)


def test_backends_are_listed_by_name_in_order(install, fake):
    install("solid")
    install("airy")
    assert [name for name in backends() if name in {"airy", "fake", "solid"}] == [
        "airy",
        "fake",
        "solid",
    ]


def test_listing_imports_no_plugin(install):
    module = install("solid")
    backends()
    assert module not in sys.modules


def test_a_backend_that_is_not_asked_for_is_not_made(install, fake):
    install(
        "lazy",
        "from upweight import hookimpl\n\n@hookimpl\ndef upweight_backend(name):\n    1 / 0\n",
    )
    assert get_backend("fake").name == "fake"


def test_a_plugin_that_answers_to_every_name_does_not_take_over_another(install, fake):
    class Greedy:
        @plugins.hookimpl
        def upweight_backend(self, name):
            return Backend(
                name, objective=dict, converter=dict, aggregator=list, nested_aggregator=list
            )

    plugins.register(Greedy(), "greedy")
    assert get_backend("fake").objective is not dict


def test_the_methods_of_a_backend_cannot_be_changed(fake):
    with pytest.raises(TypeError):
        get_backend("fake").models["mine"] = dict


def test_a_model_belongs_to_the_backend_that_knows_it(fake):
    assert plugins.owner_of(softmax_problem()[0]) == "fake"


@pytest.mark.parametrize("model", [None, 3, "text"])
def test_a_model_that_no_backend_knows_belongs_to_none(fake, model):
    assert plugins.owner_of(model) is None


def test_the_owner_of_a_model_may_be_an_installed_plugin(install):
    install(
        "solid",
        "from upweight import hookimpl\n\n"
        "@hookimpl\ndef upweight_owner(model):\n    return 'solid' if model == 'stone' else None\n",
    )
    assert plugins.owner_of("stone") == "solid"
