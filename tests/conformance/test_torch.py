"""The torch backend conforms, and the page of what is supported says what the kit found."""

from importlib.metadata import entry_points

import pytest
from conformance import support_page

from upweight.testing.running import run

if not entry_points(group="upweight.backends", name="torch"):
    pytest.skip("upweight-torch is not installed", allow_module_level=True)


def test_the_torch_backend_conforms_as_the_page_of_support_says(tmp_path):
    report = run("conformance.torch_author:TorchAuthor")
    assert report.conforms, report.as_text()
    assert {result.outcome for result in report.results} == {"passed"}, report.as_text()
    support_page.assert_says(report, tmp_path)
