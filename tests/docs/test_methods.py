"""Every method has a page with its options and defaults, and the table has the figures measured."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from upweight import models
from upweight_torch.backend import torch_backend

DOCS = Path(__file__).parents[2] / "docs"
METHODS = {
    name.removesuffix("_sketch").replace("_", "-"): method
    for name, method in torch_backend.models.items()
}
PARAMETERS = {page: inspect.signature(method).parameters for page, method in METHODS.items()}
COMMON = set.intersection(*map(set, PARAMETERS.values()))
PRECONDITIONERS = [
    models.EkfacPreconditioner,
    models.JacobiPreconditioner,
    models.NystroemPreconditioner,
]
#: How the rows of a method begin in the tables of the benchmarks.
MEASURED = {
    "direct": "Direct",
    "cg": "CG",
    "lissa": "LiSSA",
    "arnoldi": "Arnoldi",
    "nystroem": "Nyström",
    "ekfac": "EK-FAC",
    "gram": "Gram",
    "inverse-harmonic-mean": "harmonic mean",
    "gradient": "gradients",
}


def section(page, heading):
    """Return a page from a heading to the next of its level."""
    level = heading.partition(" ")[0]
    text = (DOCS / page).read_text(encoding="utf-8").partition(f"\n{heading}\n")[2]
    return re.split(f"^{level} ", text, flags=re.MULTILINE)[0]


def rows(text, beginning):
    """Return the cells of the rows of tables whose first cell begins so."""
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    return [row for row in cells if row and row[0].startswith(beginning)]


def without_code(text):
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def numbers(text):
    return set(re.findall(r"\d+\.\d+", text))


def test_each_method_has_its_page_and_each_page_its_method():
    assert sorted(METHODS) == sorted(page.stem for page in (DOCS / "methods").glob("*.md"))


@pytest.mark.parametrize("page", METHODS)
def test_a_page_names_its_method_and_the_choice_links_to_it(page):
    name = METHODS[page].__name__
    text = (DOCS / f"methods/{page}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {name}\n")
    assert f"[`{name}`](methods/{page}.md)" in (DOCS / "methods.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", METHODS)
def test_a_page_has_the_options_of_its_method_with_their_defaults(page):
    told = rows(section(f"methods/{page}.md", "## Options"), "`")
    defaults = {
        name: "required" if option.default is option.empty else option.default
        for name, option in PARAMETERS[page].items()
        if name not in COMMON
    }
    said = {row[0].strip("`"): row[1] for row in told}
    assert list(said) == [row[0].strip("`") for row in told]  # none is told twice
    assert {
        name: default if default == "required" else ast.literal_eval(default.strip("`"))
        for name, default in said.items()
    } == defaults


@pytest.mark.parametrize("preconditioner", PRECONDITIONERS)
def test_the_page_of_conjugate_gradients_has_each_preconditioner_with_its_defaults(preconditioner):
    assert f"`{preconditioner()!r}`" in (DOCS / "methods/cg.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", METHODS)
def test_figures_of_the_decision_table_are_those_of_the_benchmarks(page):
    [row] = rows((DOCS / "methods.md").read_text(encoding="utf-8"), f"`{METHODS[page].__name__}`")
    scores = rows(section("benchmarks.md", "## Linear datamodeling score"), MEASURED[page])
    heading = "### 64-32-10" if page == "direct" else "## Rankings"
    orders = rows(section("benchmarks.md", heading), MEASURED[page])
    score, order, seconds = map(numbers, row[-3:])
    assert score <= {measured[1] for measured in scores}
    assert seconds <= {measured[-1] for measured in scores}
    assert order <= {cell for measured in orders for cell in measured[1:]}
    assert order


@pytest.mark.parametrize("page", METHODS)
def test_figures_in_the_text_of_a_page_are_in_the_row_of_some_benchmark(page):
    text = without_code((DOCS / f"methods/{page}.md").read_text(encoding="utf-8"))
    sections = [
        section("benchmarks.md", f"## {title}")
        for title in ("Rankings", "Linear datamodeling score")
    ]
    measured = set().union(*map(numbers, sections))
    assert {number for number in numbers(text) if re.fullmatch(r"0\.\d{3}", number)} <= measured
