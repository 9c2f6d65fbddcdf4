"""The pass that follows a matrix product, bias and relu on a block of rows still in cache; products of integers."""

import numpy as np

from .contract import T, dim, kernel


@kernel
def bias_relu(y: T, b: T, n: dim, ld: dim, has_bias: dim, relu: dim, lo, hi):
    """y = relu(y + b), in place; y (rows, n) with row stride ld, b (n,). Unit: a row."""
    for r in range(lo, hi):
        o = r * ld
        if has_bias and relu:
            for i in range(n):
                v = y[o + i] + b[i]
                y[o + i] = T(0) if v <= T(0) else v  # nan stays nan
        elif has_bias:
            for i in range(n):
                y[o + i] = y[o + i] + b[i]
        else:
            for i in range(n):
                v = y[o + i]
                y[o + i] = T(0) if v <= T(0) else v


@bias_relu.reference
def _(y, b, n, ld, has_bias, relu):
    y += b if has_bias else 0
    if relu:
        y[y <= 0] = 0


@kernel
def int_product(y: T, a: T, b: T, m: dim, n: dim, k: dim, step: dim, lo, hi):
    """y = a b for integers, which wrap; y (batch, m, n), a (batch, m, k), b (batch, k, n), batches ``step`` apart.

    Unit: a row of y.
    """
    for r in range(lo, hi):
        to, at = r * n, r // m * step
        for j in range(to, to + n):
            y[j] = 0
        for p in range(k):
            v, row = a[r * k + p], at + p * n
            for j in range(n):
                y[to + j] += v * b[row + j]


@int_product.reference
def _(y, a, b, m, n, k, step):
    batch = y.size // max(m * n, 1)
    y[:] = np.matmul(a.reshape(batch, m, k), b.reshape(-1, k, n)).reshape(y.shape)
