"""Plugin: the backend is found, costs nothing until it is used, and brings what it claims."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from upweight import protocols
from upweight.plugins import GROUP, get_backend, owner_of
from upweight.protocols import Objective
from upweight.testing.base import Conformance
from upweight.testing.problem import Problem

#: The optional protocols, any of which a backend may claim.
CAPABILITIES = (
    "SupportsGaussNewton",
    "SupportsLayers",
    "SupportsOutputGradients",
    "SupportsDenseHessian",
    "SupportsLinearisedProducts",
    "SuggestsBatchSize",
    "ReportsMemory",
    "SupportsSaving",
)

#: Prints the packages that come with a plugin, besides itself, what core imports, and Python.
LOADING = f"""
import sys, upweight.plugins
from importlib.metadata import entry_points
def packages():
    return {{name.partition(".")[0] for name in sys.modules}}
(entry,) = entry_points(group={GROUP!r}, name=sys.argv[1])
before = packages() | set(sys.stdlib_module_names) | {{entry.value.partition(".")[0]}}
plugin = entry.load()
if hasattr(plugin, "upweight_owner"):
    plugin.upweight_owner(model=object())
print(*sorted(packages() - before))
"""


class PluginConformance(Conformance):
    """The backend is found, costs nothing until it is used, and brings what it claims."""

    @pytest.fixture
    def _installed(self) -> None:
        if not entry_points(group=GROUP, name=self.backend):
            pytest.skip(f"{self.backend} is registered in this process, and not installed")

    @pytest.mark.usefixtures("_installed")
    def test_one_distribution_offers_the_name(self) -> None:
        assert len(entry_points(group=GROUP, name=self.backend)) == 1

    @pytest.mark.usefixtures("_installed")
    def test_loading_the_plugin_imports_no_framework(self) -> None:
        path = os.pathsep.join(entry for entry in sys.path if entry)
        loaded = subprocess.run(
            [sys.executable, "-c", LOADING, self.backend],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": path},
        )
        if loaded.returncode:
            pytest.fail(f"the plugin cannot be loaded: {loaded.stderr.strip().splitlines()[-1]}")
        if loaded.stdout.strip():
            pytest.fail(f"loading the plugin imports {', '.join(loaded.stdout.split())}")

    def test_the_backend_has_the_name_it_is_asked_for(self) -> None:
        assert get_backend(self.backend).name == self.backend

    def test_only_capabilities_there_are_are_claimed(self) -> None:
        assert get_backend(self.backend).capabilities - set(CAPABILITIES) == set()

    @pytest.mark.parametrize("capability", CAPABILITIES)
    def test_what_is_claimed_is_what_is_there(self, first: Problem, capability: str) -> None:
        protocol = getattr(protocols, capability)
        there, claimed = isinstance(first.objective, protocol), first.claims(capability)
        if claimed and not there:
            pytest.fail(f"{capability} is claimed, and the objective does not implement it")
        if there and not claimed:
            pytest.fail(f"the objective implements {capability}, which is not claimed")

    def test_the_objective_has_every_member_of_the_contract(self, first: Problem) -> None:
        members = [name for name in vars(Objective) if not name.startswith("_")]
        assert [name for name in members if not hasattr(first.objective, name)] == []

    def test_the_model_belongs_to_the_backend(self, first: Problem) -> None:
        assert owner_of(first.model) == self.backend

    @pytest.mark.parametrize("other", [None, 3, "text", object()], ids=lambda o: type(o).__name__)
    def test_other_objects_do_not(self, other: object) -> None:
        assert owner_of(other) != self.backend

    def test_methods_can_be_called(self) -> None:
        models = get_backend(self.backend).models
        assert all(map(callable, models.values()))
