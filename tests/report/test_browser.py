"""The page as a browser shows it: with the keyboard, on a phone, and without loading anything."""

import json

import numpy as np
import pytest
from report.stores import HOSTILE, stored

from upweight.report import write_report

MATRIX = np.random.default_rng(0).standard_normal((6, 9))
IDS = {"test": [f"scan-{i}" for i in range(6)], "train": [f"train-{i}" for i in range(9)]}
LABELS = [*HOSTILE, "a", "b", "c"]
#: By their codes, so that the tests can be collected without selenium.
TAB, ENTER, ESCAPE = "\ue004", "\ue007", "\ue00c"


@pytest.fixture
def page(tmp_path):
    """Return the address of a page with ids, images and hostile labels."""
    store = stored(MATRIX, tmp_path / "g", component="influences", coords=IDS)
    write_report(
        store,
        tmp_path / "p.html",
        component="influences",
        train_samples=np.random.default_rng(1).random((9, 8, 8)),
        test_samples=HOSTILE * 2,
        train_labels=[*HOSTILE, *"abcdef"],
        test_labels=LABELS,
        predictions=["a"] * 6,
        title=HOSTILE[0],
        progress=False,
    )
    return (tmp_path / "p.html").as_uri()


@pytest.fixture
def opened(browser, page):
    """Return the browser with the page in it, and nothing in its logs of before."""
    browser.get("about:blank")  # what Chromium begins with loads things of its own
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(page)
    return browser


def pressed(browser, *keys):
    """Press keys one after the other, wherever the focus is."""
    from selenium.webdriver import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


def every(browser, script):
    return browser.execute_script(f"return Array.from({script})")


def rows(browser, section="tests"):
    """Return the names of the samples of a table that can be seen, from the top."""
    seen = f'document.querySelectorAll("#{section} tbody > tr:not([hidden]) > th .name")'
    return every(browser, f"{seen}, (one) => one.textContent")


def focused(browser):
    return browser.execute_script("return document.activeElement")


def tab_to(browser, text):
    """Press Tab until an element of this text has the focus."""
    for _ in range(40):
        pressed(browser, TAB)
        if focused(browser).text.startswith(text):
            return focused(browser)
    raise AssertionError(f"Tab does not reach {text!r}.")


def test_nothing_is_requested_and_the_console_is_empty(opened, page):
    pressed(opened, "/", "scan", ESCAPE)
    opened.execute_script("document.querySelector('.heading button').click()")
    messages = [json.loads(one["message"])["message"] for one in opened.get_log("performance")]
    sent = [m for m in messages if m["method"] == "Network.requestWillBeSent"]
    urls = {m["params"]["request"]["url"] for m in sent}
    assert page in urls
    assert {url for url in urls if not url.startswith("data:")} == {page}
    assert opened.get_log("browser") == []
    loaded = every(opened, 'performance.getEntriesByType("resource"), (one) => one.name')
    assert [name for name in loaded if not name.startswith("data:")] == []


def test_the_policy_stops_a_script_that_is_not_of_the_page(opened):
    opened.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.ran = true';"
        "document.body.append(s);"
        "const i = new Image(); i.src = 'file:///nowhere.png'; document.body.append(i);"
    )
    assert opened.execute_script("return window.ran") is None
    assert "Content Security Policy" in " ".join(
        one["message"] for one in opened.get_log("browser")
    )


def test_markup_in_the_data_shows_as_text(opened):
    assert opened.title == HOSTILE[0]
    cells = every(opened, 'document.querySelectorAll("#tests tbody td"), (one) => one.textContent')
    assert HOSTILE[0] in cells
    assert HOSTILE[1] in cells
    shown = opened.find_element("id", "tests").text
    assert "<script>alert(1)</script>" in shown
    assert opened.execute_script("return document.scripts.length") == 2
    assert every(opened, "document.images, (one) => one.src.slice(0, 10)") == ["data:image"] * len(
        every(opened, "document.images, (one) => 1")
    )


def test_a_sample_is_found_by_keyboard(opened):
    assert rows(opened) == IDS["test"]
    pressed(opened, "/")
    assert focused(opened).get_attribute("id") == "find"
    pressed(opened, "scan-4")
    assert rows(opened) == ["scan-4"]
    told = opened.find_element("id", "found")
    assert told.get_attribute("aria-live") == "polite"
    assert told.text.startswith("Showing 1 of 6 test samples, and 0 of ")
    pressed(opened, *["\ue003"] * 6, "/script")  # backspaces; a slash is now a letter
    assert rows(opened) == ["scan-0", "scan-3"]


def test_a_training_sample_finds_the_tests_that_it_is_listed_for(opened, tmp_path):
    write_report(tmp_path / "g/influences", tmp_path / "k.html", k=1, progress=False)
    opened.get((tmp_path / "k.html").as_uri())
    best = int(MATRIX[0].argmax())
    pressed(opened, "/", f"#{best}")
    extremes = np.stack([MATRIX.argmax(axis=1), MATRIX.argmin(axis=1)])
    listed = {f"#{i}" for i in np.flatnonzero((extremes == best).any(axis=0))}
    assert set(rows(opened)) == listed | {f"#{best}"} & {f"#{i}" for i in range(6)}


def test_sorting_by_keyboard_changes_the_order_and_says_so(opened):
    button = tab_to(opened, "Top proponent")
    header = button.find_element("xpath", "..")
    assert header.get_attribute("aria-sort") == "none"
    rising = [f"scan-{i}" for i in np.argsort(MATRIX.max(axis=1))]
    pressed(opened, ENTER)
    assert (header.get_attribute("aria-sort"), rows(opened)) == ("ascending", rising)
    pressed(opened, ENTER)
    assert (header.get_attribute("aria-sort"), rows(opened)) == ("descending", rising[::-1])
    tab_to(opened, "Top opponent")
    pressed(opened, " ")
    assert header.get_attribute("aria-sort") == "none"
    assert rows(opened) == [f"scan-{i}" for i in np.argsort(MATRIX.min(axis=1))]


def test_lists_of_a_sample_are_opened_by_keyboard(opened):
    button = tab_to(opened, "scan-2")
    under = opened.find_element("id", button.get_attribute("aria-controls"))
    assert (button.get_attribute("aria-expanded"), under.is_displayed()) == ("false", False)
    pressed(opened, ENTER)
    assert (button.get_attribute("aria-expanded"), under.is_displayed()) == ("true", True)
    names = [one.text for one in under.find_elements("css selector", "section:first-child .name")]
    falling = np.argsort(-MATRIX[2])
    assert names == [f"train-{i}" for i in falling if MATRIX[2, i] > 0]
    outline = opened.execute_script(
        "return getComputedStyle(arguments[0]).outlineStyle", focused(opened)
    )
    assert outline == "solid"


@pytest.mark.parametrize("width", [320, 360, 1280])
def test_the_page_does_not_scroll_sideways(opened, width):
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        opened.execute_script("document.querySelector('.heading button').click()")
        opened.execute_script("document.querySelector('details').open = true")
        assert opened.execute_script("return innerWidth") == width
        assert opened.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_controls_and_images_have_names(opened):
    opened.execute_script("document.querySelector('.heading button').click()")
    nodes = opened.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = {"button", "image", "img", "searchbox", "link", "heading", "table", "columnheader"}
    found = [node for node in nodes if node.get("role", {}).get("value") in roles]
    assert {node["role"]["value"] for node in found} >= {"button", "searchbox", "table", "heading"}
    nameless = [node["role"]["value"] for node in found if not node["name"].get("value")]
    assert nameless == []


def test_without_javascript_there_are_summary_and_provenance(browser, page):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(page)
        shown = browser.find_element("tag name", "body").text
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert "influences of 9 training samples on 6 test samples" in shown
    assert "need JavaScript" in shown


def test_numbers_of_samples_make_a_page_of_their_own(browser, tmp_path):
    numbers = np.arange(4.0)
    write_report(stored(numbers, tmp_path / "n"), tmp_path / "n.html", progress=False)
    browser.get((tmp_path / "n.html").as_uri())
    assert rows(browser, "suspects") == ["#3", "#2", "#1", "#0"]
    assert browser.find_element("id", "found").text == "Showing 4 of 4 samples."
    assert browser.get_log("browser") == []
