"""Products of bytes, and what lies between two: sums to floats, a block's work, rows to bytes.

Arguments are addresses and sizes, as in `minillm.fast.kernels.float32`; only
`minillm.fast.int8_linear` and `minillm.fast.int8_block` call these.

Dimensions: R rows (tokens), N outputs, K inputs, T new tokens, H query heads, G key/value heads,
D head dim, C width, F MLP width.
"""

import numba
import numpy as np

from minillm.fast.kernels import float32
from minillm.fast.kernels.memory import byte_pointer, integer_pointer, jitted, pointer

__all__ = [
    "add",
    "add_norm_and_round",
    "attend_and_round",
    "gate_and_round",
    "integer_sums",
    "norm_and_round",
    "rescale",
    "round_rows",
]

_LARGEST = 127


@jitted(fastmath=False)  # another order of the factors would overflow at the edges
def round_rows(x: int, stride: int, codes: int, scales: int, R: int, K: int) -> None:
    """Round each row of x to 127 levels on both sides of zero, and note its scale.

    A row is the first K of `stride` numbers.

    Magnitudes of floats are ordered as their bits are, and integers are compared sixteen at once.
    The bits of NaN are the largest, so that a row with a NaN has a scale of NaN.
    """
    xs, bits = numba.carray(pointer(x), (R, stride)), numba.carray(integer_pointer(x), (R, stride))
    outs = numba.carray(byte_pointer(codes), (R, K))
    steps, step_bits = (
        numba.carray(pointer(scales), (R,)),
        numba.carray(integer_pointer(scales), (R,)),
    )
    for r in range(R):
        largest = np.int32(0x04000000)  # 2^-119: neither its inverse nor its step leaves float32
        for k in range(K):
            largest = max(largest, bits[r, k] & np.int32(0x7FFFFFFF))
        step_bits[r] = largest
        shrink = np.float32(_LARGEST) / steps[r]
        for k in range(K):
            outs[r, k] = np.int32(np.rint(xs[r, k] * shrink))
        steps[r] /= np.float32(_LARGEST)


@jitted
def integer_sums(codes: int, integers: int, sums: int, R: int, N: int, K: int) -> None:
    """Dot products of bytes: each row of `integers`, (N, K), is read once for all R of `codes`."""
    rows = numba.carray(byte_pointer(codes), (R, K))
    columns = numba.carray(byte_pointer(integers), (N, K))
    outs = numba.carray(integer_pointer(sums), (R, N))
    for n in range(N):
        for r in range(R):
            total = np.int32(0)
            for k in range(K):
                total += np.int32(rows[r, k]) * np.int32(columns[n, k])
            outs[r, n] = total


@jitted
def rescale(sums: int, rows: int, columns: int, out: int, R: int, N: int) -> None:
    """Multiply integer sums, (R, N), with the scales of their rows and of their columns."""
    integers, outs = numba.carray(integer_pointer(sums), (R, N)), numba.carray(pointer(out), (R, N))
    row_scales = numba.carray(pointer(rows), (R,))
    column_scales = numba.carray(pointer(columns), (N,))
    for r in range(R):
        for n in range(N):
            outs[r, n] = np.float32(integers[r, n]) * row_scales[r] * column_scales[n]


@jitted
def norm_and_round(
    x: int, weight: int, eps: float, normed: int, codes: int, scales: int, R: int, C: int
) -> None:
    """Round the norm of x, (R, C)."""
    float32.norm(x, weight, eps, normed, R, C)
    round_rows(normed, C, codes, scales, R, C)


@jitted
def attend_and_round(
    sums: int, scales: int, columns: int, qkv: int, cos: int, sin: int, keys: int, values: int,
    start: int, slots: int, T: int, H: int, G: int, D: int, scratch: int, codes: int,
) -> None:  # fmt: skip
    """Rescale queries, keys and values, attend as `float32` does, and round what was read."""
    width = (H + 2 * G) * D
    rescale(sums, scales, columns, qkv, T, width)
    float32.attend(qkv, cos, sin, keys, values, start, slots, T, H, G, D, scratch)
    round_rows(qkv, width, codes, scales, T, H * D)


@jitted
def add(sums: int, scales: int, columns: int, said: int, x: int, R: int, C: int) -> None:
    """Rescale, and add to x, (R, C)."""
    rescale(sums, scales, columns, said, R, C)
    ours, theirs = numba.carray(pointer(x), (R, C)), numba.carray(pointer(said), (R, C))
    for r in range(R):
        for c in range(C):
            ours[r, c] += theirs[r, c]


@jitted
def add_norm_and_round(
    sums: int, scales: int, columns: int, said: int, x: int,
    weight: int, eps: float, normed: int, codes: int, R: int, C: int,
) -> None:  # fmt: skip
    """Rescale and add to x, (R, C); round the norm of the sum."""
    add(sums, scales, columns, said, x, R, C)
    norm_and_round(x, weight, eps, normed, codes, scales, R, C)


@jitted
def gate_and_round(
    sums: int, scales: int, columns: int, both: int, codes: int, R: int, F: int
) -> None:
    """Rescale gate and up, (R, 2F), and round relu(gate) * up."""
    rescale(sums, scales, columns, both, R, 2 * F)
    float32.gate_relu(both, R, F)
    round_rows(both, 2 * F, codes, scales, R, F)
