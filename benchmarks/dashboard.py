"""The dashboard as a static site that opens from disk: a front page, asv's graphs, and no request to any network.

python benchmarks/dashboard.py          writes benchmarks/.asv/html; open index.html

asv's page loads its JavaScript from content networks and its data by requests, which browsers refuse to pages opened
from disk. Here the libraries come from npm packages (`vendor/package-lock.json` has their checksums; needs npm, and the
registry once), and the data become a script.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import front
import scaling

HERE = Path(__file__).parent
PACKAGES = HERE / ".asv" / "npm"
LIBRARIES = {  # the end of a URL in asv's page: the file in an npm package
    "jquery-3.3.1.min.js": "jquery/dist/jquery.min.js",
    "jquery.flot.min.js": "flot/jquery.flot.js",
    "jquery.flot.time.min.js": "flot/jquery.flot.time.js",
    "jquery.flot.selection.min.js": "flot/jquery.flot.selection.js",
    "jquery.flot.categories.min.js": "flot/jquery.flot.categories.js",
    "jquery.flot.orderBars.js": "flot-orderbars/js/jquery.flot.orderBars.js",
    "stupidtable.min.js": "stupid-table-plugin/stupidtable.min.js",
    "md5.min.js": "blueimp-md5/js/md5.min.js",
    "bootstrap.min.js": "bootstrap/dist/js/bootstrap.min.js",
    "bootstrap.min.css": "bootstrap/dist/css/bootstrap.min.css",
}
TAG = re.compile(r'(<(?:script|link)\b[^>]*?(?:src|href)=")(https://[^"]+/([^"/]+))"([^>]*>)')
ATTRIBUTES = re.compile(r'\s(?:integrity|crossorigin|referrerpolicy|onerror)="[^"]*"')
ANSWER = """
// Answers asv's requests from the data above: a page that was opened from disk may not make any.
(function () {
    var ajax = $.ajax;
    $.ajax = function (request) {
        var name = decodeURIComponent(request.url.split("?")[0]);
        if (!(name in asv_data)) return ajax.apply($, arguments);
        var answer = $.Deferred();
        setTimeout(function () { answer.resolve(asv_data[name]); });  // later, as a request: pages register meanwhile
        return answer.promise();
    };
})();
"""
STYLE = """<style>
.benchmark-group { display: inline-block; margin: 0 24px 0 8px; vertical-align: top }
.benchmark-group h1 { margin: 16px 4px 4px; font-size: 18px; text-align: left }
@media (prefers-color-scheme: dark) { html { background: #fff; filter: invert(.91) hue-rotate(180deg) } }
</style>
"""
BACK = '<li><a href="index.html">Front page</a></li>\n\t'


def packages():
    """The folder with the npm packages, which are fetched once."""
    lock = HERE / "vendor" / "package-lock.json"
    installed = PACKAGES / lock.name
    if not (installed.exists() and installed.read_bytes() == lock.read_bytes()):
        shutil.rmtree(PACKAGES, ignore_errors=True)
        PACKAGES.mkdir(parents=True)
        shutil.copy(HERE / "vendor" / "package.json", PACKAGES)
        partly = shutil.copy(lock, PACKAGES)
        try:
            subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=PACKAGES, check=True)
        except BaseException:
            Path(partly).unlink()
            raise
    return PACKAGES / "node_modules"


def vendored(page, site):
    """asv's page with its libraries and data beside it."""
    (site / "vendor").mkdir(exist_ok=True)

    def replace(match):
        start, url, name, end = match.groups()
        if name not in LIBRARIES:
            raise SystemExit(f"asv's page loads {url}, for which LIBRARIES has no package")
        shutil.copy(packages() / LIBRARIES[name], site / "vendor" / name)
        return f'{start}vendor/{name}"{ATTRIBUTES.sub("", end)}'

    data = '<script src="vendor/data.js"></script>\n    <script language'  # before asv's own scripts, after jQuery
    page = TAG.sub(replace, page).replace("<script language", data, 1)
    return page.replace("</head>", f"{STYLE}</head>").replace('<li id="nav-li-"', BACK + '<li id="nav-li-"')


def publish(config):
    """Write asv's own site, which says where it is."""
    from asv.main import main
    from asv.plugins.git import Git

    # asv draws the first parents of a branch only; here commits of merged branches are measured too.
    Git.get_branch_commits = lambda self, branch: self._run_git(["rev-list", branch, "--"]).split()
    sys.argv = ["asv", "--config", str(config), "publish", "--no-pull"]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise


def points(site, benchmark):
    """[revision, values] of a benchmark, all machines after one another."""
    found = [path for path in (site / "graphs").rglob(f"{benchmark}.json") if path.parent.name != "summary"]
    return [point for path in sorted(found) for point in json.loads(path.read_text())]


def has_points(site, benchmark):
    """Whether there is a value at all: a graph without any cannot be drawn."""
    values = (v if isinstance(v, list) else [v] for _, v in points(site, benchmark))
    return any(value is not None for vs in values for value in vs)


def commits(index, repo):
    """What is known of the measured ones, newest first."""
    found = []
    for revision, commit in sorted(index["revision_to_hash"].items(), key=lambda item: -int(item[0])):
        date = datetime.fromtimestamp(index["revision_to_date"][revision] / 1000, UTC)
        command = ["git", "-C", str(repo), "log", "-1", "--format=%s", commit]
        subject = subprocess.run(command, capture_output=True, text=True).stdout.strip()
        found.append({"hash": commit, "date": f"{date:%Y-%m-%d %H:%M}", "subject": subject})
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=HERE / "asv.conf.json", help="another asv.conf.json (tests)")
    config = parser.parse_args().config.resolve()
    settings = json.loads(config.read_text())
    site, repo = config.parent / settings["html_dir"], config.parent / settings["repo"]
    publish(config)

    index = json.loads((site / "index.json").read_text())
    index["benchmarks"] = {k: v for k, v in index["benchmarks"].items() if has_points(site, k)}
    (site / "index.json").write_text(json.dumps(index))
    for path in (site / "graphs").rglob("summary.json"):  # asv's list: without what was never measured
        rows = [row for row in json.loads(path.read_text()) if row["last_value"] is not None]
        path.write_text(json.dumps(rows))
    (site / "graphs.html").write_text(vendored((site / "index.html").read_text(), site))
    data = {path.relative_to(site).as_posix(): json.loads(path.read_text()) for path in site.rglob("*.json")}
    data["swallow.ico"] = ""
    (site / "vendor" / "data.js").write_text(f"var asv_data = {json.dumps(data)};\n{ANSWER}")
    results = config.parent / "results"
    threads = scaling.page(results)
    if threads:
        (site / "threads.html").write_text(threads)
    load, address = (lambda name: points(site, name)), "threads.html" if threads else None
    (site / "index.html").write_text(front.page(results, index, load, commits(index, repo), address))
    print(f"open {site / 'index.html'}")


if __name__ == "__main__":
    main()
