"""The small operations between the matrices, each one compiled loop instead of a chain of calls.

One token's norm is a microsecond of arithmetic in five calls of three microseconds each, and
between two matrices that stream through the caches every call starts cold. Compiled, each of
these is a single call that allocates nothing. A row's result does not depend on the other rows.

Arguments are addresses (`tensor.data_ptr()`) of contiguous float32 data and sizes: plain integers
cost a tenth of a microsecond to pass, arrays a whole one. The caller vouches for them; only
`minillm.fast.block` calls these.

Dimensions: B batch, T new tokens, H query heads, G key/value heads, D head dim, C width,
F MLP width, S keys, R rows.
"""

from typing import Any

import numba
import numpy as np

from minillm.fast.kernels.memory import exp, in_order, jitted, pointer

__all__ = ["add_and_norm", "attend", "gate_relu", "gate_silu", "norm", "rotate_and_store"]


@in_order
def _squares(x: Any) -> float:
    """The sum of squares, every eighth apart."""
    a = b = c = d = e = f = g = h = np.float32(0)
    eights = len(x) // 8 * 8
    for i in range(0, eights, 8):
        a, b = a + x[i] * x[i], b + x[i + 1] * x[i + 1]
        c, d = c + x[i + 2] * x[i + 2], d + x[i + 3] * x[i + 3]
        e, f = e + x[i + 4] * x[i + 4], f + x[i + 5] * x[i + 5]
        g, h = g + x[i + 6] * x[i + 6], h + x[i + 7] * x[i + 7]
    for i in range(eights, len(x)):
        a += x[i] * x[i]
    return ((a + b) + (c + d)) + ((e + f) + (g + h))


@in_order
def norm(x: int, weight: int, eps: float, out: int, R: int, C: int) -> None:
    """RMSNorm: x / sqrt(mean(x^2) + eps) * weight, of (R, C) to (R, C)."""
    xs = numba.carray(pointer(x), (R, C))
    weights = numba.carray(pointer(weight), (C,))
    outs = numba.carray(pointer(out), (R, C))
    for r in range(R):
        mean = _squares(xs[r]) / np.float32(C)
        scale = np.float32(1) / np.sqrt(mean + np.float32(eps))
        for c in range(C):
            outs[r, c] = xs[r, c] * scale * weights[c]


@jitted
def add_and_norm(x: int, y: int, weight: int, eps: float, out: int, R: int, C: int) -> None:
    """Add x to y in place, and write the sum's norm to out; all (R, C)."""
    xs = numba.carray(pointer(x), (R, C))
    ys = numba.carray(pointer(y), (R, C))
    for r in range(R):
        for c in range(C):
            ys[r, c] += xs[r, c]
    norm(y, weight, eps, out, R, C)


@jitted
def gate_relu(gate_up: int, R: int, F: int) -> None:
    """Multiply relu(gate) with up, of (R, 2F), in place of the first half of each row."""
    both = numba.carray(pointer(gate_up), (R, 2 * F))
    for r in range(R):
        for f in range(F):
            both[r, f] = max(both[r, f], np.float32(0)) * both[r, F + f]


@jitted
def gate_silu(gate_up: int, R: int, F: int) -> None:
    """Multiply silu(gate) with up, of (R, 2F), in place of the first half of each row."""
    both = numba.carray(pointer(gate_up), (R, 2 * F))
    for r in range(R):
        for f in range(F):
            gate = both[r, f]
            both[r, f] = gate / (np.float32(1) + exp(-gate)) * both[r, F + f]


@jitted
def rotate_and_store(
    qkv: int, cos: int, sin: int, keys: int, values: int, start: int, slots: int,
    T: int, H: int, G: int, D: int,
) -> None:  # fmt: skip
    """Rotate the queries and keys of one row in place, and store its keys and values.

    qkv is (T, H + 2G, D), cos and sin are (T, D), keys and values are (G, slots, D), of which the
    slots from `start` on are written.
    """
    heads = numba.carray(pointer(qkv), (T, H + 2 * G, D))
    cosines = numba.carray(pointer(cos), (T, D))
    sines = numba.carray(pointer(sin), (T, D))
    stored_keys = numba.carray(pointer(keys), (G, slots, D))
    stored_values = numba.carray(pointer(values), (G, slots, D))
    half = D // 2
    for t in range(T):
        for h in range(H + G):
            for i in range(half):
                a, b = heads[t, h, i], heads[t, h, half + i]
                heads[t, h, i] = a * cosines[t, i] + b * sines[t, i]
                heads[t, h, half + i] = b * cosines[t, half + i] + a * sines[t, half + i]
        for g in range(G):
            for i in range(D):
                stored_keys[g, start + t, i] = heads[t, H + g, i]
                stored_values[g, start + t, i] = heads[t, H + G + g, i]


@jitted
def _score(query: Any, keys: Any, weights: Any, scale: float) -> None:
    for s in range(len(weights)):
        dot = np.float32(0)
        for i in range(len(query)):
            dot += query[i] * keys[s, i]
        weights[s] = dot * np.float32(scale)


@jitted
def _softmax(weights: Any) -> None:
    largest = weights[0]
    for s in range(len(weights)):
        largest = max(largest, weights[s])
    total = np.float32(0)
    for s in range(len(weights)):
        weights[s] = exp(weights[s] - largest)
        total += weights[s]
    for s in range(len(weights)):
        weights[s] /= total


@jitted
def _mix(weights: Any, values: Any, out: Any) -> None:
    fours = len(weights) // 4 * 4  # values read for one pass over out
    for i in range(len(out)):
        out[i] = 0
    for s in range(0, fours, 4):
        a, b, c, d = weights[s], weights[s + 1], weights[s + 2], weights[s + 3]
        for i in range(len(out)):
            out[i] += (
                a * values[s, i]
                + b * values[s + 1, i]
                + c * values[s + 2, i]
                + d * values[s + 3, i]
            )
    for s in range(fours, len(weights)):
        for i in range(len(out)):
            out[i] += weights[s] * values[s, i]


@jitted
def attend(
    qkv: int, cos: int, sin: int, keys: int, values: int, start: int, slots: int,
    T: int, H: int, G: int, D: int, scratch: int,
) -> None:  # fmt: skip
    """`rotate_and_store`, then causal softmax attention: each query becomes what it has read.

    scratch is room for start + T numbers.
    """
    rotate_and_store(qkv, cos, sin, keys, values, start, slots, T, H, G, D)
    heads = numba.carray(pointer(qkv), (T, H + 2 * G, D))
    all_keys = numba.carray(pointer(keys), (G, slots, D))
    all_values = numba.carray(pointer(values), (G, slots, D))
    room = numba.carray(pointer(scratch), (start + T,))
    for t in range(T):
        weights = room[: start + t + 1]
        for h in range(H):
            g = h // (H // G)
            _score(heads[t, h], all_keys[g], weights, 1 / np.sqrt(D))
            _softmax(weights)
            _mix(weights, all_values[g], heads[t, h])
