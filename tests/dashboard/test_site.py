"""The published dashboard in headless Chromium, opened from disk: every graph draws, and nothing asks a network."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.dashboard
BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"
SITE = BENCHMARKS / ".asv" / "html"
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1400,900"
)


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver")
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (binary and driver):
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    for flag in FLAGS.split():
        options.add_argument(flag)
    options.binary_location = binary
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    chrome = webdriver.Chrome(service=webdriver.ChromeService(driver), options=options)
    yield chrome
    chrome.quit()


@pytest.fixture(scope="module")
def site():
    subprocess.run([sys.executable, BENCHMARKS / "dashboard.py"], check=True, timeout=300)
    return SITE.as_uri()


def wait_for(browser, script, *arguments):
    from selenium.webdriver.support.wait import WebDriverWait

    return WebDriverWait(browser, 20).until(lambda b: b.execute_script(script, *arguments))


def check_quiet(browser):
    """No request to a network, no error of a script."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    assert {url for url in asked if not url.startswith(("file:", "data:"))} == set()
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_front_page(browser, site):
    browser.get(f"{site}/index.html")
    assert browser.title == "minigrad: measured"
    tables = browser.find_elements("tag name", "table")
    assert len(tables) == len(list((BENCHMARKS / "results").glob("*.json")))
    assert all("minigrad" in table.text for table in tables)
    browser.find_element("link text", "Every benchmark, commit by commit").click()
    assert wait_for(browser, "return document.querySelectorAll('#summarylist-body tr').length > 1")
    check_quiet(browser)


def test_every_graph_draws(browser, site):
    """Each has as many lines in its legend as it has frameworks (or what else is on a graph), and marks."""
    index = json.loads((SITE / "index.json").read_text())
    assert index["benchmarks"]
    for name, benchmark in index["benchmarks"].items():
        browser.get("about:blank")
        browser.get(f"{site}/graphs.html#/{name}")
        labels = "return [...document.querySelectorAll('.legendLabel')].map(e => e.textContent)"
        found = wait_for(browser, labels)
        if "framework" in benchmark["param_names"]:
            frameworks = [v.strip("'") for v in benchmark["params"][benchmark["param_names"].index("framework")]]
            assert [f for f in frameworks if not any(f"framework-{f}" in label for label in found)] == [], name
        drawn = """
            const canvas = document.querySelector('#main-graph canvas.flot-base'), data = canvas.getContext('2d')
                .getImageData(0, 0, canvas.width, canvas.height).data;
            return data.some(value => value > 0)
        """
        assert wait_for(browser, drawn), name
    check_quiet(browser)
