"""The torch backend conforms, and the page of what is supported says what the kit found."""

from importlib.metadata import entry_points

import pytest
from conformance import support_page

from upweight.testing.running import run

if not entry_points(group="upweight.backends", name="torch"):
    pytest.skip("upweight-torch is not installed", allow_module_level=True)

# The kit runs once, in the process that has both of these tests.
pytestmark = pytest.mark.xdist_group("kit")


@pytest.fixture(scope="module")
def report():
    return run("conformance.torch_author:TorchAuthor")


def test_the_torch_backend_conforms(report):
    assert report.conforms, report.as_text()
    assert {result.outcome for result in report.results} == {"passed"}, report.as_text()


def test_the_page_of_what_is_supported_is_what_the_kit_finds(report, tmp_path):
    support_page.assert_says(report, tmp_path)
