"""The built site stands alone, shows formulas as formulas, and has a place for every public name."""

import ast
import re
import zlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SITE = ROOT / "site"
PAGES = sorted(SITE.rglob("*.html"))
LOADED = re.compile(r"""<(?:script|img|iframe|source)[^>]*\ssrc=["']?([^"'\s>]+)""")
STYLE = re.compile(r"""<link[^>]*rel=["']?(?:stylesheet|preload|preconnect)["']?[^>]*>""")
CODE = re.compile(r"<(pre|code|script)\b.*?</\1>", re.DOTALL)
PACKAGES = [
    *("core/src/upweight/__init__.pyi", "core/src/upweight/models/__init__.py"),
    *("core/src/upweight/evaluation/__init__.py", "core/src/upweight/plot/__init__.py"),
    *("core/src/upweight/report/__init__.py", "core/src/upweight/testing/__init__.py"),
    "backends/jax/src/upweight_jax/__init__.pyi",
    "backends/torch/src/upweight_torch/__init__.pyi",
]

if not PAGES:
    pytest.skip("the site is not built; `nox -s site` builds it", allow_module_level=True)


@pytest.fixture(scope="module")
def documented():
    """The names that the reference has a place for."""
    inventory = (SITE / "objects.inv").read_bytes()
    entries = zlib.decompress(inventory.split(b"\n", 4)[4]).decode().splitlines()
    return {entry.split(" ", 1)[0] for entry in entries}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(SITE)))
def test_a_page_loads_nothing_from_elsewhere(page):
    text = page.read_text(encoding="utf-8")
    loaded = [*LOADED.findall(text), *STYLE.findall(text)]
    assert loaded
    assert [link for link in loaded if "//" in link] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(SITE)))
def test_formulas_of_a_page_are_formulas(page):
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    assert "arithmatex" not in text
    assert re.findall(r"\\[(\[][^<]{,40}", text) == []


def test_formulas_are_mathml():
    assert "<math" in (SITE / "reference/methods/index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_in_the_reference(package, documented):
    name = ".".join(Path(package).parent.parts).partition("src.")[2]
    public = next(
        ast.literal_eval(statement.value)
        for statement in ast.parse((ROOT / package).read_text(encoding="utf-8")).body
        if isinstance(statement, ast.Assign) and statement.targets[0].id == "__all__"
    )
    assert {f"{name}.{each}" for each in public if each != "__version__"} <= documented
