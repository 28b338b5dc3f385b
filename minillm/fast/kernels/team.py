"""Threads that share out one call's work, part by part, and wait for each other between phases.

A call is a row of phases (a matrix, the attention of a layer), and a phase a number of parts. A
thread claims the next part that nobody has, and goes on to the next phase when all parts are done.
Nobody is waited for but who has claimed: a thread that gets no core is left behind, and the others
do its share.

A phase counts in two words: the parts claimed, behind the number of the call, and the parts done. A
thread that wakes up late finds the number of a later call there, and claims nothing.
"""

import platform
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from minillm.fast.kernels.memory import in_order

__all__ = ["LINE", "begin", "claim", "done", "fetch", "pause", "publish", "wait"]

LINE = 64  # bytes that processors pass to one another: a word alone on its line disturbs no other
_CALL = 24  # bits below the number of the call
_PAUSE = {"x86_64": "llvm.x86.sse2.pause", "AMD64": "llvm.x86.sse2.pause"}.get(platform.machine())


def _word(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, ir.IntType(64).as_pointer())


@intrinsic
def fetch(context: Any, address: Any) -> Any:
    """The word at an address; nothing that is read after it is older."""

    def code(target: Any, builder: Any, signature: Any, values: Any) -> Any:
        builder.fence("seq_cst")
        return builder.load_atomic(_word(builder, values[0]), "seq_cst", 8)

    return types.int64(types.int64), code


@intrinsic
def publish(context: Any, address: Any, word: Any) -> Any:
    """Write a word; who fetches it sees all that was written before, nothing that is behind."""

    def code(target: Any, builder: Any, signature: Any, values: Any) -> Any:
        builder.store_atomic(values[1], _word(builder, values[0]), "seq_cst", 8)
        builder.fence("seq_cst")
        return target.get_dummy_value()

    return types.void(types.int64, types.int64), code


@intrinsic
def _add(context: Any, address: Any, count: Any) -> Any:
    def code(target: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.atomic_rmw("add", _word(builder, values[0]), values[1], "seq_cst")

    return types.int64(types.int64, types.int64), code


@intrinsic
def _replaced(context: Any, address: Any, expected: Any, word: Any) -> Any:
    """Whether the word was the expected one, and is now the other."""

    def code(target: Any, builder: Any, signature: Any, values: Any) -> Any:
        address, expected, word = values
        both = builder.cmpxchg(_word(builder, address), expected, word, "seq_cst", "seq_cst")
        return builder.extract_value(both, 1)

    return types.boolean(types.int64, types.int64, types.int64), code


@intrinsic
def pause(context: Any) -> Any:
    """Tell the processor that this thread waits."""

    def code(target: Any, builder: Any, signature: Any, values: Any) -> Any:
        if _PAUSE:
            nothing = ir.FunctionType(ir.VoidType(), [])
            builder.call(builder.module.declare_intrinsic(_PAUSE, fnty=nothing), [])
        else:
            builder.fence("seq_cst")
        return target.get_dummy_value()

    return types.void(), code


@in_order
def begin(phase: int, call: int) -> None:
    """All parts of a phase are to be done for this call."""
    publish(phase + 8, 0)
    publish(phase, call << _CALL)


@in_order
def claim(phase: int, call: int, parts: int) -> int:
    """The number of a part that is now this thread's; -1 where none is left."""
    while True:
        claimed = fetch(phase)
        part = claimed - (call << _CALL)
        if claimed >> _CALL != call or part >= parts:
            return -1
        if _replaced(phase, claimed, claimed + 1):
            return part


@in_order
def done(phase: int) -> None:
    """Count a part that was claimed."""
    _add(phase + 8, 1)


@in_order
def wait(phase: int, call: int, parts: int) -> int:
    """Until all parts are done; how often this thread has looked in vain."""
    looks = 0
    while fetch(phase) >> _CALL == call and fetch(phase + 8) < parts:
        pause()
        looks += 1
    return looks
