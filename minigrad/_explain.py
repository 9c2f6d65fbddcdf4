"""Captured programs for people: as a table, and as a page with a time line and the plan of memory."""

import os
from html import escape

from ._launch import get_num_threads, thread_stats
from ._limits import least


def table(name, program):
    rows, times, least_times = program.table(), program.times(), limits(program)
    total = sum(times)
    ready = f"ready since call {program.proved}" if program.trusted else "not proved yet"
    lines = [
        f"{name}: {len(rows)} calls, {program.own_bytes():,} bytes of memory, {program.runs} runs; captured in call "
        f"{program.captured}, {ready}",
        f"{'':>4} {'kernel':<34} {'dimensions':<26} {'KiB':>9} {'us':>9} {'%':>5} {'limit %':>7} {'GFLOP/s':>7}"
        "     line",
    ]
    if counts := [calls for calls, _ in program.graph_counts()]:
        made = "one graph" if len(counts) == 1 else f"{len(counts)} graphs"
        made = f"a replay launches {made} of {', '.join(map(str, counts))} calls"
        lines.insert(1, made if program.graphs else f"a replay launches each call: {program.why_no_graphs}")
    for i, (row, t, short) in enumerate(zip(rows, times, least_times, strict=True)):
        kernel, dims, size, products, (file, line), shared = row
        speed = f"{2 * products / t:7.1f}" if products and t else " " * 7
        lines.append(
            f"{i:>4} {kernel[:34]:<34} {', '.join(map(str, dims[:6]))[:26]:<26} {size / 1024:>9.1f} "
            f"{_timing(t, total, short)} {speed} {'mt' if shared else '  '}  "
            f"{os.path.basename(file)}:{line}"
        )
    size = sum(row[2] for row in rows)
    lines.append(f"{'':>4} {'together':<61} {size / 1024:>9.1f} {_timing(total, total, sum(least_times))}")
    return "\n".join(lines)


def limits(program):
    """Nanoseconds that each call would take at the machine's limit; 0 where some run on a GPU."""
    if program.graph_counts():
        return [0.0] * len(program.table())
    threads = get_num_threads(), thread_stats()["started"]
    return [least(kernel, size, n, shared, threads) for kernel, _, size, n, _, shared in program.table()]


def _timing(t, total, short):
    """us, share of the total and of the limit; dashes before a run was timed."""
    if not total:
        return f"{'-':>9} {'-':>5} {'-':>7}"
    return f"{t / 1000:>9.2f} {_share(t, total):>5.1f} {_share(short, t):>7.1f}"


def _share(part, whole):
    return 100 * part / whole if whole else 0.0


_WIDTH = 1100
_COLOURS = {
    "blas": "#4477aa",
    "elementwise": "#66ccee",
    "losses": "#ee6677",
    "optimizers": "#228833",
    "reduce": "#ccbb44",
}
_STYLE = """
body { font: 14px system-ui, sans-serif; margin: 2em; color: #222; background: #fff }
pre { font: 12px ui-monospace, monospace; overflow-x: auto }
svg { border: 1px solid #ccc; display: block; margin: .5em 0 1.5em }
rect:hover { stroke: #000; stroke-width: 2 }
"""


def page(name, programs, reason=None):
    """A self-contained HTML page: for each program its calls over time, its memory over calls, and the table."""
    parts = [f"<!doctype html><meta charset=utf-8><title>{escape(name)}</title><style>{_STYLE}</style>"]
    parts.append(f"<h1>{escape(name)}</h1>")
    if reason is not None:
        parts.append(f"<p>Runs eagerly: {escape(reason)}</p>")
    for program in programs:
        parts.append(f"<h2>{len(program.table())} calls, {program.own_bytes():,} bytes</h2>")
        parts.append(f"<h3>Time: {sum(program.times()) / 1000:.2f} us</h3>{_timeline(program)}")
        parts.append("<h3>Memory: bytes of the arena, then of results and gradients (bottom), over the calls</h3>")
        parts.append(_memory(program) + f"<pre>{escape(table(name, program))}</pre>")
    return "\n".join(parts) + "\n"


def _colour(kernel):
    return _COLOURS.get(kernel.partition(".")[0], "#bbbbbb")


def _rect(x, y, width, height, colour, title):
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{max(height, 0.5):.1f}" fill="{colour}">'
        f"<title>{escape(title)}</title></rect>"
    )


def _timeline(program):
    """A bar a call, as wide as it takes."""
    rows, times = program.table(), program.times()
    scale, x, bars = _WIDTH / (sum(times) or 1), 0.0, []
    for (kernel, dims, _, _, (file, line), _), t, short in zip(rows, times, limits(program), strict=True):
        what = f"{kernel} {dims}: {t / 1000:.2f} us, {_share(short, t):.0f} % of the limit"
        bars.append(_rect(x, 0, t * scale, 40, _colour(kernel), f"{what}, {os.path.basename(file)}:{line}"))
        x += t * scale
    return f'<svg width="{_WIDTH}" height="40">{"".join(bars)}</svg>'


def _memory(program):
    """A bar a block: from its first call to its last, at its place, as high as it is large."""
    blocks = program.blocks()
    calls = max((last for *_, last in blocks), default=0) + 1
    total = max((place + size for place, size, _, _ in blocks), default=1)
    wide, high, bars = _WIDTH / calls, 300 / total, []
    for place, size, first, last in blocks:
        title = f"{size:,} bytes at {place:,}, calls {first} to {last}"
        hue = (first * 47) % 360
        bars.append(
            _rect(first * wide, place * high, (last + 1 - first) * wide, size * high, f"hsl({hue} 50% 65%)", title)
        )
    return f'<svg width="{_WIDTH}" height="300">{"".join(bars)}</svg>'
