"""The GPU beside PyTorch on the same card: checks results against float64, then measures with CUDA events.

    python benchmarks/cuda.py             # all; writes results/cuda/<card>.json and results/cuda/README.md
    python benchmarks/cuda.py --check     # only the results
    python benchmarks/cuda.py --table     # only the table, from what has been measured

Needs minigrad with its GPU packages and, for the ratios, a PyTorch with CUDA; no network. Inputs are larger than the
card's second cache. A time is the median over turns in which the contenders alternate, in one process, on one card.
Per cent of the limit: of the bandwidth of a copy within the card's memory in the same run, by the traffic that the work
needs at least. Ratios and per cent are those of the better of minigrad's ways; in ``minigrad.compile`` a step is one
graph.
"""

import argparse
import gc
import json
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results" / "cuda"
WAYS = ("minigrad", "minigrad.compile", "torch", "torch fused", "torch.compile")
OURS = WAYS[:2]
TURNS, SECONDS = 15, 3.0  # at most so many turns and so long a case


@dataclass(frozen=True)
class Work:
    """A piece of work: ``make(m, way)`` gives a function that does it once, or None where ``way`` has none."""

    name: str
    make: object
    bytes: float = 0  # compulsory traffic
    copy: float = 0  # of the bandwidth of a copy, to be reached
    goals: dict = field(default_factory=dict)  # PyTorch's way: ratio to be reached
    memory: bool = False  # peak memory counts, not time


# --- what is measured -------------------------------------------------------------------------------------------------


def module(way):
    """minigrad or PyTorch."""
    import importlib

    return importlib.import_module(way.partition(" ")[0].partition(".")[0].partition("-")[0])


def tensor(m, shape, seed=0, scale=1.0):
    """float32 on the card, the same for every contender of a case."""
    x = np.random.default_rng(seed).standard_normal(shape, np.float32)
    return m.from_numpy(x * np.float32(scale)).to("cuda")


def optimizer_step(name, sizes, options):
    def make(m, way):
        if way == "torch.compile":
            return None
        fused = {"fused": True} if way == "torch fused" else {}
        parameters = [m.nn.Parameter(m.full((size,), 0.5, device="cuda")) for size in sizes]
        for p in parameters:
            p.grad = m.full(tuple(p.shape), 0.01, device="cuda")
        step = getattr(m.optim, name)(parameters, lr=1e-3, **options, **fused).step
        return m.compile(step) if way == "minigrad.compile" else step

    return make


def loss_and_gradient(name, shape):
    def make(m, way):
        if way in ("minigrad.compile", "torch fused"):
            return None
        x = tensor(m, shape).requires_grad_(True)
        if name == "cross_entropy":
            t = m.from_numpy(np.random.default_rng(1).integers(0, shape[1], shape[0])).to("cuda")
        else:
            t = m.from_numpy(np.random.default_rng(1).random(shape, np.float32)).to("cuda")
        loss = getattr(m.nn.functional, name)
        loss = m.compile(loss) if way == "torch.compile" else loss

        def run():
            x.grad = None
            loss(x, t).backward()

        return run

    return make


def activation(name, shape):
    """Forward and backward, the gradient of ones given."""

    def make(m, way):
        if way not in ("minigrad", "torch"):
            return None
        x, dy = tensor(m, shape).requires_grad_(True), m.ones(shape, device="cuda")
        function = (lambda v: m.softmax(v, -1)) if name == "softmax" else getattr(m, name)

        def run():
            x.grad = None
            function(x).backward(dy)

        return run

    return make


def training_step(sizes, batch):
    def make(m, way):
        model = m.nn.Sequential()
        for i, (inputs, outputs) in enumerate(zip(sizes, sizes[1:])):
            model.append(m.nn.Linear(inputs, outputs))
            if i < len(sizes) - 2:
                model.append(m.nn.ReLU())
        model.to("cuda")
        for i, p in enumerate(model.parameters()):
            with m.no_grad():
                p.copy_(tensor(m, tuple(p.shape), i, 0.05))
        x = tensor(m, (batch, sizes[0]))
        y = m.from_numpy(np.random.default_rng(1).integers(0, sizes[-1], batch)).to("cuda")
        fused = {"fused": True} if way in ("torch fused", "torch.compile") else {}
        optimizer = m.optim.Adam(model.parameters(), lr=1e-3, **fused)
        forward = m.compile(model, mode="reduce-overhead") if way == "torch.compile" else model
        loss = m.nn.functional.cross_entropy

        def step():
            optimizer.zero_grad()
            loss(forward(x), y).backward()
            optimizer.step()

        return m.compile(step) if way == "minigrad.compile" else step

    return make


def head(n, d, c):
    """``linear_cross_entropy`` in chunks beside PyTorch's ``linear`` and ``cross_entropy``."""

    def make(m, way):
        if way not in ("minigrad", "torch"):
            return None
        x, w = tensor(m, (n, d)).requires_grad_(True), tensor(m, (c, d), 1, 0.02).requires_grad_(True)
        t = m.from_numpy(np.random.default_rng(2).integers(0, c, n)).to("cuda")
        f = m.nn.functional

        def run():
            x.grad = w.grad = None
            loss = f.linear_cross_entropy(x, w, t) if way == "minigrad" else f.cross_entropy(f.linear(x, w), t)
            loss.backward()

        return run

    return make


LARGE, MANY = (250_000_000,), (10_000,) * 1_000
N = 100_000_000
WORK = [
    Work("Adam, 250,000,000", optimizer_step("Adam", LARGE, {}), 28 * LARGE[0], 0.92, {"torch fused": 1}),
    Work("AdamW, 250,000,000", optimizer_step("AdamW", LARGE, {}), 28 * LARGE[0], 0.92, {"torch fused": 1}),
    Work("SGD, 250,000,000", optimizer_step("SGD", LARGE, {}), 12 * LARGE[0], 0.92, {"torch fused": 1}),
    Work("SGD with momentum, 250,000,000", optimizer_step("SGD", LARGE, {"momentum": 0.9}), 20 * LARGE[0], 0.92,
         {"torch fused": 1}),
    Work("Adam, 1,000 x 10,000", optimizer_step("Adam", MANY, {}), goals={"torch fused": 2}),
    *(Work(f"cross-entropy, {n:,} x {c:,}", loss_and_gradient("cross_entropy", (n, c)), 8 * n * c, 0.9,
           {"torch": 2, "torch.compile": 1}) for n, c in ((8_192, 32_000), (65_536, 1_000))),
    Work(f"BCE with logits, {N:,}", loss_and_gradient("binary_cross_entropy_with_logits", (N,)), 12 * N, 0.9),
    Work(f"MSE, {N:,}", loss_and_gradient("mse_loss", (N,)), 12 * N, 0.9),
    Work("softmax, 100,000 x 1,000", activation("softmax", (N // 1_000, 1_000)), 20 * N, 0.9),
    *(Work(f"{name}, {N:,}", activation(name, (N,)), 20 * N, 0.9) for name in ("relu", "sigmoid")),
    *(Work(f"step {'-'.join(map(str, sizes))}@{batch}", training_step(sizes, batch), goals=goals)
      for sizes, batch, goals in (
          ((64, 32, 10), 32, {"torch": 4, "torch.compile": 1}),
          ((784, 128, 10), 64, {"torch": 4, "torch.compile": 1}),
          ((784, 256, 128, 10), 128, {"torch": 4, "torch.compile": 1}),
          ((784, 512, 512, 10), 256, {"torch": 4, "torch.compile": 1}),
          ((4096, 4096, 4096, 1000), 8192, {"torch": 0.95}))),
    Work("linear_cross_entropy, 8,192 x 4,096 x 128,000", head(8_192, 4_096, 128_000), goals={"torch": 4}, memory=True),
]  # fmt: skip


# --- checks -----------------------------------------------------------------------------------------------------------


def checks():
    """(name, function of (minigrad, device, dtype) that returns tensors): what must agree with float64 on the CPU."""

    def made(m, shape, device, dtype, seed=0):
        x = np.random.default_rng(seed).standard_normal(shape)
        return m.tensor(x, dtype=dtype).to(device).requires_grad_(dtype.is_floating_point)

    def of_loss(name, shape):
        def run(m, device, dtype):
            x = made(m, shape, device, dtype)
            t = np.random.default_rng(1).integers(0, shape[-1], shape[0]) if name == "cross_entropy" else (
                np.random.default_rng(1).random(shape))  # fmt: skip
            t = m.tensor(t) if t.dtype.kind == "i" else m.tensor(t, dtype=dtype)
            loss = getattr(m.nn.functional, name)(x, t.to(device))
            loss.backward()
            return loss, x.grad

        return run

    def of_function(function, *shapes):
        def run(m, device, dtype):
            inputs = [made(m, shape, device, dtype, i) for i, shape in enumerate(shapes)]
            y = function(m, *inputs)
            (y * y).sum().backward()
            return (y, *(x.grad for x in inputs))

        return run

    def of_optimizer(name, options, compiled=False):
        def run(m, device, dtype):
            parameters = [made(m, shape, device, dtype, i) for i, shape in enumerate(((3, 5), (4_099,), (1,)))]
            optimizer = getattr(m.optim, name)(parameters, **options)

            def step():
                optimizer.zero_grad()
                m.stack([(p * p * p).sum() for p in parameters]).sum().backward()
                m.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()

            step = m.compile(step) if compiled and device == "cuda" else step
            for _ in range(8):
                optimizer.param_groups[0]["lr"] *= 0.9
                step()
            return tuple(parameters)

        return run

    def of_step(m, device, dtype):
        """Products, dropout and labels, compiled on the card; batches at other addresses each time."""
        m.manual_seed(0)
        w, v = made(m, (33, 20), device, dtype), made(m, (20, 7), device, dtype, 1)
        x, optimizer = made(m, (12, 65, 33), device, dtype, 2).detach(), m.optim.AdamW([w, v])
        t = m.tensor(np.random.default_rng(3).integers(0, 7, (12, 65))).to(device)

        def step(x, t):
            optimizer.zero_grad()
            loss = m.nn.functional.cross_entropy(m.nn.functional.dropout(m.relu(x @ w), 0.2) @ v, t)
            loss.backward()
            optimizer.step()
            return loss.detach()

        step = m.compile(step, fullgraph=True) if device == "cuda" else step
        losses = [step(x[i], t[i]) for i in range(12)]
        return (w, v, *losses)

    for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "binary_cross_entropy_with_logits"):
        for shape in ((1,), (33, 257), (100_003,)):
            yield f"{name} {shape}", of_loss(name, shape)
    for shape in ((1, 1), (7, 10), (130, 1_000), (5, 50_257)):
        yield f"cross_entropy {shape}", of_loss("cross_entropy", shape)
    unary = ("relu", "sigmoid", "tanh", "exp", "sin", "cos", "erf", "square", "abs", "neg")
    for name in unary:
        yield name, of_function(lambda m, x, name=name: getattr(m, name)(x), (31, 1_025))
        yield f"{name} of a transposed matrix", of_function(lambda m, x, name=name: getattr(m, name)(x.t()), (65, 300))
    for name in ("add", "sub", "mul", "maximum"):
        yield name, of_function(lambda m, x, y, name=name: getattr(m, name)(x, y), (9, 1, 257), (5, 257))
    for dim in (0, 1, (0, 1)):
        yield f"sum over {dim}", of_function(lambda m, x, dim=dim: x.sum(dim), (300, 4_099))
        yield f"mean over {dim}", of_function(lambda m, x, dim=dim: x.mean(dim), (300, 4_099))
    for shape in ((50, 10), (3, 4_099)):
        yield f"softmax {shape}", of_function(lambda m, x: m.softmax(x, -1), shape)
        yield f"log_softmax {shape}", of_function(lambda m, x: m.log_softmax(x, -1), shape)
    yield "linear", of_function(lambda m, x, w, b: m.nn.functional.linear(x, w, b), (33, 65), (17, 65), (17,))
    yield "matmul", of_function(lambda m, x, y: x @ y, (3, 33, 65), (65, 17))
    for name, options in (("SGD", {"lr": 0.1, "momentum": 0.9}), ("Adam", {}), ("AdamW", {}), ("RMSprop", {}),
                          ("Adagrad", {}), ("NAdam", {}), ("RAdam", {})):  # fmt: skip
        yield f"{name} with clipping", of_optimizer(name, options)
        yield f"{name} with clipping, compiled", of_optimizer(name, options, compiled=True)
    yield "a compiled step", of_step


def check():
    """Compare float32 on the card with float64 on the CPU; the number of checks. Exits with 1 if one fails."""
    import minigrad as mg

    count, wrong = 0, []
    for name, run in checks():
        count += 1
        wanted = [y.detach().numpy() for y in run(mg, "cpu", mg.float64)]
        for y, want in zip(run(mg, "cuda", mg.float32), wanted):
            got = y.detach().cpu().numpy()
            if not np.allclose(got, want, rtol=2e-4, atol=2e-5 * max(1.0, np.abs(want).max(initial=0))):
                wrong.append(f"{name}: off by {np.abs(got - want).max():.3g}, largest value {np.abs(want).max():.3g}")
                break
    for line in wrong:
        print("WRONG", line)
    print(f"{count - len(wrong)} of {count} checks against float64 passed")
    if wrong:
        sys.exit(1)
    return count


# --- measuring --------------------------------------------------------------------------------------------------------


def timer(m, run, calls):
    """A function: seconds a call on the card, over ``calls`` calls between two events."""

    def once():
        start, end = m.cuda.Event(enable_timing=True), m.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(calls):
            run()
        end.record()
        end.synchronize()
        return 1e-3 * start.elapsed_time(end) / calls

    return once


def contenders(work, ways):
    """{way: timer}; the number of calls between two events is such that they take some milliseconds."""
    found = {}
    for way in ways:
        m = module(way)
        try:
            if way == "torch.compile":
                m._dynamo.reset()  # else another shape of a former case would be compiled for all shapes
            run = work.make(m, way)
            if run is None:
                continue
            for _ in range(12):  # compilers, pools and graphs settle
                run()
            m.cuda.synchronize()
            start = time.perf_counter()
            run()
            m.cuda.synchronize()
            found[way] = timer(m, run, max(1, min(100, round(5e-3 / (time.perf_counter() - start)))))
        except Exception as problem:  # a peer's compiler or memory; ours must work
            if way in OURS:
                raise
            print(f"{work.name}: {way} is left out: {problem!r}", file=sys.stderr)
    return found


def copy_bandwidth(m, nbytes=2 << 30):
    """Bytes a second, read and written, of a copy within the card's memory."""
    x = m.zeros(nbytes // 4, device="cuda")
    y = m.zeros(nbytes // 4, device="cuda")
    copy = timer(m, lambda: y.copy_(x), 1)
    return 2 * nbytes / statistics.median([copy() for _ in range(12)][2:])


def measure(work, ways, bandwidth):
    """One row of results."""
    if work.memory:
        return measure_memory(work, ways)
    found, times, end = contenders(work, ways), {}, time.perf_counter() + SECONDS
    for turn in range(TURNS):
        for way, once in found.items():
            times.setdefault(way, []).append(once())
        if turn >= 4 and time.perf_counter() > end:
            break
    row = {"work": work.name, "us": {way: round(1e6 * statistics.median(t), 2) for way, t in times.items()}}
    row["spread"] = {way: [round(1e6 * v, 2) for v in quartiles(t)] for way, t in times.items()}
    best = min(row["us"][way] for way in OURS if way in row["us"])
    if work.bytes and work.copy:
        row["copy"] = [round(work.bytes / (best * 1e-6) / bandwidth, 3), work.copy]
    row["ratio"] = {way: round(v / best, 2) for way, v in row["us"].items() if way.startswith("torch")}
    row["goal"] = work.goals
    return row


def quartiles(times):
    times = sorted(times)
    return times[len(times) // 4], times[-1 - len(times) // 4]


def measure_memory(work, ways):
    """Peak bytes beyond what is there before the step."""
    row = {"work": work.name, "MB": {}, "goal": work.goals}
    for way in ways:
        m = module(way)
        try:
            run = work.make(m, way)
            if run is None:
                continue
            m.cuda.synchronize()
            before = m.cuda.memory_allocated()
            m.cuda.reset_peak_memory_stats()
            run()
            m.cuda.synchronize()
        except Exception as problem:
            if way == "minigrad":
                raise
            print(f"{work.name}: {way} is left out: {problem!r}", file=sys.stderr)
            continue
        row["MB"][way] = round((m.cuda.max_memory_allocated() - before) / 1e6, 1)
        del run
        gc.collect()
        m.cuda.empty_cache()
    row["ratio"] = {way: round(v / row["MB"]["minigrad"], 2) for way, v in row["MB"].items() if way != "minigrad"}
    return row


def run(only, checked):
    """Measure, and write results/cuda/<card>.json."""
    import minigrad as mg

    torch, ways = None, [*OURS]
    try:
        import torch

        if torch.cuda.is_available():
            ways = list(WAYS)
        else:
            print("PyTorch here has no CUDA: no ratios", file=sys.stderr)
    except ImportError:
        print("no PyTorch here: no ratios", file=sys.stderr)
    found = {
        "card": mg.cuda.get_device_name(),
        "copy": round((bandwidth := copy_bandwidth(mg)) / 1e9, 1),
        "torch": getattr(torch, "__version__", None),
        "date": time.strftime("%Y-%m-%d"),
        "checks": checked,
        "rows": [],
    }
    name = "-".join("".join(c if c.isalnum() else " " for c in found["card"].lower()).split())
    for work in WORK:
        if only and not any(word in work.name for word in only):
            continue
        found["rows"].append(measure(work, ways, bandwidth))
        print(json.dumps(found["rows"][-1]), flush=True)
        (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")  # now: a later case may fail
        gc.collect()
        mg.cuda.empty_cache()
        if len(ways) == len(WAYS):
            torch.cuda.empty_cache()


# --- the table --------------------------------------------------------------------------------------------------------


def table():
    """results/cuda/README.md, from the figures of every card, or from none."""
    lines = [
        "# Measured on a GPU",
        "",
        "Written by `make bench-cuda`; `benchmarks/cuda.py` says how. What each kernel",
        "takes of a multiprocessor, compiled without a GPU: [kernels.md](kernels.md).",
        "",
    ]
    found = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    for card in found or [None]:
        if card:
            lines += [f"## {card['card']}", "", f"A copy within memory: {card['copy']} GB/s; PyTorch {card['torch']}; "
                      f"{card['date']}.", ""]  # fmt: skip
        lines += [
            "| work | " + " | ".join(WAYS) + " | of a copy | goal | PyTorch's ratio | goal |",
            "|---" * (len(WAYS) + 5) + "|",
        ]
        rows = {row["work"]: row for row in card["rows"]} if card else {}
        lines += [line(work, rows.get(work.name)) for work in WORK] + [""]
    (RESULTS / "README.md").write_text("\n".join(lines))


def line(work, row):
    goals = ", ".join(f"{way} {goal:g}x" for way, goal in work.goals.items())
    limit = f"{100 * work.copy:g} %" if work.copy else ""
    if row is None:
        return f"| {work.name} | not yet measured |" + " |" * (len(WAYS) - 1) + f" | {limit} | | {goals} |"
    unit, values = ("MB", row["MB"]) if "MB" in row else ("us", row["us"])
    cells = [f"{values[way]:,} {unit}" if way in values else "" for way in WAYS]
    share = f"{100 * row['copy'][0]:.0f} %" if "copy" in row else ""
    ratios = ", ".join(f"{way} {ratio:g}x" for way, ratio in row["ratio"].items())
    return f"| {work.name} | " + " | ".join([*cells, share, limit, ratios, goals]) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("work", nargs="*", help="measure only work whose name contains one of these")
    parser.add_argument("--check", action="store_true", help="only compare results with float64")
    parser.add_argument("--table", action="store_true", help="only write the table")
    options = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    if not options.table:
        import minigrad as mg

        if not mg.cuda.is_available():
            sys.exit("benchmarks/cuda.py needs an NVIDIA GPU and minigrad's packages for it: nothing was measured")
        checked = check()
        if options.check:
            return
        run(options.work, checked)
    table()


if __name__ == "__main__":
    main()
