"""Whatever the data is, the page holds it as data, and loads nothing."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from report.stores import HOSTILE, report, stored

MATRIX = np.random.default_rng(0).standard_normal((3, 5))


@pytest.fixture
def store(tmp_path):
    return stored(MATRIX, tmp_path / "r")


class Elements(HTMLParser):
    """The elements of a page, and the text of its title."""

    def __init__(self, text):
        super().__init__()
        self.found, self.title, self.inside = [], "", None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        self.inside = tag

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, text):
        if self.inside == "title":
            self.title += text


def test_hostile_texts_come_back_as_they_were_and_add_no_element(store, tmp_path):
    plain = report(store, tmp_path / "plain.html", title="plain")[1]
    data, text = report(
        store,
        tmp_path / "p.html",
        train_labels=[*HOSTILE, "$title", "\ud800"],
        test_labels=HOSTILE,
        test_samples=HOSTILE,
        predictions=HOSTILE,
        train_samples=["<!-- <script>"] * 5,
        title=HOSTILE[0] + "\ud800${data}",
    )
    page = Elements(text)
    assert [tag for tag, _ in page.found] == [tag for tag, _ in Elements(plain).found]
    assert page.title == HOSTILE[0] + "\ufffd${data}"
    assert [one["label"] for one in data["tests"]] == HOSTILE
    assert [one["text"] for one in data["tests"]] == HOSTILE
    assert [one["prediction"] for one in data["tests"]] == HOSTILE
    labels = [data["train"][str(i)]["label"] for i in range(5)]
    assert labels == [*HOSTILE, "$title", "\ud800"]
    assert "\u2028" not in text


def test_attributes_of_a_result_are_escaped(store, tmp_path):
    metadata = store / "zarr.json"
    noted = metadata.read_text().replace('"identity"', '"identity_"')
    noted = noted.replace('"complete": true', '"complete": true, "version": "<b>1</b>"')
    metadata.write_text(noted)
    text = report(store, tmp_path / "p.html")[1]
    assert "&lt;b&gt;1&lt;/b&gt;" in text
    assert "<b>" not in text


def test_the_policy_allows_this_script_and_style_and_images_in_the_page_only(store, tmp_path):
    text = report(store, tmp_path / "p.html")[1]
    (policy,) = (a["content"] for tag, a in Elements(text).found if a.get("http-equiv"))
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        (body,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.S)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert rules.pop(rule) == f"'sha256-{digest}'"
    none = dict.fromkeys(["default-src", "base-uri", "form-action"], "'none'")
    assert rules == {**none, "img-src": "data:"}


def test_the_page_refers_to_nothing_elsewhere(store, tmp_path):
    text = report(store, tmp_path / "p.html")[1]
    used = [a.get(name) for _, a in Elements(text).found for name in ("src", "href")]
    assert {one for one in used if one} == {"data:,", "#find"}
    assert not re.search(
        r"https?:|@import|url\(|innerHTML|insertAdjacent|document\.write|eval", text
    )


def test_ids_are_shown_and_name_tests(tmp_path):
    ids = {"test": ["a", "b", "<c>"], "train": np.arange(100, 105)}
    store = stored(MATRIX, tmp_path / "g", component="influences", coords=ids)
    options = {"component": "influences", "tests": ["<c>", "a"]}
    data, _ = report(store, tmp_path / "p.html", **options)
    assert [(one["index"], one["id"]) for one in data["tests"]] == [(2, "<c>"), (0, "a")]
    assert all(one["id"] == str(100 + one["index"]) for one in data["train"].values())


def test_all_ids_are_shown_where_nobody_chose(tmp_path):
    store = stored(MATRIX, tmp_path / "g", component="i", coords={"test": ["a", "b", "c"]})
    data, _ = report(store, tmp_path / "p.html", component="i")
    assert [one["id"] for one in data["tests"]] == ["a", "b", "c"]
    assert not any("id" in one for one in data["train"].values())


def test_the_same_result_gives_the_same_page(store, tmp_path):
    assert report(store, tmp_path / "p.html")[1] == report(store, tmp_path / "q.html")[1]


def test_the_title_names_the_store_without_its_folders(store, tmp_path):
    text = report(store, tmp_path / "p.html")[1]
    assert Elements(text).title == "Report on r"
    assert str(tmp_path) not in text
