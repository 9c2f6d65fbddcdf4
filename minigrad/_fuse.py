"""The pass ``chains``: elementwise calls that feed each other become one call of a generated kernel.

DESIGN
a. A chain is a set of calls over equally many contiguous elements that share data. All of it runs where its last call
   stands, in a kernel of its own (kernels/chains.py). Results that nobody else reads stay in registers, others are
   stored; numbers that were written into memory for these calls only are read where the program keeps them.
b. The program runs its calls one by one until the kernels of all its chains are compiled, in the background. Then a
   replay swaps (``Program.swap``), and is proved as the first one was: run eagerly as well, and compared by bits.
c. Compiling costs time, which must come back: it begins once the calls would have saved as much if they had been merged
   from the start, or at once where the kernels are in the cache. So a program loses at most twice what it might have.

WHY THE BITS ARE THE SAME
d. Each operation rounds as its own kernel does, see kernels/chains.py. The rest is about the order of memory access.
e. Calls whose order changes. A call that stands between two calls of a chain, and is not of it, closes the chain if it
   reads or writes what a call of the chain so far has written, or writes what one has read (``conflicts``). So if a
   call a of a chain and a later call b swap places, then a's chain passed b, and neither writes what the other touches.
   (Two calls of different chains swap only if the chain of the earlier one ends last, hence passed the later one.)
f. What they touch is slots. A chain writes slots of the program's own only; all others count as one slot, since what an
   argument shares memory with may differ from call to call. Two slots of the program's own lie in the same bytes only
   if the calls that use the one all come before those of the other. When each is used differs between the two forms of
   a program, so ``Capture.pack`` plans their memory one by one.
g. Within a chain. The i-th element of a result depends on the i-th elements of its operands and on single numbers that
   the chain does not write. If a chain writes a slot, then all that it reads and writes there is the same elements at
   the same place (``sound``). So element by element gives what call by call does.
h. What is not stored is touched by no later call and cannot be seen from outside; nothing of it outlives a run.
"""

import os
import sys
import threading
import warnings
from typing import NamedTuple

from .kernels import chains, contract

# Nanoseconds saved by a call less and by a byte less to move (see ``saving``), in the first cache and beyond it.
CALL, CACHED_BYTE, BYTE, CACHE = 4, 0.003, 0.01, 1 << 15
COMPILE, IMPORT = 3e8, 1e9  # nanoseconds that a kernel takes to compile, and Numba to import
LONGEST, OPEN = 24, 8  # operations of a chain; chains that may still grow, while calls are looked at
_FLOAT = ("float32", "float64")
_UNARY = {"copy", "neg", "abs", "sign", "square", "sqrt", "rsqrt", "reciprocal", "exp", "expm1", "log", "log1p", "tanh",
          "sigmoid", "softplus", "erf", "relu", "floor", "ceil", "trunc", "round", "isnan", "isinf", "isfinite",
          "logical_not"}  # fmt: skip
_BINARY = {"add", "sub", "mul", "div", "pow", "maximum", "minimum", "bit_and", "bit_or", "bit_xor", "drelu",
           "dsigmoid", "dtanh", "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or",
           "logical_xor"}  # fmt: skip
_OF_BOOL = {"copy", "logical_not", "logical_and", "logical_or", "logical_xor", "bit_and", "bit_or", "bit_xor"}
# Kernels of these families write their first buffer only; of others everything counts as written.
_ONE_OUTPUT = ("elementwise.", "blas.", "constant", "copy_bytes", "divide")
_SIZE = {"float32": 4, "float64": 8, "bool": 1}
_OUTSIDE = -2  # all memory that is not the program's own; -1 is a constant, at an address

# The operands of a binary kernel by its mode (elementwise.py): number of the buffer, whether it holds one number.
_MODES = (
    ((1, False), (2, False)),
    ((1, True), (2, False)),
    ((1, False), (2, True)),
    ((0, False), (2, False)),
    ((0, False), (2, True)),
)

_PROBLEM = "elementwise calls of compiled functions are not merged"
_warned = False


class Row(NamedTuple):
    """A call of a program."""

    call: int
    movable: bool
    name: str
    units: int
    dims: tuple[int, ...]
    operands: list[tuple[int, int]]  # slot and offset of each buffer, or -1 and an address
    others: list[int]  # slots that it touches in other ways


class Operand(NamedTuple):
    slot: int
    offset: int
    dtype: str
    single: bool  # one number for all elements


class Step(NamedTuple):
    """An elementwise operation over n elements; the result is the first operand."""

    op: str
    n: int
    operands: list[Operand]


class Chain(NamedTuple):
    """Calls that one call of a generated kernel may stand for."""

    n: int
    calls: list[int]  # the last one is where the merged one stands
    replaced: list[int]  # those that fall away: the others, and constants that only they read
    operands: list[tuple[int, int]]
    kernel: str
    dtype: str
    name: str
    moved: int  # bytes that it reads and writes
    saving: float  # nanoseconds a run, estimated


def plan(rows, visible):
    """The chains among the calls ``rows``; ``visible[slot]``: whether the memory outlives a run, None if it is not the
    program's own."""
    if sum(row.name.startswith("elementwise.") for row in rows) < 2:
        return []
    users, written, touched = {}, {}, [_effects(row) for row in rows]
    for row, (reads, writes) in zip(rows, touched):
        for slot in reads | writes:
            users.setdefault(slot, []).append(row.call)
        for slot in writes:
            written.setdefault(slot, []).append(row.call)
    literals = {}  # numbers: slot -> (call that writes it, offset, address)
    for row in rows:
        slot, offset = row.operands[0] if row.operands else (-1, 0)
        if row.name == "constant" and visible[slot] is False and written[slot] == [row.call]:
            literals[slot] = row.call, offset, row.operands[1][1]

    done, growing = [], []
    for row, effects in zip(rows, touched):
        reads, writes = ({_OUTSIDE if visible[slot] is None else slot for slot in slots} for slots in effects)
        step = _step(row) if row.movable and _OUTSIDE not in writes else None
        grown = None if step is None else _Group(row.call, step, reads | writes)
        if grown is not None:
            for other in [group for group in growing if group.shares(grown)]:
                if other.takes(grown):
                    growing.remove(other)
                    grown = other
        for other in [group for group in growing if group.conflicts(reads, writes)]:
            growing.remove(other)
            done.append(other)
        if grown is not None and grown.sound:
            growing.append(grown)
        if len(growing) > OPEN:
            done.append(growing.pop(0))
    found = [_chain(group, users, visible, literals) for group in done + growing if len(group.steps) > 1]
    return [chain for chain in found if chain is not None and chain.saving > 0]


def _effects(row):
    """The slots that a call reads, and those that it writes."""
    slots = {slot for slot, _ in row.operands if slot >= 0}
    if row.name == "check":
        return slots, set()
    if row.name.startswith(_ONE_OUTPUT):
        return slots | {*row.others}, {slot for slot, _ in row.operands[:1] if slot >= 0}
    return slots, slots | {*row.others}


def _step(row):
    """A call as a Step; None if it is no elementwise one over contiguous elements and single numbers."""
    family, _, rest = row.name.partition(".")
    if family != "elementwise":
        return None
    op, t, *u = rest.split(".")
    n, dims = row.units, row.dims
    if op.startswith("strided_") or op == "where_strided":
        inputs = {"strided_unary": 1, "strided_binary": 2, "where_strided": 3}[op]
        n, steps = dims[1], dims[3 : 3 + inputs]
        if dims[0] or dims[2] != 1 or not {*steps} <= {0, 1}:
            return None
        if op == "where_strided":
            op = "where"
        else:
            shape = contract.shape(row.operands[inputs + 1][1])
            op, t, *u = ("", "") if shape is None else shape[0].split(".")[1:]
        which = [(i + 1, step == 0) for i, step in enumerate(steps)]
    elif op in _UNARY:
        which = [(0 if dims[0] == 3 else 1, False)]
    elif op in _BINARY:
        which = _MODES[dims[0]]
    elif op == "clamp":
        which = [(1, False), (2, True), (3, True)]
    elif op == "fill":
        op, which = "copy", [(1, True)]
    else:
        return None
    result = u[0] if u else t
    kinds = ["bool", t, t] if op == "where" else [t] * len(which)
    if op not in (*_UNARY, *_BINARY, "clamp", "where") or not (t in _FLOAT or (t == "bool" and op in _OF_BOOL)):
        return None
    if result not in _SIZE or (op == "copy" and t != result == "bool"):
        return None
    operands = [Operand(*row.operands[0], result, False)]
    for (i, single), dtype in zip(which, kinds):
        slot, offset = row.operands[i]
        operands.append(Operand(slot, offset, dtype, slot < 0 or (single and n > 1)))
    return Step(op, n, operands)


class _Group:
    """A chain while it grows; ``touched`` as in DESIGN f."""

    def __init__(self, call, step, touched):
        self.steps, self.n, self.touched = {call: step}, step.n, touched
        self.written, self.used = {step.operands[0].slot}, {}
        for operand in step.operands:
            if operand.slot >= 0:
                self.used.setdefault(operand.slot, set()).add(operand)
        self.full = {operand for operand in step.operands if not operand.single}
        self.sound = all(len(self.used[slot]) == 1 for slot in self.written)  # DESIGN g

    def takes(self, other):
        """Whether this group and one of later calls can be one, and then makes them one."""
        if not (self.n == other.n and other.sound and len(self.steps) + len(other.steps) <= LONGEST):
            return False
        for slot in (self.written & other.used.keys()) | (other.written & self.used.keys()):
            if self.used[slot] != other.used[slot]:  # one of them is a single operand, DESIGN g
                return False
        self.steps |= other.steps
        self.written |= other.written
        self.full |= other.full
        self.touched |= other.touched
        for slot, operands in other.used.items():
            self.used.setdefault(slot, set()).update(operands)
        return True

    def shares(self, other):
        """Whether a group of a later call shares elements with this one."""
        return not self.full.isdisjoint(other.full)

    def conflicts(self, reads, writes):
        """Whether a call with these effects may not be made before the calls of this group (DESIGN e)."""
        return not (self.written.isdisjoint(reads) and self.touched.isdisjoint(writes))


def _chain(group, users, visible, literals):
    """The Chain of a group, with the source of its kernel."""
    calls = sorted(group.steps)
    steps = [group.steps[call] for call in calls]
    results = dict.fromkeys(step.operands[0] for step in steps)
    outputs = [r for r in results if visible[r.slot] or any(user > calls[-1] for user in users[r.slot])]
    places = {output: i for i, output in enumerate(outputs)}  # operand -> number of the buffer
    replaced, values, before, body, moved = calls[:-1], {}, [], [], 0
    for step in steps:
        moved += sum(_SIZE[o.dtype] for o in step.operands if not o.single)
        arguments = []
        for operand in step.operands[1:]:
            call, offset, address = literals.get(operand.slot, (-1, -1, 0))
            if operand.offset == offset:
                if {*users[operand.slot]} <= {*calls, call} and call not in replaced:
                    replaced.append(call)
                operand = Operand(-1, address, operand.dtype, True)
            if operand not in values:
                i = places.setdefault(operand, len(places))
                values[operand] = f"x{i}"
                if operand.single:
                    before.append(f"x{i} = b{i}[0]")
                else:
                    body.append(f"x{i} = b{i}[i]")
                    moved -= _SIZE[operand.dtype]
            arguments.append(values[operand])
        value = arguments[0] if step.op == "copy" else f"{step.op}({', '.join(arguments)})"
        result = step.operands[0]
        name = f"v{len(body)}"
        body.append(f"{name} = {value if result.dtype == 'bool' else f'{result.dtype}({value})'}")
        values[result] = name
    if not outputs:
        return None
    for output in outputs:
        body.append(f"b{places[output]}[i] = {values[output]}")
        moved -= _SIZE[output.dtype]
    buffers = ", ".join(f'b{i}: "{operand.dtype}"' for operand, i in places.items())
    lines = [f"def chain({buffers}, lo, hi):"]
    lines += [f"    {line}" for line in before] + ["    for i in range(lo, hi):"] + [f"        {line}" for line in body]
    dtype, needed = outputs[0].dtype, sum(_SIZE[operand.dtype] for operand in places if not operand.single)
    return Chain(
        group.n,
        calls,
        replaced,
        [(operand.slot, operand.offset) for operand in places],
        chains.declare("\n".join(lines) + "\n"),
        dtype,
        f"elementwise.{'+'.join(step.op for step in steps)}.{dtype}",
        needed * group.n,
        saving(len(replaced), moved * group.n, group.n * _SIZE[dtype]),
    )


def place_of(lines):
    """(file, line number) of a merged call, from those of its calls: the file of the first, and all line numbers."""
    first, names = lines[0][0], []
    for file, number in dict.fromkeys(lines):
        names.append(str(number) if file == first else f"{os.path.basename(file)}:{number}")
    return first, ", ".join(names)


def saving(calls, moved, size):
    """Nanoseconds that it saves to make so many calls less and move so many bytes less, in blocks of ``size`` bytes.

    Measured, float32 on one core of a server, beside the unmerged program, whole replays without a gradient, us:

    elements   x * 2 + 1 (4 calls)   8 of + and *    gelu (8 calls)
    10         .18   .17             .22    .18      .30    .27
    1,000      .24   .20             .59    .25      1.18   1.09
    30,000     5.0   2.5             25.6   2.3      33     26
    1,000,000  234   121             1667   126      3038   854

    So it pays at any size; that there is something to compile is what must pay (``runs``).
    """
    return CALL * calls + moved * (CACHED_BYTE if size < CACHE else BYTE)


class Chains:
    """The chains of a program, and how they get their kernels."""

    def __init__(self, chains):
        self.chains = chains
        self.kernels = [*dict.fromkeys((chain.kernel, chain.dtype) for chain in chains)]
        self.started, self.compiled, self.ended = False, False, threading.Event()
        self.differ = False  # from the calls they stand for: never seen yet

    def runs(self):
        """After how many runs of the program it pays to compile."""
        missing = sum(not contract.known(*kernel) for kernel in self.kernels)
        cost = missing * COMPILE + (IMPORT if missing and "numba" not in sys.modules else 0)
        return 1 + int(cost / sum(chain.saving for chain in self.chains))

    def start(self, program):
        """Compile in the background; ``program.ready`` becomes the list of the kernels' addresses."""
        if not self.started:
            self.started = True
            try:
                contract.aside(self._compile, program, 0, warn=_PROBLEM)
            except RuntimeError:  # no thread can be started
                self.ended.set()

    def wait(self, program):
        """Compile now; whether it succeeded. For tests."""
        self.start(program)
        self.ended.wait()
        return self.compiled

    def _compile(self, program, i):
        """One kernel; the next one in a thread of its own, so that others get at the compiler in between."""
        global _warned
        last = True
        try:
            contract.address_aside(*self.kernels[i])
            if i + 1 == len(self.kernels):
                program.ready = [contract.address(chain.kernel, chain.dtype) for chain in self.chains]
                self.compiled = True
            elif threading.main_thread().is_alive():  # else the process ends
                contract.aside(self._compile, program, i + 1, warn=_PROBLEM)
                last = False
        except Exception as error:
            if not _warned:
                _warned = True
                warnings.warn(f"minigrad: {_PROBLEM}: {error!r}", RuntimeWarning, stacklevel=2)
        finally:
            if last:
                self.ended.set()
