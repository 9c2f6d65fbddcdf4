"""Random programs, eager and compiled: the same bits. On a mismatch the smallest program that shows it is printed.

``MINIGRAD_FUZZ=1000`` draws so many programs and takes the time they need (``make fuzz``); otherwise it is 240, but no
longer than half a minute. ``MINIGRAD_FUZZ_SEED`` chooses others.
"""

import os
import random
import time
import warnings

import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import functional as F

COUNT = int(os.environ.get("MINIGRAD_FUZZ", "240"))
SECONDS = float("inf") if "MINIGRAD_FUZZ" in os.environ else 3  # for an eighth of them
SEED = int(os.environ.get("MINIGRAD_FUZZ_SEED", "0"))
STEPS = 7

UNARY = {
    "relu": lambda a: a.relu(),
    "tanh": lambda a: a.tanh(),
    "sigmoid": lambda a: a.sigmoid(),
    "exp": lambda a: a.clamp(max=2.0).exp(),
    "square": lambda a: a * a,
    "root": lambda a: (a.abs() + 1).sqrt(),
    "neg": lambda a: -a,
    "gelu": lambda a: F.gelu(a),
    "t": lambda a: a.t() if a.ndim == 2 else a,
    "flat": lambda a: a.reshape(-1),
    "tail": lambda a: a[1:],
    "every other": lambda a: a[..., ::2],
    "sum0": lambda a: a.sum(0),
    "mean": lambda a: a.mean(),
    "mean last": lambda a: a.mean(-1, keepdim=True),
    "max": lambda a: a.amax(-1),
    "softmax": lambda a: a.softmax(-1),
    "log_softmax": lambda a: a.log_softmax(-1),
    "detach": lambda a: a.detach(),
    "clone": lambda a: a.clone(),
    "double": lambda a: a.double().float(),
    "dropout": lambda a: F.dropout(a, 0.4),
    "noise": lambda a: a + mg.randn_like(a),
    "times": lambda a: 0.5 * a + 1,
    "constant": lambda a: a + mg.full((1,), 0.25, device=a.device),
    "mask": lambda a: a * (a > 0).float(),
    "positive": lambda a: mg.where(a > 0, a, a * 0.1),
    "twice": lambda a: mg.cat([a, a]),
    "stack": lambda a: mg.stack([a, -a]).sum(0),
    "expand": lambda a: a.unsqueeze(0).expand(2, *a.shape).reshape(-1),
    "norm": lambda a: a / (a.norm() + 1),
    "cumsum": lambda a: a.cumsum(0),
}
BINARY = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / (b.abs() + 1),
    "maximum": lambda a, b: mg.maximum(a, b),
    "matmul": lambda a, b: a @ b,
    "linear": lambda a, b: F.linear(a, b),
    "outer": lambda a, b: a.reshape(-1, 1)[:3] * b.reshape(-1)[:4],
    "mse": lambda a, b: F.mse_loss(a, b.detach()) if a.shape == b.shape else a,
    "bce": lambda a, b: F.binary_cross_entropy_with_logits(a, (b > 0).float()) if a.shape == b.shape else a,
    "huber": lambda a, b: F.smooth_l1_loss(a, b.detach()) if a.shape == b.shape else a,
}


def _add(a, b):
    a.add_(b)


def _half(a, b):
    a.mul_(0.5)


def _relu(a, b):
    a.relu_()


def _row(a, b):
    a[0] = 1.5


def _copy(a, b):
    a.copy_(b)


def _first(a, b):
    a[:1].mul_(2.0)


INPLACE = {"add_": _add, "mul_": _half, "relu_": _relu, "row": _row, "copy_": _copy, "first": _first}
OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.05, momentum=0.9),
    "plain": lambda p: optim.SGD(p, lr=0.05),
    "adam": lambda p: optim.Adam(p, lr=0.01),
    "adamw": lambda p: optim.AdamW(p, lr=0.01, amsgrad=True),
    "rmsprop": lambda p: optim.RMSprop(p, lr=0.01),
    "adagrad": lambda p: optim.Adagrad(p, lr=0.05),
    "nadam": lambda p: optim.NAdam(p),
    "adafactor": lambda p: optim.Adafactor(p),
}
SHAPES = [(4,), (3, 4), (4, 4), (1, 4), (4, 1), ()]


class Case:
    """A program as data: shapes of the parameters, operations on numbered values, and what is done around them."""

    def __init__(self, seed, device="cpu"):
        r = random.Random(seed)
        self.seed, self.device = seed, device
        self.merge = False  # whether chains of elementwise calls are compiled and swapped in on the way
        self.shapes = [r.choice(SHAPES) for _ in range(r.randint(1, 4))]
        self.optimizer = r.choice(list(OPTIMIZERS))
        self.zero = r.choice(["first", "last", "in place", "never"])
        self.clip, self.labels = r.random() < 0.3, r.random() < 0.4
        self.between = r.choices(["", "", "lr", "edit", "grad none", "seed", "keep", "other batch"], k=STEPS)
        self.operations = []
        for _ in range(r.randint(2, 14)):
            kind = r.choice(["unary", "unary", "binary", "binary", "inplace"])
            table = {"unary": UNARY, "binary": BINARY, "inplace": INPLACE}[kind]
            self.operations.append((kind, r.choice(list(table)), r.random(), r.random()))
        self.clip_value, self.twice = r.random() < 0.1, r.random() < 0.2

    def __str__(self):
        words = [f"seed {self.seed}: parameters {self.shapes}, {self.optimizer}, zero_grad {self.zero}"]
        words += [f"  clip {self.clip}, by value {self.clip_value}, labels {self.labels}, backward twice {self.twice}"]
        words += [f"  between {self.between}"]
        return "\n".join([*words, *(f"  {kind} {name} {i:.2f} {j:.2f}" for kind, name, i, j in self.operations)])

    def values(self, parameters, x):
        """What the operations make of the parameters and the input; what does not fit is left out, by the shapes."""
        values = [*parameters, x]
        for kind, name, i, j in self.operations:
            a, b = values[int(i * len(values))], values[int(j * len(values))]
            try:
                if kind == "unary":
                    made = UNARY[name](a)
                elif kind == "binary":
                    made = BINARY[name](a, b)
                else:
                    made = a.clone()
                    INPLACE[name](made, b)
            except (RuntimeError, IndexError, ValueError):
                continue
            if 0 < made.numel() < 200:
                values.append(made)
        return values

    def run(self, compiled):
        """The bits of everything after each step, and the compiled function."""
        mg.manual_seed(self.seed)
        parameters = [nn.Parameter(mg.randn(shape, device=self.device)) for shape in self.shapes]
        optimizer = OPTIMIZERS[self.optimizer](parameters)
        zero, clip, labels, values = self.zero, self.clip, self.labels, self.values
        clip_value, twice = self.clip_value, self.twice

        def step(x, y):
            if zero == "first":
                optimizer.zero_grad()
            elif zero == "in place":
                optimizer.zero_grad(set_to_none=False)
            found = values(parameters, x)
            loss = sum([v.mean() for v in found[-4:] if v.requires_grad], parameters[0].sum() * 0.1)
            if labels:
                loss = loss + F.cross_entropy(x * found[0].mean(), y)
            loss.backward()
            if twice:  # gradients add up
                sum(
                    [v.sum() for v in values(parameters, x * 0.5)[-2:] if v.requires_grad], parameters[0].sum()
                ).backward()
            if clip_value:
                nn.utils.clip_grad_value_(parameters, 0.1)
            if clip:
                nn.utils.clip_grad_norm_(parameters, 0.5)
            optimizer.step()
            if zero == "last":
                optimizer.zero_grad()
            return loss, found[-1].detach()

        run = mg.compile(step) if compiled else step
        history, kept = [], []
        for i in range(STEPS):
            self.around(i, parameters, optimizer, kept)
            rows = 2 if self.between[i] == "other batch" else 3
            result = run(mg.randn(rows, 4, device=self.device), mg.randint(0, 4, (rows,), device=self.device))
            kept.append(result)
            for program in run.programs if compiled else ():
                program.poison()
                if self.merge and i >= self.seed % 4 and program.chains:
                    program.chains.wait(program)
            history.append([bits(t) for t in (*result, *parameters, *(p.grad for p in parameters))]
                           + [bits(v) for s in optimizer.state.values() for v in s.values() if v is not None]
                           + [bits(mg.get_rng_state())] + [p._version for p in parameters])  # fmt: skip
        history.append([bits(t) for result in kept for t in result if isinstance(t, mg.Tensor)])
        return history, run

    def around(self, i, parameters, optimizer, kept):
        if self.between[i] == "lr":
            optimizer.param_groups[0]["lr"] *= 0.5
        elif self.between[i] == "edit":
            with mg.no_grad():
                parameters[0].mul_(0.9)
        elif self.between[i] == "grad none":
            optimizer.zero_grad()
        elif self.between[i] == "seed":
            mg.manual_seed(i)
        elif self.between[i] == "keep":
            kept.append([p.grad for p in parameters])

    def differs(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            eager, (replayed, run) = self.run(False)[0], self.run(True)
        self.hits, self.reason = run.cache_info().hits, run._reason
        self.merged = any(program.swapped for program in run.programs)
        differ = any(program.chains.differ for program in run.programs if program.chains)
        return eager != replayed or differ or "differs" in (self.reason or "")

    def shrunk(self):
        """The smallest program found that still differs."""
        smaller = True
        while smaller:
            smaller = False
            for i in range(len(self.operations)):
                kept = self.operations
                self.operations = kept[:i] + kept[i + 1 :]
                if self.differs():
                    smaller = True
                    break
                self.operations = kept
        for name, plain in (
            ("clip", False),
            ("clip_value", False),
            ("labels", False),
            ("twice", False),
            ("between", [""] * STEPS),
        ):
            before = getattr(self, name)
            setattr(self, name, plain)
            if not self.differs():
                setattr(self, name, before)
        return self


def bits(t):
    return None if t is None else t.detach().numpy(force=True).tobytes() if isinstance(t, mg.Tensor) else t


@pytest.mark.parametrize("part", range(8))
def test_random_programs_have_the_eager_bits(part):
    run = captured = 0
    end = time.monotonic() + SECONDS
    for seed in range(part, COUNT, 8):
        if time.monotonic() > end:
            break
        case = Case(1_000_003 * SEED + seed)
        if case.differs():
            pytest.fail(f"eager and compiled differ ({case.reason}); the smallest program found:\n{case.shrunk()}")
        run += 1
        captured += case.hits > 0
    assert captured >= 0.8 * run  # else nothing was tested


def test_a_fault_is_found_and_shrunk_to_the_operation_that_has_it(monkeypatch):
    def around(case, i, *rest):
        os.environ["MINIGRAD_FUZZ_STEP"] = str(i)  # no guard can see it
        before(case, i, *rest)

    before = Case.around
    monkeypatch.setattr(Case, "around", around)
    monkeypatch.setitem(UNARY, "tanh", lambda a: a.tanh() + float(os.environ["MINIGRAD_FUZZ_STEP"]))
    monkeypatch.setenv("MINIGRAD_FUZZ_STEP", "0")
    cases = (Case(seed) for seed in range(1000))
    case = next(c for c in cases if len(c.operations) > 4 and c.differs())
    assert "a replay differs" in case.reason
    text = str(case.shrunk())
    assert [name for _, name, *_ in case.operations] == ["tanh"], text
    assert "unary tanh" in text
