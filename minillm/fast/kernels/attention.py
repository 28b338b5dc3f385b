"""Attention of a call (`minillm.fast.kernels.layers`): one head of keys, and all its queries.

Keys and values lie in blocks (`minillm.serving.paged_cache`), which a row's table names in order; a
row of a contiguous cache is one block.

Dimensions: T new tokens, S cached + new keys, H query heads, G key/value heads, P slots of a block,
D head dim.
"""

from typing import Any

import numba
import numpy as np

from minillm.fast.kernels.call import BYTES, QKV
from minillm.fast.kernels.memory import byte_pointer, exp, in_order, pointer, word_pointer
from minillm.fast.kernels.panels import PANEL, dots, multiply

__all__ = ["attend"]

_EIGHTH = 8  # weights that are added up at a time


@in_order
def _rotate(head: Any, cos: Any, sin: Any) -> None:
    half = len(head) // 2
    for i in range(half):
        a, b = head[i], head[half + i]
        head[i] = a * cos[i] + b * sin[i]
        head[half + i] = b * cos[half + i] + a * sin[half + i]


@in_order
def _softmax(weights: Any, visible: Any, start: int) -> None:
    """The weights of the first `start` keys and of the visible ones behind; the others are zero.

    weights has room for a multiple of eight, of which the last are zero.
    """
    S = start + len(visible)
    largest = np.float32(-np.inf)
    for s in range(start):
        largest = max(largest, weights[s])
    for t in range(len(visible)):
        if visible[t]:
            largest = max(largest, weights[start + t])
    for s in range(len(weights)):
        weights[s] = exp(weights[s] - largest)
    for t in range(len(visible)):
        if not visible[t]:
            weights[start + t] = 0
    for s in range(S, len(weights)):
        weights[s] = 0
    a = b = c = d = e = f = g = h = np.float32(0)
    for s in range(0, len(weights), _EIGHTH):
        a, b = a + weights[s], b + weights[s + 1]
        c, d = c + weights[s + 2], d + weights[s + 3]
        e, f = e + weights[s + 4], f + weights[s + 5]
        g, h = g + weights[s + 6], h + weights[s + 7]
    share = np.float32(1) / (((a + b) + (c + d)) + ((e + f) + (g + h)))
    for s in range(S):
        weights[s] *= share


@in_order
def _place(call: Any, layer: int, b: int, g: int, slot: int) -> int:
    """Where a slot of a row's head begins, in bytes."""
    table = numba.carray(word_pointer(call.tables), (call.B, call.row_blocks))
    block = layer * call.blocks + table[b, slot // call.slots]
    return ((block * call.G + g) * call.slots + slot % call.slots) * call.D * BYTES


@in_order
def attend(call: Any, layer: int, part: int, own: int) -> None:
    """One key head of one batch row: store its new keys and values, and answer its queries."""
    T, H, G, D, P = call.T, call.H, call.G, call.D, call.slots
    room, listed = own + call.room, call.row_blocks > 1
    b, g, shared = part // G, part % G, H // G
    start = call.starts[b]
    width = call.parts[QKV] * PANEL
    turn = call.turns[b] * D * BYTES
    cos = numba.carray(pointer(call.cos + turn), (T, D))
    sin = numba.carray(pointer(call.sin + turn), (T, D))
    rows = numba.carray(pointer(call.qkv + b * T * width * BYTES), (T, width))
    visible = numba.carray(byte_pointer(call.mask + b * call.mask_turn), (T, T))
    for t in range(T):
        k = rows[t, (H + g) * D : (H + g + 1) * D]
        _rotate(k, cos[t], sin[t])
        place = _place(call, layer, b, g, start + t)
        key = numba.carray(pointer(call.keys + place), (D,))
        value = numba.carray(pointer(call.values + place), (D,))
        for i in range(D):
            key[i] = k[i]
            value[i] = rows[t, (H + G + g) * D + i]
    S = start + T
    values, step = call.values + _place(call, layer, b, g, 0), D * BYTES
    if listed:
        places = numba.carray(word_pointer(own + call.places), (S,))
        for s in range(S):
            places[s] = _place(call, layer, b, g, s)
        values, step = call.values, own + call.places
    padded = (S + _EIGHTH - 1) // _EIGHTH * _EIGHTH
    weights = numba.carray(pointer(room), (shared, padded))
    for t in range(T):
        first = g * shared * D  # the queries of this head
        for h in range(shared):
            query = rows[t, first + h * D : first + (h + 1) * D]
            _rotate(query, cos[t], sin[t])
            for i in range(D):
                query[i] *= np.float32(1) / np.sqrt(np.float32(D))
        at = call.qkv + ((b * T + t) * width + first) * BYTES
        size, row = D * BYTES, padded * BYTES
        for s in range(0, S, P):
            keys, weight = call.keys + _place(call, layer, b, g, s), room + s * BYTES
            dots(at, size, keys, size, D, weight, row, shared, min(P, S - s), 32)
        for h in range(shared):
            _softmax(weights[h], visible[t], start)
        out = call.read + ((b * T + t) * H * D + first) * BYTES
        for i in range(0, D * BYTES, PANEL * BYTES):
            multiply(values + i, step, 32, room, row, S, out + i, size, shared, listed)
