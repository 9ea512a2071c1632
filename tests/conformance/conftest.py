"""A backend registered for one run of the kit."""

import pytest

from upweight import plugins
from upweight.testing.running import run


@pytest.fixture
def tried():
    """Return a function that runs groups of the kit on a plugin."""
    names = []

    def tried(plugin, *groups):
        name = plugin.backend.name
        plugins.register(plugin, name)
        names.append(name)
        return run(name, *([groups] if groups else []))

    yield tried
    for name in names:
        plugins.unregister(name)
