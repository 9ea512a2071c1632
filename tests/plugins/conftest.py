"""Backends that need no framework, registered in the process or installed as far as Python knows."""

import sys
from types import MappingProxyType

import numpy as np
import pytest
from reference import SoftmaxRegression

from upweight import Backend, ListAggregator, NestedListAggregator, hookimpl, plugins
from upweight.models import CgInfluence, DirectInfluence

#: A plugin whose backend is made where it is asked for.
PLUGIN = """
from upweight import Backend, hookimpl

@hookimpl
def upweight_backend(name):
    if name == "{name}":
        return Backend("{name}", objective=dict, converter=dict, aggregator=list, nested_aggregator=list)
"""


class NumpyConverter:
    def to_numpy(self, x):
        return np.asarray(x)

    def from_numpy(self, x):
        return x


class Fake:
    """The plugin of a backend whose models are softmax regressions on NumPy arrays."""

    name = "fake"

    @hookimpl
    def upweight_backend(self, name):
        if name != self.name:
            return None
        return Backend(
            name=self.name,
            objective=SoftmaxRegression,
            converter=NumpyConverter,
            aggregator=ListAggregator,
            nested_aggregator=NestedListAggregator,
            models=MappingProxyType({"direct": DirectInfluence, "cg": CgInfluence}),
        )

    @hookimpl
    def upweight_owner(self, model):
        return self.name if isinstance(model, SoftmaxRegression) else None


@pytest.fixture(autouse=True)
def _fresh_manager():
    plugins._manager.cache_clear()
    yield
    plugins._manager.cache_clear()


@pytest.fixture
def fake():
    """Register the fake plugin and return it."""
    plugin = Fake()
    plugins.register(plugin, plugin.name)
    return plugin


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that installs a distribution with one module that is a plugin."""
    monkeypatch.syspath_prepend(tmp_path)
    modules = []

    def install(name, source=PLUGIN, *, distribution=None):
        distribution = distribution or f"upweight-{name}"
        module = f"plugin_of_{distribution}".replace("-", "_")
        (tmp_path / f"{module}.py").write_text(source.replace("{name}", name))
        info = tmp_path / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n"
        )
        (info / "entry_points.txt").write_text(f"[upweight.backends]\n{name} = {module}\n")
        modules.append(module)
        return module

    yield install
    for module in modules:
        sys.modules.pop(module, None)
