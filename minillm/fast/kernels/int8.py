"""Products of bytes: rows to bytes, their sums with a matrix, and sums to floats.

Arguments are addresses and sizes, as in `minillm.fast.kernels.float32`; only
`minillm.fast.int8_linear` and `minillm.fast.kernels.layers` call these.

Dimensions: R rows (tokens), N outputs, K inputs.
"""

import numba
import numpy as np

from minillm.fast.kernels.memory import byte_pointer, in_order, integer_pointer, jitted, pointer

__all__ = ["integer_sums", "rescale", "round_rows"]

_LARGEST = 127


@in_order  # another order of the factors would overflow at the edges
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
