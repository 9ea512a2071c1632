"""The Python code of the README and of the documentation runs as it stands."""

from importlib.metadata import entry_points
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(str(page.relative_to(ROOT)) for page in ROOT.glob("docs/**/*.md"))]
EXAMPLE = "docs/writing-a-backend.md"


@pytest.mark.parametrize("page", PAGES)
def test_code_of_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    if page == EXAMPLE and not entry_points(group="upweight.backends", name="autograd"):
        pytest.skip("the example of the page, tests/example_backend, is not installed")
    monkeypatch.chdir(tmp_path)
    for example in Sybil(parsers=[PythonCodeBlockParser()]).parse(ROOT / page).examples():
        example.evaluate()
