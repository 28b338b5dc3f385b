"""A whole step of a model as one compiled loop over its layers (`minillm.megakernel`).

Arguments are addresses and sizes, as in `minillm.loops`; the matrices lie behind one another in
bfloat16, in the order in which they are read.

Dimensions: L layers, N outputs, K inputs, H query heads, G key/value heads, D head dim, C width,
F MLP width, V vocabulary.
"""

from typing import Any

import numba
import numpy as np

from minillm import loops
from minillm.compiled import compiled, float_of_half, half_pointer, pointer

__all__ = ["step"]


@compiled
def _multiply(weights: int, x: Any, out: Any) -> int:
    """Multiply bfloat16 (N, K) at `weights` with x; the address behind them."""
    N, K = len(out), len(x)
    W = numba.carray(half_pointer(weights), (N, K))
    for n in range(N):
        dot = np.float32(0)
        for k in range(K):
            dot += float_of_half(W[n, k]) * x[k]
        out[n] = dot
    return weights + N * K * 2


@compiled
def _open_neurons(weights: int, x: Any, gate: Any, out: Any) -> int:
    """Add to out what the neurons with an open gate say of x; the address behind (F, 2, C)."""
    F, C = len(gate), len(x)
    W = numba.carray(half_pointer(weights), (F, 2, C))
    for f in range(F):
        if gate[f] > np.float32(0):
            dot = np.float32(0)
            for c in range(C):
                dot += float_of_half(W[f, 0, c]) * x[c]
            dot *= gate[f]
            for c in range(C):
                out[c] += dot * float_of_half(W[f, 1, c])
    return weights + F * 2 * C * 2


@compiled
def step(
    embedding: int, matrices: int, norms: int, eps: float, cos: int, sin: int,
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
        loops.norm(scratch, norms, eps, normed_at, 1, C)
        matrices = _multiply(matrices, normed, qkv)
        loops.attend(qkv_at, cos, sin, keys, values, start, slots, 1, H, G, D, weights_at)
        matrices = _multiply(matrices, qkv[: H * D], said)
        loops.add_and_norm(said_at, scratch, norms + 4 * C, eps, normed_at, 1, C)
        matrices = _multiply(matrices, normed, gate)
        matrices = _open_neurons(matrices, normed, gate, x)
        norms += 8 * C
        keys, values = keys + 4 * G * slots * D, values + 4 * G * slots * D
    loops.norm(scratch, norms, eps, normed_at, 1, C)
    _multiply(matrices, normed, numba.carray(pointer(logits), (V,)))
