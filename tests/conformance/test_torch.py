"""The torch backend conforms, and the page of what is supported says what the kit found."""

import json
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from upweight.testing.running import run

ROOT = Path(__file__).parents[2]

if not entry_points(group="upweight.backends", name="torch"):
    pytest.skip("upweight-torch is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def report():
    return run("conformance.torch_author:TorchAuthor")


def test_the_torch_backend_conforms(report):
    assert report.conforms, report.as_text()
    assert {result.outcome for result in report.results} == {"passed"}, report.as_text()


def test_the_page_of_what_is_supported_is_what_the_kit_finds(report, tmp_path):
    found = tmp_path / "torch.json"
    found.write_text(json.dumps(report.as_dict()))
    command = [sys.executable, ROOT / "docs/support.py", "--check", found]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
