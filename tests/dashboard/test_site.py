"""The published dashboard in headless Chromium, opened from disk: every graph draws, and nothing asks a network.

Of two sites: the one of the committed results, and one in which every benchmark has three points for every framework.
"""

import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.dashboard
ROOT = Path(__file__).parent.parent.parent
BENCHMARKS = ROOT / "benchmarks"
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--window-size=1400,900"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
SERIES = """
    const plot = $('#main-graph').data('plot'), canvas = document.querySelector('#main-graph canvas.flot-base');
    if (!plot || !canvas || !plot.getData().length) return null;
    const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    function drawn(color) {
        const rgb = color.match(/\\d+/g);
        for (let i = 0; i < pixels.length; i += 4)
            if (pixels[i + 3] > 60 && rgb.every((c, k) => Math.abs(c - pixels[i + k]) < 13)) return true;
        return false;
    }
    return plot.getData().map(s => ({
        points: s.data.filter(p => p[1] !== null).length, drawn: drawn(s.color),
        label: [...document.querySelectorAll('.legendLabel')].map(e => e.textContent).find(t => t === s.label),
    }));
"""


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (binary and driver):
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    for flag in FLAGS:
        options.add_argument(flag)
    options.binary_location = binary
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    chrome = webdriver.Chrome(service=webdriver.ChromeService(driver), options=options)
    yield chrome
    chrome.quit()


def publish(*arguments):
    """Run dashboard.py, which needs npm, and its registry if the packages are not here yet."""
    lock = (BENCHMARKS / "vendor" / "package-lock.json").read_bytes()
    fetched = BENCHMARKS / ".asv" / "npm" / "package-lock.json"
    if not (fetched.exists() and fetched.read_bytes() == lock):
        if not shutil.which("npm"):
            pytest.skip("needs npm")
        if subprocess.run(["npm", "ping"], capture_output=True, timeout=120).returncode:
            pytest.skip("needs npm's registry")
    subprocess.run([sys.executable, BENCHMARKS / "dashboard.py", *arguments], check=True, timeout=300)


@pytest.fixture(scope="module")
def committed():
    """The site of the results as they are committed."""
    publish()
    return BENCHMARKS / ".asv" / "html"


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A site in which three commits of a repository of its own have a value for everything."""
    home = tmp_path_factory.mktemp("full")
    git = ["git", "-C", home / "repo", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "init", "-q", home / "repo"], check=True)
    for i in range(3):
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", f"commit {i}"], check=True)
    commits = subprocess.check_output([*git, "rev-list", "--reverse", "HEAD"], text=True).split()
    results = BENCHMARKS / "results" / "asv"
    measured = lambda folder, names: [name for name in names if name[8:9] == "-"]  # noqa: E731
    shutil.copytree(results.parent, home / "results", ignore=measured)
    threads = [{"work": "add", "us": {size: {"1": us, "2": us / 2, "4": us} for size, us in (("1", 1), ("1,000", 9))}}]
    (home / "results" / "threads.json").write_text(json.dumps({"machine": {}, "date": "", "rows": threads}))
    machine = json.loads(next(results.glob("*/machine.json")).read_text())
    benchmarks = json.loads((results / "benchmarks.json").read_text())
    benchmarks.pop("version")
    for i, commit in enumerate(commits):
        found = {}
        for name, benchmark in benchmarks.items():
            count = len(list(itertools.product(*benchmark["params"])))
            values = [1e-5 * (1.4 ** (k % 37) + i / 10) for k in range(count)]  # far apart on the logarithmic axis
            found[name] = [values, benchmark["params"], benchmark["version"]]
        text = {
            "commit_hash": commit, "env_name": "test", "date": 1767222000000 + 86400000 * i, "python": "3.11",
            "params": {"machine": machine["machine"], "python": "3.11"}, "requirements": {}, "env_vars": {},
            "result_columns": ["result", "params", "version"], "results": found, "durations": {}, "version": 2,
        }  # fmt: skip
        (home / "results" / "asv" / machine["machine"] / f"{commit[:8]}-test.json").write_text(json.dumps(text))
    config = json.loads((BENCHMARKS / "asv.conf.json").read_text())
    config |= {"repo": "repo", "html_dir": "html"}
    (home / "asv.conf.json").write_text(json.dumps(config))
    publish("--config", home / "asv.conf.json")
    return home / "html"


def wait_for(browser, script, seconds=20):
    """What the script returns as soon as that is true."""
    from selenium.common.exceptions import TimeoutException
    from selenium.webdriver.support.wait import WebDriverWait

    try:
        return WebDriverWait(browser, seconds).until(lambda b: b.execute_script(script))
    except TimeoutException:
        raise AssertionError(f"never came: {script}") from None


def check_quiet(browser):
    """No request to a network, no error of a script, of the pages since this was last called."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    assert {url for url in asked if not url.startswith(("file:", "data:", "about:"))} == set()
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def check_graph(browser, site, name, benchmark, seconds=20):
    """A benchmark's page: frameworks in the legend, and what has points is on the canvas in its colour."""
    browser.get("about:blank")
    browser.get(f"{site.as_uri()}/graphs.html#{name}?y-axis-scale=log")
    series = wait_for(browser, SERIES, seconds)
    assert all(s["drawn"] for s in series if s["points"]), name
    assert any(s["points"] for s in series), name
    if "framework" in benchmark["param_names"]:
        frameworks = [v.strip("'") for v in benchmark["params"][benchmark["param_names"].index("framework")]]
        labels = [f"{s['label']};".replace("framework-", "; framework-") for s in series]
        assert [f for f in frameworks if not any(f"; framework-{f};" in label for label in labels)] == [], name
    return series


def index(site):
    return json.loads((site / "index.json").read_text())["benchmarks"]


def test_front_page(browser, committed):
    browser.get(f"{committed.as_uri()}/index.html")
    assert browser.title == "minigrad: measured"
    rows = browser.execute_script("""
        return [...document.querySelectorAll('.wide tbody tr:not(.family):not(.notes)')].map(
            r => [r.querySelector('.ours').textContent, r.querySelector('.ratio b').textContent])
    """)
    files = (json.loads(path.read_text()) for path in (BENCHMARKS / "results").glob("*.json"))
    assert len(rows) == sum(
        "minigrad" in (row.get("us") or row.get("seconds") or row.get("MB")) for found in files for row in found["rows"]
    )
    assert all(re.fullmatch(r"[\d.]+ [mu]?s", time) and re.fullmatch(r"[\d.]+\xd7", ratio) for time, ratio in rows)
    browser.find_element("link text", "list").click()
    assert wait_for(browser, "return document.querySelectorAll('#summarylist-body tr').length > 1")
    check_quiet(browser)


def test_front_page_on_a_phone_and_in_the_dark(browser, full):
    bright = "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every(c => c > 200)"
    browser.get(f"{full.as_uri()}/index.html")
    light = {"features": [{"name": "prefers-color-scheme", "value": "light"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", light)
    assert browser.execute_script(bright)
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    assert not browser.execute_script(bright)
    phone = {"width": 390, "height": 800, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    assert browser.execute_script("return document.documentElement.scrollWidth") == 390
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", light)
    check_quiet(browser)


def test_a_curve_leads_to_its_graph(browser, full):
    """From a row of the front page to asv's graph of the same case, with all its frameworks."""
    browser.get(f"{full.as_uri()}/index.html")
    row = browser.execute_script("return document.querySelectorAll('.wide .curve a')[1].closest('tr')")
    case = browser.execute_script("return arguments[0].querySelector('th').textContent", row)
    browser.execute_script("arguments[0].querySelector('.curve a').click()", row)
    series = wait_for(browser, SERIES)
    assert len(series) > 1
    assert all(f"case-{case}" in s["label"] and s["points"] == 3 for s in series)
    check_quiet(browser)


def test_threads(browser, full):
    """A page of its own, reached from the front page: a chart a kernel, and every size in the table."""
    browser.get(f"{full.as_uri()}/index.html")
    browser.find_element("link text", "threads").click()
    assert wait_for(browser, "return document.querySelectorAll('.chart circle').length === 4")
    cells = browser.execute_script("return [...document.querySelectorAll('tbody td')].map(e => e.textContent)")
    assert cells[:4] == ["1", "1 us", "0.5 us 2\xd7", "1 us 1\xd7"]
    check_quiet(browser)


def test_every_committed_graph_draws(browser, committed):
    if not index(committed):
        pytest.skip("the measured commits are not in this clone")
    for name, benchmark in index(committed).items():
        check_graph(browser, committed, name, benchmark)
    check_quiet(browser)


def test_every_graph_draws_every_framework(browser, full):
    assert len(index(full)) == len(json.loads((full.parent / "results" / "asv" / "benchmarks.json").read_text())) - 1
    for name, benchmark in index(full).items():
        series = check_graph(browser, full, name, benchmark)
        assert all(s["points"] == 3 and s["drawn"] for s in series), name
    check_quiet(browser)


@pytest.mark.parametrize("page", ["", "summarylist", "regressions"])
def test_overviews(browser, full, page):
    shown = {"": ".benchmark-plot canvas", "summarylist": "#summarylist-body td.value", "regressions": "table"}[page]
    browser.get("about:blank")
    browser.get(f"{full.as_uri()}/graphs.html#/{page}")
    wait_for(browser, f"return document.querySelector('{shown}') !== null")
    check_quiet(browser)


@pytest.mark.parametrize("broken", ["flot is missing", "a line is missing", "a library comes from a network"])
def test_a_broken_site_is_noticed(browser, full, tmp_path, broken):
    site = Path(shutil.copytree(full, tmp_path / "html"))
    name = next(iter(index(site)))
    if broken == "flot is missing":
        (site / "vendor" / "jquery.flot.min.js").unlink()
    elif broken == "a line is missing":
        (site / "graphs.html").write_text(
            (site / "graphs.html").read_text().replace("</head>", "<style>canvas { display: none }</style></head>")
        )
        data = site / "vendor" / "data.js"
        data.write_text(data.read_text().replace("$.ajax = function", "asv_data = {}; $.ajax = function"))
    else:
        page = (site / "graphs.html").read_text()
        (site / "graphs.html").write_text(page.replace("vendor/md5.min.js", "https://example.com/md5.min.js"))
    with pytest.raises(AssertionError):  # noqa: PT012
        check_graph(browser, site, name, index(site)[name], seconds=5)
        check_quiet(browser)
    browser.get("about:blank")
    browser.get_log("performance"), browser.get_log("browser")
