"""The example of a backend is in the documentation as it stands, and as short as it says."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/writing-a-backend.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "tests/example_backend"
FILES = [
    EXAMPLE / "pyproject.toml",
    *(path for path in EXAMPLE.rglob("*.py") if path.stat().st_size),
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_page_shows_each_file_of_the_example(path):
    assert f"\n{path.read_text(encoding='utf-8').rstrip()}\n```" in PAGE


def test_the_example_has_some_150_lines():
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in FILES) < 155
