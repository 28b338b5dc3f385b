"""A whole step of a model as one compiled loop over its layers (`minillm.fast.megakernel`).

Arguments are addresses and sizes, as in `minillm.fast.kernels.float32`; the matrices lie behind one
another, in the order in which they are read: integers of eight bits, and apart from them a scale
for each row.

Dimensions: L layers, N outputs, K inputs, H query heads, G key/value heads, D head dim, C width,
F MLP width, V vocabulary.
"""

from typing import Any

import numba
import numpy as np

from minillm.fast.kernels import float32
from minillm.fast.kernels.memory import byte_pointer, jitted, pointer

__all__ = ["step"]


@jitted
def _multiply(integers: int, scales: int, x: Any, out: Any) -> tuple[int, int]:
    """Multiply int8 (N, K), a scale for each row, with x; the addresses behind both."""
    N, K = len(out), len(x)
    W = numba.carray(byte_pointer(integers), (N, K))
    scale = numba.carray(pointer(scales), (N,))
    for n in range(N):
        dot = np.float32(0)
        for k in range(K):
            dot += np.float32(W[n, k]) * x[k]
        out[n] = dot * scale[n]
    return integers + N * K, scales + 4 * N


@jitted
def _open_neurons(integers: int, scales: int, x: Any, gate: Any, out: Any) -> tuple[int, int]:
    """Add to out what the neurons with an open gate say of x; the addresses behind (F, 2, C)."""
    F, C = len(gate), len(x)
    W = numba.carray(byte_pointer(integers), (F, 2, C))
    scale = numba.carray(pointer(scales), (F, 2))
    for f in range(F):
        if not gate[f] <= np.float32(0):  # NaN too
            dot = np.float32(0)
            for c in range(C):
                dot += np.float32(W[f, 0, c]) * x[c]
            dot *= gate[f] * scale[f, 0] * scale[f, 1]
            for c in range(C):
                out[c] += dot * np.float32(W[f, 1, c])
    return integers + F * 2 * C, scales + 4 * F * 2


@jitted
def step(
    embedding: int, integers: int, scales: int, norms: int, eps: float, cos: int, sin: int,
    keys: int, values: int, start: int, slots: int,
    L: int, H: int, G: int, D: int, C: int, F: int, V: int, scratch: int, logits: int,
) -> None:  # fmt: skip
    """From a token's embedding (C) to its logits (V); its keys and values go to slot `start`.

    Of each layer the matrices are qkv, out, gate and, of every neuron, up and down; then the head.
    norms is (2L + 1, C), cos and sin are (D,) of the token's position, keys and values are
    (L, G, slots, D); scratch is room for 3C + F + (H + 2G) D + start + 1 numbers.
    """
    qkv_width = (H + 2 * G) * D
    normed_at, said_at = scratch + 4 * C, scratch + 8 * C
    gate_at = scratch + 12 * C
    qkv_at = gate_at + 4 * F
    weights_at = qkv_at + 4 * qkv_width
    x, normed = numba.carray(pointer(scratch), (C,)), numba.carray(pointer(normed_at), (C,))
    said, gate = numba.carray(pointer(said_at), (C,)), numba.carray(pointer(gate_at), (F,))
    qkv = numba.carray(pointer(qkv_at), (qkv_width,))
    embedded = numba.carray(pointer(embedding), (C,))
    for c in range(C):
        x[c] = embedded[c]
    for _ in range(L):
        float32.norm(scratch, norms, eps, normed_at, 1, C)
        integers, scales = _multiply(integers, scales, normed, qkv)
        float32.attend(qkv_at, cos, sin, keys, values, start, slots, 1, H, G, D, weights_at)
        integers, scales = _multiply(integers, scales, qkv[: H * D], said)
        float32.add_and_norm(said_at, scratch, norms + 4 * C, eps, normed_at, 1, C)
        integers, scales = _multiply(integers, scales, normed, gate)
        integers, scales = _open_neurons(integers, scales, normed, gate, x)
        norms += 8 * C
        keys, values = keys + 4 * G * slots * D, values + 4 * G * slots * D
    float32.norm(scratch, norms, eps, normed_at, 1, C)
    _multiply(integers, scales, normed, numba.carray(pointer(logits), (V,)))
