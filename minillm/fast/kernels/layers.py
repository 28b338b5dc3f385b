"""All layers of a model for a few rows, as one call that several threads make together.

Five phases a layer: queries, keys and values; attention; its output; gate and up; down. A thread
takes parts of each (`minillm.fast.kernels.team`): a panel of a matrix, or the attention of one head
of keys. What is short, the norm, each thread computes for itself.

Every number is one sum in a fixed order, so that a token's result is the same, bit for bit, alone
and in any block, with one thread and with several.

Dimensions: B batch, T new tokens, R rows (B x T), S cached + new keys, L layers, H query heads,
G key/value heads, D head dim, C width, F MLP width, N outputs, K inputs.
"""

from typing import Any

import numba
import numpy as np

from minillm.fast.kernels import float32
from minillm.fast.kernels.memory import byte_pointer, exp, jitted, pointer
from minillm.fast.kernels.panels import PANEL, dots, multiply
from minillm.fast.kernels.team import LINE, claim, done, fetch, pause, publish, wait

__all__ = ["CALL", "EACH", "MOST", "help_with", "lead"]

MOST = 64  # rows of a call
_BYTES = 4  # of a float32
_EIGHTH = 8  # weights that are added up at a time
_QKV, _ATTEND, _OUT, _GATE_UP, _DOWN, _HEAD = KINDS = range(6)  # of phases; five of each layer
EACH = (
    *("first", "last", "threads", "B", "T", "slots", "x", "logits"),
    *("keys", "values", "cos", "sin", "mask", "mask_turn"),
)
_SAME = (
    *("phases", "norms", "qkv", "read", "gated", "own", "own_bytes", "width", "silu"),
    *("layer_bytes", "L", "H", "G", "D", "C"),
)
CALL = np.dtype(
    [("number", np.int64)]  # first, where threads look for the next call
    + [(name, np.int64) for name in EACH]  # of this call
    + [("starts", np.int64, (MOST,)), ("turns", np.int64, (MOST,))]
    + [(name, np.int64) for name in _SAME]  # of the model
    + [("parts", np.int64, (len(KINDS),)), ("matrices", np.int64, (len(KINDS),))]
    + [("eps", np.float32)],
    align=True,
)


@jitted
def _rotate(head: Any, cos: Any, sin: Any) -> None:
    half = len(head) // 2
    for i in range(half):
        a, b = head[i], head[half + i]
        head[i] = a * cos[i] + b * sin[i]
        head[half + i] = b * cos[half + i] + a * sin[half + i]


@jitted(fastmath={"contract"})  # sums in their order
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


@jitted
def _product(call: Any, panel: int, x: int, K: int, out: int, N: int) -> int:
    """A panel (K, 32) with all rows of x (R, K), to 32 of N outputs; the address behind it."""
    step = PANEL * abs(call.width) // 8
    multiply(panel, step, call.width, x, K * _BYTES, K, out, N * _BYTES, call.B * call.T)
    return panel + K * step


@jitted
def _add(x: int, said: int, part: int, R: int, C: int) -> None:
    """Add a panel's outputs to x, (R, C)."""
    xs, outs = numba.carray(pointer(x), (R, C)), numba.carray(pointer(said), (R, PANEL))
    for r in range(R):
        for c in range(part * PANEL, min((part + 1) * PANEL, C)):
            xs[r, c] += outs[r, c - part * PANEL]


@jitted
def _open(gate: int, up: int, out: int, R: int, F: int, silu: int) -> None:
    """Gate times up, a panel of each, to 32 of F numbers in each row of out."""
    gates, ups = numba.carray(pointer(gate), (R, PANEL)), numba.carray(pointer(up), (R, PANEL))
    outs = numba.carray(pointer(out), (R, F))
    for r in range(R):
        for i in range(PANEL):
            g = gates[r, i]
            opened = g / (np.float32(1) + exp(-g)) if silu else max(g, np.float32(0))
            outs[r, i] = opened * ups[r, i]


@jitted
def _attend(call: Any, layer: int, part: int, own: int) -> None:
    """One key head of one batch row: store its new keys and values, and answer its queries."""
    T, H, G, D, slots = call.T, call.H, call.G, call.D, call.slots
    room = own + call.B * T * (call.C + 2 * PANEL) * _BYTES
    b, g, shared = part // G, part % G, H // G
    start = call.starts[b]
    width = call.parts[_QKV] * PANEL
    head = (((layer * call.B + b) * G + g) * slots) * D * _BYTES
    keys = numba.carray(pointer(call.keys + head), (slots, D))
    values = numba.carray(pointer(call.values + head), (slots, D))
    turn = call.turns[b] * D * _BYTES
    cos = numba.carray(pointer(call.cos + turn), (T, D))
    sin = numba.carray(pointer(call.sin + turn), (T, D))
    rows = numba.carray(pointer(call.qkv + b * T * width * _BYTES), (T, width))
    visible = numba.carray(byte_pointer(call.mask + b * call.mask_turn), (T, T))
    for t in range(T):
        k = rows[t, (H + g) * D : (H + g + 1) * D]
        _rotate(k, cos[t], sin[t])
        for i in range(D):
            keys[start + t, i] = k[i]
            values[start + t, i] = rows[t, (H + G + g) * D + i]
    S = start + T
    padded = (S + _EIGHTH - 1) // _EIGHTH * _EIGHTH
    weights = numba.carray(pointer(room), (shared, padded))
    for t in range(T):
        first = g * shared * D  # the queries of this head
        for h in range(shared):
            query = rows[t, first + h * D : first + (h + 1) * D]
            _rotate(query, cos[t], sin[t])
            for i in range(D):
                query[i] *= np.float32(1) / np.sqrt(np.float32(D))
        at = call.qkv + ((b * T + t) * width + first) * _BYTES
        size, row = D * _BYTES, padded * _BYTES
        dots(at, size, call.keys + head, size, D, room, row, shared, S)
        for h in range(shared):
            _softmax(weights[h], visible[t], start)
        out = call.read + ((b * T + t) * H * D + first) * _BYTES
        for i in range(0, D * _BYTES, PANEL * _BYTES):
            multiply(call.values + head + i, size, 32, room, row, S, out + i, size, shared)


@jitted
def _work(call: Any, layer: int, kind: int, part: int, own: int) -> None:
    """One part of a phase: the attention of a key head, or a panel of a matrix."""
    if kind == _ATTEND:
        _attend(call, layer, part, own)
        return
    R, C, F = call.B * call.T, call.C, call.parts[_GATE_UP] * PANEL
    read, at = call.H * call.D, part * PANEL * _BYTES
    said = own + R * C * _BYTES
    K = F if kind == _DOWN else read if kind == _OUT else C
    matrices = 2 if kind == _GATE_UP else 1
    panel = call.matrices[kind] + layer * call.layer_bytes
    panel += part * matrices * K * PANEL * abs(call.width) // 8
    if kind == _QKV:
        _product(call, panel, own, C, call.qkv + at, call.parts[_QKV] * PANEL)
    elif kind == _GATE_UP:
        up = said + R * PANEL * _BYTES
        panel = _product(call, panel, own, C, said, PANEL)
        _product(call, panel, own, C, up, PANEL)
        _open(said, up, call.gated + at, R, F, call.silu)
    elif kind == _HEAD:
        _product(call, panel, call.x, C, call.logits + at, call.parts[_HEAD] * PANEL)
    else:
        _product(call, panel, call.read if kind == _OUT else call.gated, K, said, PANEL)
        _add(call.x, said, part, R, C)


@jitted
def _share(call: Any, own: int) -> int:
    """A thread's share of a call; the longest it has waited for another thread, in looks."""
    longest = 0
    for index in range(call.first, call.last):
        layer, kind = index // 5, index % 5
        if layer == call.L:
            layer, kind = 0, _HEAD
        phase, parts = call.phases + LINE * index, call.parts[kind]
        if kind == _ATTEND:
            parts *= call.B
        part = claim(phase, call.number, parts)
        if part >= 0 and kind in (_QKV, _GATE_UP):
            norm = call.norms + (2 * layer + kind // _GATE_UP) * call.C * _BYTES
            float32.norm(call.x, norm, call.eps, own, call.B * call.T, call.C)
        while part >= 0:
            _work(call, layer, kind, part, own)
            done(phase)
            part = claim(phase, call.number, parts)
        longest = max(longest, wait(phase, call.number, parts))
    return longest


@jitted(nogil=True)
def lead(calls: Any) -> int:
    """Make the call that calls[0] describes; the longest wait for another thread, in looks."""
    call, at = calls[0], calls.ctypes.data
    number = fetch(at) + 1
    for index in range(call.first, call.last):
        phase = call.phases + LINE * index
        publish(phase + 8, 0)
        publish(phase, number << 32)
    publish(at, number)
    calls[1] = call
    longest = _share(calls[1], call.own)
    if call.first == 0:
        norm = call.norms + 2 * call.L * call.C * _BYTES
        float32.norm(call.x, norm, call.eps, call.x, call.B * call.T, call.C)
    return longest


@jitted(nogil=True)
def help_with(calls: Any, thread: int, patience: int) -> None:
    """Take part in the calls of another thread, until none has come for so many looks."""
    at, last, looks = calls.ctypes.data, 0, 0
    while looks < patience:
        number = fetch(at)
        if number == last:
            pause()
            looks += 1
            continue
        calls[1 + thread] = calls[0]
        call = calls[1 + thread]
        if fetch(at) == number:
            if thread >= call.threads:
                return
            _share(call, call.own + thread * call.own_bytes)
            last, looks = number, 0
