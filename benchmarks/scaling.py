"""The dashboard's page on threads, of `results/threads.json`: a chart a class of kernels, and one table.

A row of that file has us by size ("1,000") and number of threads. Steps beside a busy process are of `neighbour.json`.
"""

import html
import json
import math
from pathlib import Path

import tables
from front import document, number, tag

CHART = {"width": 300, "height": 150, "left": 34, "bottom": 22}


def read(results):
    """{kernel: {size: {threads: seconds}}} of threads.json; empty where there is none."""
    path, found = Path(results) / "threads.json", {}
    for row in json.loads(path.read_text())["rows"] if path.exists() else ():
        found[row["work"]] = {
            int(size.replace(",", "")): {int(count): us * 1e-6 for count, us in times.items()}
            for size, times in row["us"].items()
        }
    return found


def speedup(times, count):
    """How many times faster than one thread."""
    return times[1] / times[count] if 1 in times and count in times else None


def short(size):
    """1,000,000 as 1M."""
    for scale, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if size >= scale:
            return f"{size / scale:g}{letter}"
    return str(size)


def chart(sizes, counts):
    """The speed beside one thread against the size, both logarithmic; a line a number of threads."""
    width, height, left, bottom = CHART.values()
    low, high = 0.5, 2 ** math.ceil(math.log2(max(counts)))
    first, last = math.log(max(1, min(sizes))), math.log(max(sizes))

    def x(size):
        return left + (width - left - 16) * (math.log(max(1, size)) - first) / ((last - first) or 1)

    def y(ratio):
        ratio = min(max(ratio, low), high)
        return 8 + (height - bottom - 8) * (1 - math.log(ratio / low) / math.log(high / low))

    parts = []
    for tick in (2**k for k in range(-1, int(math.log2(high)) + 1)):
        kind = "one" if tick == 1 else "rule"
        parts.append(f'<path class="{kind}" d="M{left} {y(tick):.1f}H{width - 16}"/>')
        parts.append(f'<text x="{left - 5}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}&times;</text>')
    for size in list(sizes)[:: 1 + len(sizes) // 6]:
        parts.append(f'<text x="{x(size):.1f}" y="{height - 6}" text-anchor="middle">{short(size)}</text>')
    for i, count in enumerate(counts):
        found = [(size, ratio) for size, times in sizes.items() if (ratio := speedup(times, count))]
        line = "L".join(f"{x(size):.1f} {y(ratio):.1f}" for size, ratio in found)
        parts.append(f'<path class="line{i}" d="M{line}"/>' if found else "")
        parts += [
            f'<circle class="line{i}" cx="{x(size):.1f}" cy="{y(ratio):.1f}" r="2.5">'
            f"<title>{size:,}, {count} threads: {number(ratio)}&times;</title></circle>"
            for size, ratio in found
        ]
    return tag("svg", "".join(parts), viewBox=f"0 0 {width} {height}", _class="chart", role="img")


def table(found, counts):
    head = ["kernel", "size", "1 thread", *(f"{count} threads" for count in counts)]
    parts = [tag("thead", tag("tr", "".join(tag("th", text, scope="col") for text in head)))]
    for kernel, sizes in found.items():
        rows = []
        for size, times in sizes.items():
            cells = tag("th", html.escape(kernel), scope="row") + tag("td", f"{size:,}", data_l="size")
            cells += tag("td", tables.duration(times[1]) if 1 in times else "", data_l="1 thread")
            for count in counts:
                ratio = speedup(times, count)
                kind = None if ratio is None else "worse" if ratio < 0.95 else "better" if ratio > 1.05 else None
                text = f"{tables.duration(times[count])} {tag('small', number(ratio) + '&times;')}" if ratio else ""
                cells += tag("td", text, _class=kind, data_l=f"{count} threads")
            rows.append(tag("tr", cells))
        parts.append(tag("tbody", "".join(rows)))
    return tag("div", tag("table", "\n".join(parts)), _class="wide narrow")


def neighbour(results):
    """What threads cost beside a process that keeps a core busy: a table, where it was measured."""
    path = Path(results) / "neighbour.json"
    if not path.exists():
        return ""
    rows = json.loads(path.read_text())["rows"]
    names = list(dict.fromkeys(name for row in rows for name in row["us"]))
    head = tag("thead", tag("tr", "".join(tag("th", html.escape(text), scope="col") for text in ["work", *names])))
    body = "".join(
        tag("tr", tag("th", html.escape(row["work"]), scope="row") + "".join(
            tag("td", tables.duration(us * 1e-6), data_l=name) for name, us in row["us"].items()
        ))
        for row in rows
    )  # fmt: skip
    return "<h2>Beside a busy process</h2>" + tag("div", tag("table", head + tag("tbody", body)), _class="wide narrow")


def page(results):
    """The whole page, or None."""
    found = read(results)
    counts = sorted({count for sizes in found.values() for times in sizes.values() for count in times} - {1})
    if not counts:
        return None
    key = " ".join(f'<i class="line{i}"></i> {count} threads' for i, count in enumerate(counts))
    cards = [
        tag("div", tag("b", html.escape(kernel)) + chart(sizes, counts), _class="card")
        for kernel, sizes in found.items()
    ]
    return document(
        "minigrad: threads",
        f"""<header>
<h1>Threads are only to help</h1>
<p>minigrad's speed beside its own with one thread, against the number of elements, for each class of kernels.</p>
<nav><a href="index.html">minigrad beside its peers</a></nav>
</header>
<main>
<p class="key">{key}; the line at 1&times; is one thread.</p>
{tag("div", "".join(cards), _class="cards charts")}
<h2>In numbers</h2>
{table(found, counts)}
{neighbour(results)}
</main>""",
    )
