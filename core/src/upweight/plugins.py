"""Backends: the contract of a plugin, and how installed plugins are found."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any

import pluggy

from upweight.errors import BackendBrokenError, BackendConflictError, BackendNotInstalledError

#: Group of the entry points that announce a backend: the name is the backend's, the value a module
#: that imports no framework.
GROUP = "upweight.backends"

logger = logging.getLogger(__name__)

hookspec = pluggy.HookspecMarker("upweight")
hookimpl = pluggy.HookimplMarker("upweight")


@dataclass(frozen=True)
class Backend:
    """What a framework brings.

    Attributes:
        name: Name of the backend, the one of its entry point.
        objective: Makes an `Objective` of a model and a loss.
        converter: Makes a `NumpyConverter`.
        aggregator: Makes the aggregator that concatenates a sequence of chunks.
        nested_aggregator: Makes the aggregator that concatenates rows of chunks.
        models: The influence methods by name, each called with a model, a loss and options.
        capabilities: Names of the optional protocols that its objectives implement.
        reference: Rebuilds the reference problem of `upweight.testing` from NumPy weights, as
            `BackendConformance.build` does.
    """

    name: str
    objective: Callable[..., Any]
    converter: Callable[..., Any]
    aggregator: Callable[[], Any]
    nested_aggregator: Callable[[], Any]
    models: Mapping[str, Callable[..., Any]] = field(default_factory=lambda: MappingProxyType({}))
    capabilities: frozenset[str] = frozenset()
    reference: Callable[[Mapping[str, Any]], tuple[Any, Any, Sequence[str]]] | None = None


class Hooks:
    """The hooks of a plugin."""

    @hookspec(firstresult=True)
    def upweight_backend(self, name: str) -> Backend | None:
        """Return the backend of this name, or None. The framework is imported here."""

    @hookspec(firstresult=True)
    def upweight_owner(self, model: object) -> str | None:
        """Return the name of the backend that a model belongs to, without importing anything."""

    @hookspec
    def upweight_models(self, backend: Backend) -> Mapping[str, Callable[..., Any]] | None:
        """Return influence methods to add to a backend, or to replace there, by name."""


def backends() -> tuple[str, ...]:
    """Return the names of the backends that are installed or registered, sorted."""
    registered = (name for name, _ in _manager().list_name_plugin())
    return tuple(sorted({*(entry.name for entry in _installed()), *registered}))


def get_backend(name: str) -> Backend:
    """Return an installed backend; its framework is imported now.

    Raises:
        BackendNotInstalledError: nothing installed offers the name.
        BackendConflictError: two distributions offer the name.
        BackendBrokenError: the plugin or its framework cannot be imported.
    """
    _load(name)
    manager = _manager()
    others = [plugin for other, plugin in manager.list_name_plugin() if other != name]
    try:
        backend = manager.subset_hook_caller("upweight_backend", others)(name=name)
    except Exception as error:
        again = "".join(f' Try `pip install "{other}"`.' for other in _distributions(name))
        raise BackendBrokenError(
            f"The backend {name!r} is installed, but its framework cannot be used: {error}.{again}"
        ) from error
    if backend is None:
        raise BackendBrokenError(
            f"The plugin {name!r} is installed, but offers no backend of that name."
        )
    _load_others(name)
    extra: list[Mapping[str, Any]] = _answers("upweight_models", backend=backend)
    added = {key: model for models in extra for key, model in models.items()}
    merged: Backend = replace(backend, models=MappingProxyType({**backend.models, **added}))
    return merged


def owner_of(model: object) -> str | None:
    """Return the name of the backend that a model belongs to, or None; no framework is imported."""
    _load_others(None)
    owners: list[str] = _answers("upweight_owner", model=model)
    return owners[-1] if owners else None


def register(plugin: object, name: str) -> None:
    """Add a plugin that is not installed as a distribution, for a notebook or a test.

    Raises:
        BackendConflictError: there is a backend of that name already.
    """
    if name in backends():
        raise BackendConflictError(f"There is a backend {name!r} already; unregister it first.")
    _manager().register(plugin, name)


def unregister(name: str) -> None:
    """Take out a plugin that `register` added."""
    _manager().unregister(name=name)


@cache
def _manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager("upweight")
    manager.add_hookspecs(Hooks)
    return manager


def _installed(name: str | None = None) -> list[EntryPoint]:
    found = entry_points(group=GROUP)
    return [entry for entry in found if name is None or entry.name == name]


def _distributions(name: str) -> list[str]:
    """Return the names of the distributions that offer a backend; none if it was registered."""
    return sorted({entry.dist.name for entry in _installed(name) if entry.dist})


def _load(name: str) -> None:
    if _manager().has_plugin(name):
        return
    distributions = _distributions(name)
    if not distributions:
        raise BackendNotInstalledError(
            f"No backend {name!r} is installed; there are {list(backends())}. "
            f'Try `pip install "upweight[{name}]"`.'
        )
    if len(distributions) > 1:
        raise BackendConflictError(
            f"The backend {name!r} is offered by {' and '.join(distributions)}; "
            "uninstall all but one of them."
        )
    logger.debug("the backend %r is loaded from %s", name, distributions[0])
    try:
        _manager().load_setuptools_entrypoints(GROUP, name=name)
    except Exception as error:
        raise BackendBrokenError(
            f"The backend {name!r} of {distributions[0]} is installed, but cannot be imported: "
            f'{error}. Try `pip install --force-reinstall "{distributions[0]}"`.'
        ) from error


def _load_others(name: str | None) -> None:
    """Load every other plugin, which may add methods; one that is broken is named in a warning."""
    for other in {entry.name for entry in _installed()} - {name}:
        try:
            _load(other)
        except (BackendBrokenError, BackendConflictError) as error:
            warnings.warn(f"Left out a broken plugin. {error}", RuntimeWarning, stacklevel=3)


def _answers(hook: str, **arguments: Any) -> list[Any]:
    """Ask each plugin alone, in the order of registration; one that raises is named in a warning."""
    manager = _manager()
    plugins = manager.list_name_plugin()
    answers = []
    for name, plugin in plugins:
        others = [other for _, other in plugins if other is not plugin]
        try:
            found = manager.subset_hook_caller(hook, others)(**arguments)
        except Exception as error:  # whatever a plugin of others does wrong
            warnings.warn(
                f"Left out the plugin {name!r}, whose {hook} failed: {error!r}.",
                RuntimeWarning,
                stacklevel=3,
            )
            continue
        answers += [one for one in (found if isinstance(found, list) else [found]) if one]
    return answers
