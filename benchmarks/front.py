"""The dashboard's front page: one table of all that `report.py` measured, and minigrad's curves over the commits.

All in one file without a script: numbers, bars and curves are HTML, CSS and SVG.
"""

import ast
import html
import json
import math
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import tables

HERE = Path(__file__).parent
WAYS = {  # beside plain minigrad; a column each, if anything was measured
    "minigrad-compiled": "minigrad, compiled",
    "torch": "PyTorch",
    "torch fused": "PyTorch, fused",
    "torch.compile": "torch.compile",
    "jax": "JAX",
}
FAMILIES = ("steps", "training", "mnist", "operations", "inference", "losses", "linear_cross_entropy", "optimizers")
STYLE = (HERE / "front.css").read_text()


@dataclass
class Family:
    """The results of one family: a JSON file of `results/`."""

    name: str
    machine: dict
    date: str
    rows: list

    @property
    def about(self):
        """The first line of the docstring of the file that measures it."""
        for path in (HERE / "suite" / f"{self.name}.py", HERE / f"{self.name}.py"):
            if path.exists():
                return ast.get_docstring(ast.parse(path.read_text())).split("\n")[0]
        return ""


def families(results):
    """Those that compare minigrad with peers, the most telling first."""
    found = {}
    for path in sorted(Path(results).glob("*.json")):
        content = json.loads(path.read_text())
        rows = [row for row in content["rows"] if "ratio" in row and "minigrad" in tables.times(row)]
        if rows:
            found[path.stem] = Family(path.stem, content["machine"], content["date"], rows)
    return [found[name] for name in dict.fromkeys([*FAMILIES, *found]) if name in found]


def best(row, start="torch"):
    """The fastest peer of a kind, or None: (name, ratio, goal)."""
    found = {name: ratio for name, ratio in row["ratio"].items() if name.startswith(start)}
    if not found:
        return None
    name = min(found, key=found.get)
    return name, found[name], (row.get("goal") or {}).get(start)


def mean(ratios):
    """The geometric one."""
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def tag(name, content, **attributes):
    """An element; attributes that are None are left out."""
    given = {k.strip("_").replace("_", "-"): html.escape(str(v)) for k, v in attributes.items() if v is not None}
    written = "".join(f' {k}="{v}"' for k, v in given.items())
    return f"<{name}{written}>{content}</{name}>"


def number(ratio):
    return f"{ratio:.3g}"


def bar(ratio, spread, goal, low=0.5, high=50, width=96):
    """A ratio on a logarithmic scale: a bar from 1x, its spread as a line, the goal as a mark."""

    def x(value):
        return round(width * math.log(min(max(value, low), high) / low) / math.log(high / low), 1)

    start, end = sorted((x(1), x(ratio)))
    parts = [f'<rect x="{start}" y="3" width="{max(end - start, 1):.1f}" height="10" rx="2"/>']
    if spread:
        parts.append(f'<path class="spread" d="M{x(spread[0])} 8H{x(spread[1])}"/>')
    parts.append(f'<path class="one" d="M{x(1)} 0V16"/>')
    if goal:
        parts.append(f'<path class="goal" d="M{x(goal)} 0V16"/>')
    return tag("svg", "".join(parts), viewBox=f"0 0 {width} 16", width=width, height=16, aria_hidden="true")


def verdict(ratio, goal):
    return "slower" if ratio < 1 else "short" if goal and ratio < goal else "good"


def ratio_cell(row, start, label):
    """Ratio, spread and goal beside one kind of peer, with a bar."""
    found = best(row, start)
    if not found:
        return tag("td", "", _class="ratio")
    name, ratio, goal = found
    spread = row.get("spread", {}).get(name)
    text = tag("b", f"{number(ratio)}&times;")
    if spread:
        text += " " + tag("small", f"{number(spread[0])}&ndash;{number(spread[1])}", title="the ratio of the quartiles")
    if goal:
        text += " " + tag("small", f"goal {goal:g}" + (" ✓" if ratio >= goal else ""), _class="wanted")
    return tag("td", bar(ratio, spread, goal) + tag("span", text), _class=f"ratio {verdict(ratio, goal)}", data_l=label)


def limit_cell(row):
    share, _, of = html.escape(row.get("limit", "")).partition(" of ")
    text = f"{share} {tag('small', 'of ' + of)}" if share else ""
    return tag("td", text, _class="limit", title=f"of {of}" if of else None, data_l="of the limit")


def remarks(row):
    """What has no column: contenders of one family, memory, accuracy."""
    others = {k: tables.duration(v) for k, v in tables.times(row).items() if k not in WAYS and k != "minigrad"}
    found = {"also": others, **{k: row[k] for k in ("memory", "accuracy") if k in row}}
    return [f"{label}: " + ", ".join(f"{k} {v}" for k, v in parts.items()) for label, parts in found.items() if parts]


def table_row(family, row, ways, curves):
    times, fastest, notes = tables.times(row), best(row), remarks(row)
    cells = [tag("th", html.escape(row["work"]), scope="row")]
    cells.append(tag("td", tables.duration(times["minigrad"]), _class="ours", data_l="minigrad"))
    for name in ways:
        text, label = tables.duration(times[name]) if name in times else "", WAYS[name]
        mark = "best" if fastest and name == fastest[0] else None
        cells.append(tag("td", text, _class=mark, data_l=label))
    cells += [ratio_cell(row, "torch", "beside PyTorch"), ratio_cell(row, "jax", "beside JAX"), limit_cell(row)]
    cells.append(tag("td", curves.get((family.name, row["work"]), ""), _class="curve", data_l="commits"))
    written = tag("tr", "".join(cells), _class="noted" if notes else None)
    if notes:
        written += tag("tr", tag("td", html.escape("; ".join(notes)), colspan=len(ways) + 6), _class="notes")
    return written


def table(found, curves, index):
    """The one table: a group of rows a family."""
    ways = [name for name in WAYS if any(name in tables.times(row) for family in found for row in family.rows)]
    head = [tag("th", text, scope="col") for text in ("work", "minigrad", *(WAYS[name] for name in ways))]
    wide = ("beside PyTorch's best way", "beside JAX")
    head += [tag("th", text, scope="col", _class="left") for text in wide]
    head += [tag("th", "of the limit", scope="col"), tag("th", "over the commits", scope="col", _class="left")]
    parts = [tag("thead", tag("tr", "".join(head)))]
    for family in found:
        link = tag("a", html.escape(family.name.replace("_", " ")), href=graph(index, family.name))
        title = tag("th", f"{link} {tag('span', html.escape(family.about))}", colspan=len(ways) + 6, scope="colgroup")
        rows = [tag("tr", title, _class="family", id=family.name)]
        parts.append(tag("tbody", "".join(rows + [table_row(family, row, ways, curves) for row in family.rows])))
    return tag("div", tag("table", "\n".join(parts)), _class="wide")


def tiles(found):
    """The table in four numbers."""
    torch = [b for family in found for row in family.rows if (b := best(row))]
    jax = [b[1] for family in found for row in family.rows if (b := best(row, "jax"))]
    goals = [b for family in found for row in family.rows for b in (best(row), best(row, "jax")) if b and b[2]]
    shown = [
        (f"{mean([r for _, r, _ in torch]):.1f}&times;", "the geometric mean beside PyTorch's best way, all rows"),
        (f"{sum(r >= 1 for _, r, _ in torch)} of {len(torch)}", "rows in which minigrad is not slower than PyTorch"),
        (f"{sum(r >= goal for _, r, goal in goals)} of {len(goals)}", "goals reached"),
    ]
    if jax:
        shown.insert(1, (f"{mean(jax):.1f}&times;", f"the geometric mean beside jitted JAX, {len(jax)} rows"))
    return tag("div", "".join(tag("p", tag("b", value) + text) for value, text in shown), _class="tiles")


def curve(points, width=84, height=24, label=tables.duration, up=lambda v: 1 / v):
    """A curve through (commit, value): the higher the faster; what changed since the first point beside it."""
    if len(points) < 2:
        return ""
    ys = [math.log(up(value)) for _, value in points]
    low, high = min(ys), max(ys)
    middle, half = (low + high) / 2, max(high - low, 0.2) / 2  # noise of a few per cent is to look like it
    at = [
        (4 + (width - 8) * i / (len(ys) - 1), height / 2 - (y - middle) / half * (height / 2 - 4))
        for i, y in enumerate(ys)
    ]
    line = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in at)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{2.6 if i == len(at) - 1 else 1.6}">'
        f"<title>{html.escape(commit[:8])}: {label(value)}</title></circle>"
        for i, ((x, y), (commit, value)) in enumerate(zip(at, points))
    )
    drawn = tag("svg", f'<path d="{line}"/>{dots}', viewBox=f"0 0 {width} {height}", width=width, height=height)
    return drawn + tag("small", f"{math.exp(ys[-1] - ys[0]):.2f}&times;", title=f"the speed of {points[0][0][:8]}")


def history(index, load):
    """{(family, case): [(commit, seconds)]} of minigrad, oldest first, of asv's published graphs.

    index: asv's index.json; load(benchmark): its points, [revision, values].
    """
    found = {}
    for name, benchmark in index["benchmarks"].items():
        if benchmark["param_names"] != ["framework", "case"] or "'minigrad'" not in benchmark["params"][0]:
            continue
        frameworks, cases = benchmark["params"]
        first = frameworks.index("'minigrad'") * len(cases)
        for revision, values in load(name):
            for case, value in zip(cases, (values or [])[first:]):
                if value is not None:
                    key = name.split(".")[0], ast.literal_eval(case)
                    found.setdefault(key, {})[revision] = value
    hashes = {int(revision): commit for revision, commit in index["revision_to_hash"].items()}
    return {key: [(hashes[r], v) for r, v in sorted(points.items())] for key, points in found.items()}


def graph(index, family, case=None):
    """The address of asv's page of a family's times, or of one case."""
    names = [name for name in index["benchmarks"] if name.startswith(f"{family}.") and "time" in name]
    if not names:
        return None
    chosen = f"&p-case={quote(repr(case))}" if case else ""
    return f"graphs.html#{quote(names[0])}?y-axis-scale=log{chosen}"


def linked(index, family, case, drawn):
    address = graph(index, family, case)
    return tag("a", drawn, href=address, title="all frameworks, commit by commit") if drawn and address else drawn


def summary_curves(index, past):
    """A card a family: the geometric mean of minigrad's speed over the cases that every commit has."""
    cards = []
    for family in dict.fromkeys(family for family, _ in past):
        cases = [dict(points) for (name, _), points in past.items() if name == family]
        commits = dict.fromkeys(c for case in cases for c in case)
        commits = [c for c in commits if sum(c in case for case in cases) > len(cases) / 2]
        cases = [case for case in cases if all(c in case for c in commits)]
        if len(commits) < 2 or not cases:
            continue
        points = [(c, mean([case[c] / case[commits[0]] for case in cases])) for c in commits]
        drawn = curve(points, 220, 60, label=lambda v: f"{1 / v:.2f}&times; the first speed")
        card = tag("b", html.escape(family)) + tag("span", f"{len(cases)} case{'s' * (len(cases) > 1)}") + drawn
        cards.append(tag("a", card, href=graph(index, family), _class="card"))
    return tag("div", "".join(cards), _class="cards")


def commit_list(commits):
    """Those with points, newest first; asv's graphs link here."""
    rows = "".join(
        tag("tr", tag("td", tag("code", c["hash"][:8])) + tag("td", c["date"]) + tag("td", html.escape(c["subject"])),
            id=c["hash"][:8])
        for c in commits
    )  # fmt: skip
    return tag("table", rows, _class="commits")


def machine_list(found):
    """What was measured on and with; families may have been measured on different days."""
    groups = {}
    for family in found:
        key = ", ".join(f"{k} {v}" for k, v in family.machine.items() if v != "not installed")
        groups.setdefault(f"{family.date}: {key}", []).append(family.name.replace("_", " "))
    text = "".join(tag("dt", html.escape(", ".join(v))) + tag("dd", html.escape(k)) for k, v in groups.items())
    return tag("dl", text)


def document(title, body):
    """A page, complete in one file."""
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="swallow.ico">
<style>
{STYLE}</style>
{body}
</html>
"""


def page(results, index, load, commits, threads=None):
    """The whole page. threads: the address of the page on threads, if there is one."""
    found, past = families(results), history(index, load)
    curves = {key: linked(index, *key, curve(points)) for key, points in past.items()}
    links = [("#table", "work by work"), ("#curves", "over the commits")]
    links += [(threads, "threads")] if threads else []
    links += [("#how", "how it is measured"), ("graphs.html#/", "asv: all graphs"),
              ("graphs.html#/summarylist", "list"), ("graphs.html#/regressions", "regressions")]  # fmt: skip
    cpu = found[0].machine if found else {}
    where = f" on {cpu['cores']} cores of an {cpu['cpu']}" if cpu else ""
    return document(
        "minigrad: measured",
        f"""<header>
<h1>minigrad beside its peers</h1>
<p>PyTorch's API for small and middle-sized networks{html.escape(where)}: how long a piece of work takes, how many
times longer the others take for it, and how far that is from what the machine can do.</p>
<nav>{"".join(tag("a", text, href=address) for address, text in links)}</nav>
</header>
<main>
{tiles(found) if found else ""}
<h2 id="table">Work by work</h2>
<p class="key">Bars are ratios on a logarithmic scale, from 1&times; on; the line in a bar is the spread of the run.
<i class="good"></i> as wanted, <i class="short"></i> below the goal <i class="mark"></i>,
<i class="slower"></i> slower than the peer. PyTorch's fastest way is underlined.</p>
{table(found, curves, index)}
<h2 id="curves">Over the commits</h2>
<p>minigrad's speed since the first commit that asv measured, the geometric mean of a family's cases; up is faster. A
click leads to asv's graph, in which frameworks are lines.</p>
{summary_curves(index, past)}
<h3>Measured commits</h3>
{commit_list(commits)}
<h2 id="how">How it is measured</h2>
<p>{html.escape(tables.INTRODUCTION)}</p>
<p>Every measurement warms up first, in a process of its own from whose environment <code>OPENBLAS_CORETYPE</code> and
<code>OPENBLAS_L2_SIZE</code> were removed. <code>make report</code> measures the table, <code>make bench</code> the
curves.</p>
{machine_list(found)}
</main>""",
    )
