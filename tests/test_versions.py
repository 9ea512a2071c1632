"""The distributions are released together, under one version."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BACKENDS = sorted(ROOT.glob("backends/*/pyproject.toml"))


def project(pyproject):
    return tomllib.loads(pyproject.read_text())["project"]


@pytest.fixture
def core():
    return project(ROOT / "core/pyproject.toml")


@pytest.mark.parametrize("pyproject", BACKENDS, ids=lambda path: path.parent.name)
def test_a_backend_has_the_version_of_core_and_needs_just_that(core, pyproject):
    backend = project(pyproject)
    assert backend["version"] == core["version"]
    assert f"upweight=={core['version']}" in backend["dependencies"]


@pytest.mark.parametrize("pyproject", BACKENDS, ids=lambda path: path.parent.name)
def test_the_extra_of_a_backend_installs_the_version_of_core(core, pyproject):
    extra = core["optional-dependencies"][pyproject.parent.name]
    assert extra == [f"{project(pyproject)['name']}=={core['version']}"]
