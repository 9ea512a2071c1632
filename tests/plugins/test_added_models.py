"""A plugin may add methods to a backend, or replace them there."""

import pytest

from upweight import get_backend, hookimpl, plugins
from upweight.models import CgInfluence, DirectInfluence


class Extra:
    """Adds one method to the backends of a name."""

    def __init__(self, models, *, backend="fake"):
        self.models, self.backend = models, backend

    @hookimpl
    def upweight_models(self, backend):
        return self.models if backend.name == self.backend else None


class Mine(DirectInfluence):
    """A method of somebody else."""


def models_with(*extras):
    for index, extra in enumerate(extras):
        plugins.register(extra, f"extra {index}")
    return dict(get_backend("fake").models)


def test_a_method_is_added_beside_those_there_are(fake):
    expected = {"direct": DirectInfluence, "cg": CgInfluence, "mine": Mine}
    assert models_with(Extra({"mine": Mine})) == expected


def test_a_method_replaces_the_one_of_its_name(fake):
    assert models_with(Extra({"direct": Mine})) == {"direct": Mine, "cg": CgInfluence}


def test_the_plugins_all_add_their_methods(fake):
    added = models_with(Extra({"first": Mine}), Extra({"second": Mine}))
    assert {"first", "second"} <= set(added)


def test_the_plugin_that_came_last_has_the_last_word(fake):
    assert models_with(Extra({"mine": DirectInfluence}), Extra({"mine": Mine}))["mine"] is Mine


@pytest.mark.parametrize("models", [None, {}])
def test_a_plugin_may_add_nothing(fake, models):
    assert set(models_with(Extra(models))) == {"direct", "cg"}


def test_methods_are_not_added_to_another_backend(fake):
    assert "mine" not in models_with(Extra({"mine": Mine}, backend="other"))


def test_a_method_that_was_taken_out_is_gone(fake):
    models_with(Extra({"mine": Mine}))
    plugins.unregister("extra 0")
    assert "mine" not in get_backend("fake").models


def test_an_installed_plugin_may_add_a_method(fake, install):
    install(
        "solid",
        "from upweight import hookimpl\n\n"
        "@hookimpl\ndef upweight_models(backend):\n    return {'mine': dict}\n",
    )
    assert get_backend("fake").models["mine"] is dict
