"""The dashboard as a static site that opens from disk: asv's graphs, a front page, and no request to any network.

python benchmarks/dashboard.py          writes benchmarks/.asv/html; open index.html

asv's page loads its JavaScript from content networks and its data by requests, which browsers refuse to pages opened
from disk. Here the libraries come from npm packages (needs npm, and the registry once), and the data become a script.
"""

import json
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import tables

HERE = Path(__file__).parent
SITE = HERE / ".asv" / "html"
PACKAGES = HERE / ".asv" / "npm"
LIBRARIES = {  # the end of a URL in asv's page: package, file in it
    "jquery-3.3.1.min.js": ("jquery@3.3.1", "dist/jquery.min.js"),
    "jquery.flot.min.js": ("flot@0.8.3", "jquery.flot.js"),
    "jquery.flot.time.min.js": ("flot@0.8.3", "jquery.flot.time.js"),
    "jquery.flot.selection.min.js": ("flot@0.8.3", "jquery.flot.selection.js"),
    "jquery.flot.categories.min.js": ("flot@0.8.3", "jquery.flot.categories.js"),
    "jquery.flot.orderBars.js": ("flot-orderbars@1.0.0", "js/jquery.flot.orderBars.js"),
    "stupidtable.min.js": ("stupid-table-plugin@1.1.3", "stupidtable.min.js"),
    "md5.min.js": ("blueimp-md5@2.19.0", "js/md5.min.js"),
    "bootstrap.min.js": ("bootstrap@3.1.1", "dist/js/bootstrap.min.js"),
    "bootstrap.min.css": ("bootstrap@3.1.1", "dist/css/bootstrap.min.css"),
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
FRONT = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>minigrad: measured</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 80em; padding: 0 1em }}
table {{ border-collapse: collapse; font-size: 14px }}
th, td {{ border-bottom: 1px solid #ddd; padding: .25em .8em; text-align: right }}
th:first-child, td:first-child {{ text-align: left }}
.machine {{ color: #666; font-size: 13px }}
</style>
<h1>minigrad beside its peers</h1>
<p><a href="graphs.html#/summarylist">Every benchmark, commit by commit</a></p>
{tables}
</html>
"""


def library(package, file):
    """The text of a file in an npm package, which is fetched once."""
    PACKAGES.mkdir(parents=True, exist_ok=True)
    archive = PACKAGES / (package.replace("@", "-") + ".tgz")
    if not archive.exists():
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True, stdout=subprocess.DEVNULL)
            archive.write_bytes(next(Path(folder).glob("*.tgz")).read_bytes())
    with tarfile.open(archive) as packed:
        return packed.extractfile(f"package/{file}").read()


def vendored(page):
    """asv's page with its libraries and data beside it."""
    (SITE / "vendor").mkdir(exist_ok=True)

    def replace(match):
        start, url, name, end = match.groups()
        if name not in LIBRARIES:
            raise SystemExit(f"asv's page loads {url}, for which LIBRARIES has no package")
        (SITE / "vendor" / name).write_bytes(library(*LIBRARIES[name]))
        script = '\n    <script src="vendor/data.js"></script>' if name.startswith("jquery-") else ""
        return f'{start}vendor/{name}"{ATTRIBUTES.sub("", end)}' + (f"</script>{script}" if script else "")

    page = TAG.sub(replace, page)
    return page.replace('<script src="vendor/data.js"></script></script>', '<script src="vendor/data.js"></script>')


def data():
    """All that asv's page would request, as a script."""
    found = {path.relative_to(SITE).as_posix(): json.loads(path.read_text()) for path in SITE.rglob("*.json")}
    found["swallow.ico"] = ""
    return f"var asv_data = {json.dumps(found)};\n{ANSWER}"


def main():
    asv = [sys.executable, "-m", "asv", "--config", str(HERE / "asv.conf.json")]
    subprocess.run([*asv, "publish"], cwd=HERE, check=True)
    page = (SITE / "index.html").read_text()
    (SITE / "graphs.html").write_text(vendored(page))
    (SITE / "vendor" / "data.js").write_text(data())
    (SITE / "index.html").write_text(FRONT.format(tables=tables.page()))
    print(f"open {SITE / 'index.html'}")


if __name__ == "__main__":
    main()
