"""The JAX backend conforms, and the page of what is supported says what the kit found."""

import subprocess
import sys
from importlib.metadata import entry_points

import pytest
from conformance import support_page

from upweight.testing.running import run

if not entry_points(group="upweight.backends", name="jax"):
    pytest.skip("upweight-jax is not installed, only on the path", allow_module_level=True)


def test_the_jax_backend_conforms_as_the_page_of_support_says(tmp_path):
    report = run("jax_backend.author:JaxAuthor")
    assert report.conforms, report.as_text()
    others = {result.reason for result in report.results if result.outcome != "passed"}
    absent = ("SupportsDenseHessian", "SupportsLinearisedProducts")
    assert others == {f"jax does not claim {name}" for name in absent}, report.as_text()
    support_page.assert_says(report, tmp_path)


def test_in_single_precision_the_kit_says_what_to_set():
    command = [sys.executable, "-m", "upweight.testing", "jax", "--group", "primitives"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "JAX_ENABLE_X64=1" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
