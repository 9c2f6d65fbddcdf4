"""What the families share: frameworks by name, cases, and the two asv classes made of them."""

import functools
import importlib
import os
import statistics
import sys
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path

TORCH = ("torch", "torch fused", "torch.compile")
FRAMEWORKS = ("minigrad", *TORCH, "jax")
COMPILED = "minigrad-compiled"  # minigrad.compile: a way of the families that say so
QUICK = os.environ.get("MINIGRAD_BENCH") == "quick"  # a look in under five minutes
QUICK_WAYS, QUICK_CASES = ("minigrad", COMPILED, "torch"), 5  # of each family

sys.path.append(str(Path(__file__).parent.parent))  # asv knows this folder only; the harness lies one above


@dataclass(frozen=True)
class Case:
    """A piece of work: how many times faster than a peer it is to be, and what it needs at least of the machine."""

    goal: dict = field(default_factory=dict)  # "torch" is the best of PyTorch's ways
    bytes: float = 0  # compulsory memory traffic; what is written without being read counts twice, see limits.py
    flops: float = 0


def load(framework, ways=FRAMEWORKS):
    """The module of a framework, with two threads; NotImplementedError, with which asv skips, where there is none.

    ways: the frameworks for which the family has code.
    """
    if framework not in ways:
        raise NotImplementedError(f"{framework} has no way of its own here")
    if QUICK and framework not in QUICK_WAYS:
        raise NotImplementedError(f"{framework} is not part of a quick run")
    name = "torch" if framework.startswith("torch") else "minigrad" if framework == COMPILED else framework
    try:
        module = importlib.import_module(name)
    except ImportError:
        if name == "minigrad":
            raise
        raise NotImplementedError(f"{framework} is not installed") from None
    if name != "jax":
        module.set_num_threads(2)
    if name == "minigrad":  # at once, as the others do; of its own accord after a second of work
        module.start_threads()
    return module


def warm(run, seconds=0.5):
    """Call until compilers, caches and thread rules have settled."""
    run()
    end = time.perf_counter() + (0.05 if QUICK else seconds)
    while time.perf_counter() < end:
        run()


def chosen(cases):
    """The names of all cases; in a quick run of a few, from the first to the last."""
    names = list(cases)
    if not QUICK or len(names) <= QUICK_CASES:
        return names
    return [names[i * (len(names) - 1) // (QUICK_CASES - 1)] for i in range(QUICK_CASES)]


def ready(benchmark, run, seconds=0.01):
    """Have asv time samples of so many calls of ``run`` as take ``seconds``.

    asv times one call a sample where there is a setup, which it does again before each; that is 5 us of clocks and cold
    caches. So setups are to be done once, a sample calls ``calls`` times, and its clock is as many times slower.
    """
    warm(run)
    calls, spent = 1, 0.0
    while spent < seconds / 2:
        calls, start = 2 * calls, time.perf_counter()
        for _ in range(calls):
            run()
        spent = time.perf_counter() - start
    benchmark.run, benchmark.calls = run, max(1, round(calls * seconds / spent))
    benchmark.timer = lambda: time.perf_counter() / benchmark.calls


class Timed(ABC):
    """Times the cases of a family: a graph a case, a line a framework. Subclasses bring ``cases`` and ``make``."""

    ways = FRAMEWORKS  # those for which the family has code
    param_names = ("framework", "case")
    timeout = 300
    rounds = 1
    repeat = (1, 5, 0.3) if QUICK else (3, 20, 1.5)  # at least, at most, seconds
    warmup_time = 0.0  # setup warms up

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        cls.params = ([way for way in cls.ways if way in QUICK_WAYS or not QUICK], chosen(cls.cases))

    @staticmethod
    @abstractmethod
    def make(framework, case):
        """A function that does the work once; NotImplementedError where the framework has none."""

    def setup(self, framework, case):
        if not hasattr(self, "run"):
            ready(self, self.make(framework, case))

    def time_work(self, framework, case):
        run = self.run
        for _ in range(self.calls):
            run()


class Speedup(ABC):
    """Follows the ratio itself: the best PyTorch's time / minigrad's, both in turns in one run."""

    param_names = ("case",)
    timeout = 600
    unit = "x"

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        cls.params = (chosen(name for name, case in cls.cases.items() if "torch" in case.goal),)

    @property
    @abstractmethod
    def cases(self):
        """The cases of the family."""

    def track_speedup(self, case):
        times = compare(type(self).__module__, case, ("minigrad", *TORCH))
        median = {name: statistics.median(t) for name, t in times.items()}
        ours = median.pop("minigrad")
        if not median:
            raise NotImplementedError("no PyTorch to compare with")
        return min(median.values()) / ours


@functools.cache
def say(text):
    """Once, however many cases it is true of."""
    print(text, file=sys.stderr)


def compare(module, case, frameworks=FRAMEWORKS, seconds=None):
    """{framework: sorted seconds a call} of a case, in turns, each in a process of its own; skipping what is absent."""
    from harness import Contender, take_turns

    contenders = {name: Contender("make", name, case, module=module) for name in frameworks}
    for contender in contenders.values():
        if contender.skipped and contender.skipped.endswith("is not installed"):
            say(f"skipped: {contender.skipped}")
    contenders = {name: c for name, c in contenders.items() if not c.skipped}
    firsts = [c.first for c in contenders.values() if c.first is not None]
    if firsts and max(firsts) - min(firsts) > 1e-4 * abs(firsts[0]):
        raise RuntimeError(f"{case}: the frameworks' results differ: {firsts}")
    quick = {"seconds": 0.5, "warm": 0.3} if QUICK else {"seconds": 1.5 * len(contenders), "warm": 1.5}
    return take_turns(contenders, **quick)
