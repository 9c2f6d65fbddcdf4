"""The pass that follows a matrix product: bias and relu over the whole of it. Twin of kernels/linear.py."""

from numba import cuda

from .contract import T, dim, jit, kernel
from .groups import rows_grid, width_bits
from .parts import aligned, load4, store4


@jit
def _finished(v, b, has_bias, relu):
    v = v + b if has_bias != 0 else v
    return type(v)(0) if (relu != 0) & (v <= 0) else v  # nan stays nan


@kernel(blocks=lambda units, dims: rows_grid(units, -(-dims[0] // 4)))
def bias_relu(y: T, b: T, n: dim, ld: dim, has_bias: dim, relu: dim, units):
    """y = relu(y + b), in place; y (rows, n) with row stride ld, b (n,) or none. Unit: a row."""
    bits = width_bits((n + 3) // 4, cuda.blockDim.x)
    side, lane = cuda.blockDim.x >> bits, cuda.threadIdx.x & ((1 << bits) - 1)
    whole = aligned(y) and ld % 4 == 0 and (has_bias == 0 or aligned(b))
    for r in range(cuda.blockIdx.x * side + (cuda.threadIdx.x >> bits), units, cuda.gridDim.x * side):
        i = 4 * lane
        while i < n:
            at = r * ld + i
            if whole and i + 4 <= n:
                p, q, v, w = load4(y, at)
                d = e = f = g = T(0)
                if has_bias != 0:
                    d, e, f, g = load4(b, i)
                p, q = _finished(p, d, has_bias, relu), _finished(q, e, has_bias, relu)
                store4(y, at, p, q, _finished(v, f, has_bias, relu), _finished(w, g, has_bias, relu))
            else:
                for k in range(i, min(i + 4, n)):
                    y[r * ld + k] = _finished(y[r * ld + k], b[k] if has_bias != 0 else T(0), has_bias, relu)
            i += 4 << bits
