"""The measured figures as tables: `results/README.md`. The front page of the dashboard is made of the same rows."""

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
GRAPH = RESULTS / "threads.svg"
INTRODUCTION = (
    "Medians of one run in which the frameworks take turns, each in a process of its own. A ratio is the peer's time "
    "/ minigrad's, in brackets the ratio of their quartiles; PyTorch's best way counts. Per cent of the limit: of the "
    "memory bandwidth (triad) or of the multiply-adds (a large product) that the machine reached in the same run, by "
    "what the work needs at least."
)


def families():
    """(name, machine, header, rows of text) of every result."""
    for path in sorted(RESULTS.glob("*.json")):
        found = json.loads(path.read_text())
        entries = found["rows"]
        machine = ", ".join(f"{k} {v}" for k, v in found["machine"].items()) + f"; {found['date']}"
        if path.stem == "threads":
            yield path.stem, machine, *against_threads(entries)
            continue
        names = list(dict.fromkeys(name for entry in entries for name in times(entry)))
        extra = list(
            dict.fromkeys(k for entry in entries for k in ("memory", "accuracy", "limit", "mean") if k in entry)
        )
        header = ["work", *names]
        if "minigrad" in names:
            header += ["PyTorch's ratio", "goal"]
        if "jax" in names:
            header += ["JAX's ratio", "goal"]
        header += [{"limit": "% of limit"}.get(k, k) for k in extra]
        yield path.stem, machine, header, [cells(entry, names, extra) for entry in entries]


def against_threads(entries):
    """(header, rows): minigrad's time with one thread, and times with more of them relative to it."""
    sizes = list(dict.fromkeys(size for entry in entries for size in entry["us"]))
    threads = list(next(iter(entries[0]["us"].values())))
    rows = []
    for entry in entries:
        line = [entry["work"]]
        for size in sizes:
            us = entry["us"].get(size)
            more = [f"{us[n] / us['1']:.2f}" for n in threads[1:]] if us else []
            line.append(f"{duration(1e-6 * us['1'])}: {', '.join(more)}" if us else "")
        rows.append(line)
    title = f"minigrad with 1 thread: {' and '.join(threads[1:])} threads take times"
    return [title, *(f"n = {size}" for size in sizes)], rows


def times(entry):
    """{framework: seconds} of a row, or megabytes."""
    if "MB" in entry:
        return entry["MB"]
    return {k: v * 1e-6 for k, v in entry["us"].items()} if "us" in entry else entry["seconds"]


def cells(entry, names, extra):
    found = times(entry)
    text = "{} MB".format if "MB" in entry else duration
    line = [entry["work"], *(text(found[name]) if name in found else "" for name in names)]
    goal = entry.get("goal") or {}
    if "minigrad" in names:
        line += ratio(entry, [name for name in found if name.startswith("torch")], goal.get("torch"))
    if "jax" in names:
        line += ratio(entry, ["jax"] if "jax" in found else [], goal.get("jax"))
    for name in extra:
        value = entry.get(name, "")
        line.append(", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value))
    return line


def ratio(entry, peers, goal):
    """The ratio to the fastest of some peers with its spread, and the goal."""
    if not peers:
        return ["", ""]
    best = min(peers, key=lambda name: entry["ratio"][name])
    spread = entry.get("spread", {}).get(best)
    text = f"{entry['ratio'][best]}x" + (f" ({spread[0]} to {spread[1]})" if spread else "")
    return [text, f"{goal}x" if goal else ""]


def duration(seconds):
    unit, scale = ("s", 1) if seconds >= 1 else ("ms", 1e-3) if seconds >= 1e-3 else ("us", 1e-6)
    return f"{seconds / scale:.3g} {unit}"


def graph():
    """Draw times against size and threads, a panel a class of kernels; False without results or matplotlib."""
    if not (RESULTS / "threads.json").exists():
        return False
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return GRAPH.exists()
    entries = json.loads((RESULTS / "threads.json").read_text())["rows"]
    figure = Figure((12, 9), layout="constrained")
    for entry, axes in zip(entries, figure.subplots(-(-len(entries) // 3), 3, sharex=True).flat):
        sizes = [int(size.replace(",", "")) for size in entry["us"]]
        for n, style in zip(next(iter(entry["us"].values())), ("-", "--", ":")):
            axes.loglog(sizes, [us[n] for us in entry["us"].values()], style, marker=".", label=f"{n} threads")
        axes.set(title=entry["work"], xlabel="elements", ylabel="us a call")
        axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(GRAPH, metadata={"Date": None})
    return True


def markdown():
    lines = ["# Measured", "", INTRODUCTION]
    for name, machine, header, rows in families():
        lines += ["", f"## {name}", "", machine, "", f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
        lines += ["", f"![Times against size and threads]({GRAPH.name})"] * (name == "threads" and graph())
    return "\n".join(lines) + "\n"


def write():
    (RESULTS / "README.md").write_text(markdown())
