"""Random numbers for a GPU, in the simulator: the words, masks and uniform numbers of the CPU."""

import numpy as np
import pytest

from minigrad.kernels import contract as cpu
from minigrad.kernels import random as tables
from minigrad.kernels.cuda import contract
from minigrad.kernels.cuda import random as kernels

pytestmark = pytest.mark.cuda_sim
SIZES = (0, 1, 2, 3, 7, 33, 257)
SEED, OFFSET = 0x1234_5678_9ABC_DEF0, 0xFFFF_FFFE  # the counter carries into its second word at once

# Random123's kat_vectors, philox4x32-10: counter, key, result
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


@pytest.mark.parametrize("vector", KNOWN)
def test_known_answers(vector):
    counter, key, result = ([int(w, 16) for w in words.split()] for words in vector)
    np.testing.assert_array_equal(kernels.philox(*(np.uint32(w) for w in counter + key)), result)


def reference(name, arrays, dims, scalars=()):
    cpu.registered()
    cpu._registry[f"random.{name}"].reference_fn(*arrays, *dims, *scalars)


# name, dtype, outputs' dtypes, extra dims, scalars, whether to the bit
KERNELS = [
    ("words", "int64", ["int64"], (), (), True),
    ("uniform", "float32", ["float32"], (), (0.0, 1.0), True),
    ("uniform", "float64", ["float64"], (), (-2.0, 5.0), True),
    ("normal", "float32", ["float32"], (), (1.0, 3.0), False),
    ("normal", "float64", ["float64"], (), (1.0, 3.0), False),
    ("randint", "int64", ["int64"], (-5, 12), (), True),
    ("randint", "int64", ["int64"], (-(2**63), 2**63 - 1), (), True),
    ("bernoulli", "bool", ["bool"], (), (0.3,), True),
    ("bernoulli", "float32", ["float32"], (), (1.0,), True),
    ("bernoulli_each", "float32", ["float32"], (), (), True),
    ("dropout", "float32", ["float32", "uint8"], (), (0.3, 1 / 0.7), True),
    ("dropout", "float64", ["float64", "uint8"], (), (1.0, 0.0), True),
]


@pytest.mark.parametrize(("name", "t", "outputs", "dims", "scalars", "exact"), KERNELS)
def test_against_the_cpu(name, t, outputs, dims, scalars, exact):
    for n in SIZES:
        for seed, offset, shift in ((SEED, OFFSET, 0), (-1, 0, 1)):
            inputs = [np.linspace(0, 1, n + shift).astype(t)[shift:]] if name in ("bernoulli_each", "dropout") else []
            got, want = ([np.full(n + shift, 77).astype(d)[shift:] for d in outputs] for _ in range(2))
            given = (seed, offset, *dims)
            contract.simulate(f"random.{name}", t, "", [*got, *inputs], given, scalars, n, threads=32)
            reference(name, [*want, *inputs], given, scalars)
            for g, w in zip(got, want):
                tolerance = 0 if exact else 8 * np.finfo(g.dtype).eps
                np.testing.assert_allclose(g, w, rtol=tolerance, atol=4 * tolerance)


def test_uniform_never_reaches_high():
    for low, high in ((1.0, 1.0000001), (1e8, 1e8 + 8), (3.0, 3.0)):
        y = np.zeros(500, np.float32)
        contract.simulate("random.uniform", "float32", "", [y], (1, 2), (low, high), 500, threads=64)
        low, high = np.float32(low), np.float32(high)
        assert (y >= low).all()
        assert (y < high).all() or low == high


def test_ddropout():
    for n, shift in ((0, 0), (1, 0), (70, 0), (257, 1)):
        dy = np.array([1, np.inf, np.nan, -2] * 65, np.float32)[shift : n + shift]
        mask = (np.arange(n + shift) % 3 > 0).astype(np.uint8)[shift:]
        dx, want = np.zeros_like(dy), np.zeros_like(dy)
        contract.simulate("random.ddropout", "float32", "", [dx, dy, mask], (), (1.5,), n, threads=32)
        reference("ddropout", [want, dy, mask], (), (1.5,))
        np.testing.assert_array_equal(dx, want)


def test_streams_agree_with_the_tables():
    y = np.zeros(40, np.int64)
    contract.simulate("random.words", "int64", "", [y], (42, 100), (), 40, threads=32)
    np.testing.assert_array_equal(y, tables.reference_words(42, 0, 440)[400:])
