"""Run the kit on a backend, outside of any project."""

from __future__ import annotations

import importlib
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from upweight.errors import UpweightError
from upweight.plugins import GROUP as ENTRY_POINTS
from upweight.plugins import get_backend
from upweight.testing.conformance import BackendConformance
from upweight.testing.reference import reference_weights
from upweight.testing.report import GROUPS, Recorder, Report

#: The test file that pytest collects.
SUITE = """
from upweight.testing.running import author_of

class TestBackend(author_of({name!r})):
    pass
"""

#: Nothing of the place where the kit is run, its settings or its folders, plays a part.
SETTINGS = "[pytest]\nxfail_strict = true\n"


def author_of(name: str) -> type[BackendConformance]:
    """Return the answers of the author of a backend.

    Args:
        name: The name of an installed backend that has a `reference`, or "package.module:Class"
            for a class that inherits `BackendConformance`.
    """
    module, _, attribute = name.partition(":")
    if attribute:
        author: type[BackendConformance] = getattr(importlib.import_module(module), attribute)
        return author
    return type("Author", (BackendConformance,), {"backend": name})


def run(name: str, groups: Sequence[str] = GROUPS) -> Report:
    """Run the tests of the kit on a backend.

    Args:
        name: What `author_of` takes.
        groups: Which tests, of `upweight.testing.report.GROUPS`.

    Raises:
        BackendError: the backend is not installed, or is broken.
        UpweightError: the backend refuses one of its types, as its framework is set.
    """
    author = author_of(name)
    backend = get_backend(author.backend)
    _try_out(author)
    recorder = Recorder(tuple(groups))
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "pytest.ini").write_text(SETTINGS)
        # A name of its own, or pytest would take the module of an earlier run in this process.
        suite = Path(folder, f"test_{Path(folder).name}.py")
        suite.write_text(SUITE.format(name=name))
        pytest.main(
            [str(suite), "--import-mode=importlib", "-p", "no:terminal", "-p", "no:cacheprovider"],
            plugins=[recorder],
        )
    return Report(
        backend=author.backend,
        distribution=_distribution(author.backend),
        dtypes=tuple(author.dtypes),
        capabilities=tuple(sorted(backend.capabilities)),
        results=tuple(recorder.results),
        seconds=time.perf_counter() - start,
    )


def _try_out(author: type[BackendConformance]) -> None:
    """Build the reference problem in each type, so that a refusal is said once, and not by each test."""
    for dtype in author.dtypes:
        try:
            author().build(reference_weights(dtype))
        except UpweightError:
            raise
        except Exception:  # what else goes wrong is for the tests to find
            return


def _distribution(name: str) -> str:
    for entry in entry_points(group=ENTRY_POINTS, name=name):
        if entry.dist is not None:
            return f"{entry.dist.name} {entry.dist.version}"
    return "no distribution"
