"""Importing is light: heavy packages are imported where they are used, not before."""

import importlib.util
import json
import subprocess
import sys

import pytest

import upweight

FRAMEWORKS = {"equinox", "flax", "jax", "torch"}
HEAVY = FRAMEWORKS | {"dask", "distributed", "pytest", "zarr"}
SCRIPT = "import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"


def modules_after_importing(module):
    """Import a module in a fresh interpreter and list the top-level packages that came with it."""
    command = [sys.executable, "-c", SCRIPT.format(module=module)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name.partition(".")[0] for name in json.loads(printed)}


def test_core_imports_no_framework_and_nothing_heavy():
    everything = "upweight; [getattr(upweight, name) for name in upweight.__all__]"
    assert not modules_after_importing(everything) & HEAVY


def test_the_front_door_is_empty_until_a_name_is_asked_for():
    assert "numpy" not in modules_after_importing("upweight")
    assert set(upweight.__all__) == set(dir(upweight))
    for name in upweight.__all__:
        assert getattr(upweight, name) is not None


def test_the_evaluation_imports_nothing_heavy_and_is_not_loaded_before_it_is_asked_for():
    assert not modules_after_importing("upweight.evaluation") & (HEAVY | {"scipy"})
    script = "import sys, upweight; sys.exit('upweight.evaluation' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_the_report_page_imports_nothing_heavy():
    assert not modules_after_importing("upweight.report") & (HEAVY | {"matplotlib", "scipy"})


def test_the_pictures_are_not_loaded_before_they_are_asked_for():
    assert not modules_after_importing("upweight") & {"matplotlib", "scipy"}
    script = "import sys, upweight; sys.exit('upweight.plot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize(
    "module", ["upweight_jax", "upweight_jax.plugin", "upweight_torch", "upweight_torch.plugin"]
)
def test_a_backend_imports_no_framework_before_a_name_needs_it(module):
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        pytest.skip(f"{module.partition('.')[0]} is not installed")
    assert not modules_after_importing(module) & HEAVY
