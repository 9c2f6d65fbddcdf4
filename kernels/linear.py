"""The pass that follows a matrix product: bias and relu on a block of rows that is still in cache."""

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
