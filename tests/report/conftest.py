"""A browser without a window, which loads nothing but the page."""

import shutil
import warnings

import pytest

FLAGS = [
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-extensions"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Return Chromium, driven by selenium; skip where one of them is missing."""
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("there is no chromium with a chromedriver")
    options = selenium.ChromeOptions()
    options.binary_location = chromium
    profile = tmp_path_factory.mktemp("profile")
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = selenium.ChromeService(executable_path=driver)  # or selenium would look for one
    running = selenium.Chrome(options=options, service=service)
    yield running
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # sockets that selenium leaves open
        running.quit()
