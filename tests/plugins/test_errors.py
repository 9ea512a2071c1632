"""Three things may be wrong with a backend, and each has its own error."""

from importlib.metadata import entry_points

import numpy as np
import pytest
from reference import softmax_problem

from upweight import (
    BackendBrokenError,
    BackendConflictError,
    BackendNotInstalledError,
    backends,
    get_backend,
    hookimpl,
    plugins,
)

BROKEN_PLUGIN = "import a_module_that_is_nowhere\n"
BROKEN_FRAMEWORK = """
from upweight import hookimpl

@hookimpl
def upweight_backend(name):
    if name == "{name}":
        import a_module_that_is_nowhere
"""
NO_BACKEND = (
    "from upweight import hookimpl\n\n@hookimpl\ndef upweight_backend(name):\n    return None\n"
)


def test_a_backend_that_is_not_installed_is_said_how_to_install():
    with pytest.raises(BackendNotInstalledError, match=r'pip install "upweight\[nowhere\]"'):
        get_backend("nowhere")


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_a_framework_that_is_not_installed_is_an_extra(name):
    if entry_points(group=plugins.GROUP, name=name):
        pytest.skip(f"upweight-{name} is installed")
    with pytest.raises(BackendNotInstalledError, match=rf'pip install "upweight\[{name}\]"'):
        get_backend(name)


def test_a_backend_that_is_not_installed_is_refused_with_those_there_are(fake):
    with pytest.raises(BackendNotInstalledError, match=r"there are \[.*'fake'.*\]"):
        get_backend("nowhere")


@pytest.mark.parametrize(
    ("source", "said"),
    [(BROKEN_PLUGIN, "cannot be imported"), (BROKEN_FRAMEWORK, "its framework cannot be used")],
    ids=["plugin", "framework"],
)
def test_a_broken_backend_is_said_to_be_installed(install, source, said):
    install("cracked", source)
    with pytest.raises(BackendBrokenError, match=f"'cracked'.* is installed, but {said}"):
        get_backend("cracked")


@pytest.mark.parametrize("source", [BROKEN_PLUGIN, BROKEN_FRAMEWORK], ids=["plugin", "framework"])
def test_what_is_to_be_installed_again_is_the_distribution_of_the_plugin(install, source):
    install("cracked", source, distribution="jar-of-others")
    with pytest.raises(BackendBrokenError, match=r'`pip install .*"jar-of-others"`'):
        get_backend("cracked")


def test_nothing_is_to_be_installed_again_where_no_distribution_has_the_plugin():
    class Registered:
        @hookimpl
        def upweight_backend(self, name):
            raise OSError("no framework today")

    plugins.register(Registered(), "registered")
    with pytest.raises(BackendBrokenError, match=r"cannot be used: no framework today\.$"):
        get_backend("registered")


@pytest.mark.parametrize("source", [BROKEN_PLUGIN, BROKEN_FRAMEWORK], ids=["plugin", "framework"])
def test_the_cause_of_a_broken_backend_is_chained(install, source):
    install("cracked", source)
    with pytest.raises(BackendBrokenError) as error:
        get_backend("cracked")
    assert isinstance(error.value.__cause__, ModuleNotFoundError)


@pytest.mark.parametrize("source", [BROKEN_PLUGIN, BROKEN_FRAMEWORK], ids=["plugin", "framework"])
def test_a_broken_backend_is_broken_each_time_it_is_asked_for(install, source):
    install("cracked", source)
    for _ in range(2):
        with pytest.raises(BackendBrokenError):
            get_backend("cracked")


def test_a_plugin_without_its_backend_is_broken(install):
    install("hollow", NO_BACKEND)
    with pytest.raises(BackendBrokenError, match="offers no backend of that name"):
        get_backend("hollow")


def test_a_name_that_two_distributions_claim_is_refused_with_both(install):
    install("twin", distribution="first-twin")
    install("twin", distribution="second-twin")
    with pytest.raises(BackendConflictError, match="first-twin and second-twin"):
        get_backend("twin")


def test_a_name_that_two_distributions_claim_is_listed_once(install):
    install("twin", distribution="first-twin")
    install("twin", distribution="second-twin")
    assert backends().count("twin") == 1


def test_a_broken_plugin_beside_a_good_one_is_warned_about(install):
    install("cracked", BROKEN_PLUGIN)
    install("solid")
    with pytest.warns(RuntimeWarning, match="Left out a broken plugin.*'cracked'"):
        assert get_backend("solid").name == "solid"


@pytest.mark.parametrize(
    "source", [BROKEN_PLUGIN, "raise RuntimeError('no luck')\n", "nor (syntax\n"]
)
@pytest.mark.parametrize("name", ["jax", "torch"])
def test_a_broken_plugin_leaves_the_frameworks_working(install, name, source):
    if not entry_points(group=plugins.GROUP, name=name):
        pytest.skip(f"upweight-{name} is not installed")
    install("cracked", source)
    with pytest.warns(RuntimeWarning, match="Left out a broken plugin.*'cracked'"):
        backend = get_backend(name)
    converter, values = backend.converter(), np.arange(3, dtype=np.float32)
    assert np.array_equal(converter.to_numpy(converter.from_numpy(values)), values)
    assert set(backend.models) >= {"direct", "cg", "ekfac"}


def test_a_conflict_beside_a_good_plugin_is_warned_about(install):
    install("twin", distribution="first-twin")
    install("twin", distribution="second-twin")
    install("solid")
    with pytest.warns(RuntimeWarning, match="first-twin and second-twin"):
        assert get_backend("solid").name == "solid"


def test_a_broken_plugin_does_not_keep_a_model_from_its_owner(install, fake):
    install("cracked", BROKEN_PLUGIN)
    with pytest.warns(RuntimeWarning, match="'cracked'"):
        assert plugins.owner_of(softmax_problem()[0]) == "fake"


def test_errors_about_backends_are_import_errors():
    with pytest.raises(ImportError):
        get_backend("nowhere")


class Raising:
    """A plugin whose hooks fail."""

    @hookimpl
    def upweight_models(self, backend):
        raise OSError("no models today")

    @hookimpl
    def upweight_owner(self, model):
        raise OSError("no owner today")


@pytest.mark.parametrize("last", [True, False])
def test_a_plugin_whose_hooks_fail_is_named_and_the_others_answer(fake, last):
    for plugin in (Raising(), Adding()) if last else (Adding(), Raising()):
        plugins.register(plugin, type(plugin).__name__)
    with pytest.warns(RuntimeWarning, match=r"'Raising', whose upweight_models failed: OSError"):
        models = get_backend("fake").models
    assert set(models) == {"direct", "cg", "mine"}
    objective, _ = softmax_problem()
    with pytest.warns(RuntimeWarning, match=r"'Raising', whose upweight_owner failed: OSError"):
        assert plugins.owner_of(objective) == "fake"


class Adding:
    @hookimpl
    def upweight_models(self, backend):
        return {"mine": dict}
