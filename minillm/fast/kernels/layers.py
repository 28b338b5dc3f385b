"""All layers of a model for a few rows, as one call that several threads make together.

Five phases a layer: queries, keys and values; attention; its output; gate and up; down. A thread
takes parts of each (`minillm.fast.kernels.team`): a panel of a matrix, or the attention of one head
of keys. What is short, the norm, each thread computes for itself.

Every number is one sum in the order in which it is written here, so that a token's result is the
same, bit for bit, alone and in any block, with one thread and with several.

Dimensions: B batch, T new tokens, R rows (B x T), S cached + new keys, L layers, H query heads,
G key/value heads, D head dim, C width, F MLP width, N outputs, K inputs.
"""

from typing import Any

import numba
import numpy as np

from minillm.fast.kernels import float32
from minillm.fast.kernels.attention import attend
from minillm.fast.kernels.call import ATTEND, BYTES, DOWN, GATE_UP, HEAD, OUT, QKV
from minillm.fast.kernels.int8 import round_rows
from minillm.fast.kernels.memory import (
    byte_pointer,
    exp,
    in_order,
    integer_pointer,
    pointer,
    short_pointer,
    word_pointer,
)
from minillm.fast.kernels.panels import PANEL, dots, multiply
from minillm.fast.kernels.team import LINE, begin, claim, done, fetch, pause, publish, wait

__all__ = ["help_with", "lead", "share"]


@in_order
def _product(
    call: Any, own: int, panel: int, scales: int, x: int, K: int, out: int, stride: int
) -> None:
    """A panel with all rows of x (R, K), to 32 numbers every `stride` bytes of out."""
    R = call.B * call.T
    if call.width != 8:
        step = PANEL * abs(call.width) // 8
        multiply(panel, step, call.width, x, K * BYTES, K, out, stride, R, False)
        return
    multiply(panel, 2 * PANEL, 8, own + call.codes, 2 * K, K // 2, out, stride, R, False)
    steps = numba.carray(pointer(own + call.steps), (R,))
    of_outputs = numba.carray(pointer(scales), (PANEL,))
    for r in range(R):
        sums = numba.carray(integer_pointer(out + r * stride), (PANEL,))
        outs = numba.carray(pointer(out + r * stride), (PANEL,))
        for i in range(PANEL):
            outs[i] = np.float32(sums[i]) * steps[r] * of_outputs[i]


@in_order
def _add(x: int, said: int, part: int, R: int, C: int) -> None:
    """Add a panel's outputs to x, (R, C)."""
    xs, outs = numba.carray(pointer(x), (R, C)), numba.carray(pointer(said), (R, PANEL))
    for r in range(R):
        for c in range(part * PANEL, min((part + 1) * PANEL, C)):
            xs[r, c] += outs[r, c - part * PANEL]


@in_order
def _open(gate: int, up: int, out: int, R: int, F: int, silu: int) -> None:
    """Gate times up, a panel of each, to 32 of F numbers in each row of out."""
    gates, ups = numba.carray(pointer(gate), (R, PANEL)), numba.carray(pointer(up), (R, PANEL))
    outs = numba.carray(pointer(out), (R, F))
    for r in range(R):
        for i in range(PANEL):
            g = gates[r, i]
            opened = g / (np.float32(1) + exp(-g)) if silu else max(g, np.float32(0))
            outs[r, i] = opened * ups[r, i]


@in_order
def _open_some(call: Any, ups_at: int, x: int, gate: int, up: int, to: int) -> None:
    """As `_open`, with 32 rows (C,) of up, of which those are read whose gate a token opens."""
    R, C, F = call.B * call.T, call.C, call.parts[GATE_UP] * PANEL
    gates, outs = numba.carray(pointer(gate), (R, PANEL)), numba.carray(pointer(to), (R, F))
    ups, row = numba.carray(pointer(up), (R,)), C * abs(call.width) // 8
    for i in range(PANEL):
        opened = False
        for r in range(R):
            opened = opened or not gates[r, i] <= np.float32(0)  # NaN too
            outs[r, i] = 0
        if opened:
            dots(x, C * BYTES, ups_at + i * row, row, C, up, BYTES, R, 1, call.width)
            for r in range(R):
                outs[r, i] = max(gates[r, i], np.float32(0)) * ups[r]


@in_order
def _gather(call: Any, layer: int, own: int) -> None:
    """List the neurons that any token has opened: where their rows are, and what each says."""
    R, F = call.B * call.T, call.parts[GATE_UP] * PANEL
    gated, row = numba.carray(pointer(call.gated), (R, F)), call.C * abs(call.width) // 8
    places = numba.carray(word_pointer(own + call.codes), (F,))
    said = numba.carray(pointer(own + call.codes + 8 * F), (R, F))
    count = 0
    for f in range(F):
        opened = False
        for r in range(R):
            opened = opened or gated[r, f] != np.float32(0)
        if opened:
            places[count] = f * row
            for r in range(R):
                said[r, count] = gated[r, f]
            count += 1
    numba.carray(word_pointer(call.opened), (call.L,))[layer] = count


@in_order
def _inputs(call: Any, kind: int, own: int) -> tuple[int, int]:
    """Where the rows that a matrix is multiplied with begin, and their length."""
    if kind == OUT:
        return call.read, call.H * call.D
    if kind == DOWN:
        return call.gated, call.parts[GATE_UP] * PANEL
    return call.x if kind == HEAD and call.first > 0 else own, call.C


@in_order
def _prepare(call: Any, layer: int, kind: int, own: int) -> None:
    """What a thread computes for itself before its first part: a norm, rows as integers."""
    R = call.B * call.T
    if kind in (QKV, GATE_UP) or (kind == HEAD and call.first == 0):
        before = 2 * call.L if kind == HEAD else 2 * layer + kind // GATE_UP
        norm = call.norms + before * call.C * BYTES
        float32.norm(call.x, norm, call.eps, own, R, call.C)
    if call.skips and kind == DOWN:
        _gather(call, layer, own)
    if call.width == 8 and kind != ATTEND:
        x, K = _inputs(call, kind, own)
        codes = own + call.codes
        bytes_at = codes + 2 * R * K
        round_rows(x, K, bytes_at, own + call.steps, R, K)
        narrow = numba.carray(byte_pointer(bytes_at), (R * K,))
        wide = numba.carray(short_pointer(codes), (R * K,))
        for i in range(R * K):
            wide[i] = narrow[i]


@in_order
def _work(call: Any, layer: int, kind: int, part: int, own: int) -> None:
    """One part of a phase: the attention of a key head, or a panel of a matrix."""
    if kind == ATTEND:
        attend(call, layer, part, own)
        return
    R, (x, K), at = call.B * call.T, _inputs(call, kind, own), part * PANEL * BYTES
    said, up, row = own + R * call.C * BYTES, own + R * (call.C + PANEL) * BYTES, PANEL * BYTES
    size, both = K * PANEL * abs(call.width) // 8, 2 if kind == GATE_UP and not call.skips else 1
    matrix = call.matrices[kind] + layer * call.layer_bytes
    panel, scales = matrix + both * part * size, call.scales[kind] + layer * call.scale_bytes
    scales += both * at
    if kind == QKV:
        _product(call, own, panel, scales, x, K, call.qkv + at, call.parts[QKV] * row)
    elif kind == HEAD:
        _product(call, own, panel, scales, x, K, call.logits + at, call.parts[HEAD] * row)
    elif kind == GATE_UP:
        _product(call, own, panel, scales, x, K, said, row)
        if call.skips:
            ups = matrix + (call.parts[GATE_UP] + part) * size
            _open_some(call, ups, x, said, up, call.gated + at)
        else:
            _product(call, own, panel + size, scales + row, x, K, up, row)
            _open(said, up, call.gated + at, R, call.parts[GATE_UP] * PANEL, call.silu)
    elif kind == DOWN and call.skips:
        columns, listed = matrix + part * PANEL * abs(call.width) // 8, own + call.codes
        opened = numba.carray(word_pointer(call.opened), (call.L,))[layer]
        numbers = listed + 8 * K
        multiply(columns, listed, call.width, numbers, K * BYTES, opened, said, row, R, True)
        _add(call.x, said, part, R, call.C)
    else:
        _product(call, own, panel, scales, x, K, said, row)
        _add(call.x, said, part, R, call.C)


@in_order
def share(call: Any, own: int) -> int:
    """A thread's share of a call; the longest it has waited for another thread, in looks."""
    longest = 0
    for index in range(call.first, call.last):
        layer, kind = index // 5, index % 5
        if layer == call.L:
            layer, kind = 0, HEAD
        phase, parts = call.phases + LINE * index, call.parts[kind]
        if kind == ATTEND:
            parts *= call.B
        part = claim(phase, call.number, parts)
        if part >= 0:
            _prepare(call, layer, kind, own)
        while part >= 0:
            _work(call, layer, kind, part, own)
            done(phase)
            part = claim(phase, call.number, parts)
        longest = max(longest, wait(phase, call.number, parts))
    return longest


@in_order(nogil=True)
def lead(calls: Any, number: int) -> int:
    """Make the call that calls[1] describes; the longest wait for another thread, in looks.

    calls[0] is the one that other threads see. Its number is odd while it is written, so that
    nobody takes the sizes of one call for those of another; `number`, even, is no other call's.
    """
    call, at = calls[1], calls.ctypes.data
    call.number = number - 1
    publish(at, number - 1)
    calls[0] = call
    for index in range(call.first, call.last):
        begin(call.phases + LINE * index, number)
    if call.embedded:
        x = numba.carray(pointer(call.x), (call.C,))
        embedding = numba.carray(pointer(call.embedded), (call.C,))
        for c in range(call.C):
            x[c] = embedding[c]
    call.number = number
    publish(at, number)
    longest = share(call, call.own)
    if not call.logits:
        norm = call.norms + 2 * call.L * call.C * BYTES
        float32.norm(call.x, norm, call.eps, call.x, call.B * call.T, call.C)
    return longest


@in_order(nogil=True)
def help_with(calls: Any, thread: int, patience: int) -> None:
    """Take part in the calls of another thread, until none has come for so many looks."""
    at, last, looks = calls.ctypes.data, 0, 0
    while looks < patience:
        number = fetch(at)
        if number == last or number % 2 == 1:
            pause()
            looks += 1
            continue
        calls[1 + thread] = calls[0]
        call = calls[1 + thread]
        if fetch(at) == number:
            if thread >= call.threads:
                return
            call.number = number
            share(call, call.own + thread * call.own_bytes)
            last, looks = number, 0
