"""What numba's loops over raw memory are written with: how they compile, addresses, e^x."""

from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.core import types
from numba.extending import intrinsic

__all__ = [
    "byte_pointer",
    "exp",
    "in_order",
    "integer_pointer",
    "jitted",
    "pointer",
    "short_pointer",
    "word_pointer",
]

_REORDER = {"reassoc", "contract", "arcp", "nsz"}  # sums in any order; NaN and infinity stay


def jitted(
    function: Any = None, *, fastmath: set[str] | bool = _REORDER, nogil: bool = False
) -> Any:
    """Compiled at the first call, and kept on disk where there is a place to write."""
    if function is None:
        return partial(jitted, fastmath=fastmath, nogil=nogil)
    jit = partial(numba.njit, fastmath=fastmath, nogil=nogil, error_model="numpy")
    name = function.__qualname__
    function.__qualname__ = f"{name}.{_sources()}"  # of which numba makes the name of the file
    try:
        return jit(cache=True)(function)
    except RuntimeError:  # no locator available
        return jit()(function)
    finally:
        function.__qualname__ = name


in_order = partial(jitted, fastmath=False)  # the same bits wherever it is inlined


@cache
def _sources() -> str:
    """A digest of all kernels: one holds code of others, whose files numba does not look at."""
    kernels = sorted(Path(__file__).parent.glob("*.py"))
    return sha256(b"".join(path.read_bytes() for path in kernels)).hexdigest()[:16]


_POWERS_OF_TWO = (1.535336e-4, 1.3398874e-3, 9.618437e-3, 5.550332e-2, 0.24022648, 0.6931472, 1.0)


def _pointer_to(kind: Any) -> Any:
    """Of an integer, which is an address, the pointer to numbers of a kind."""

    @intrinsic
    def pointer(context: Any, address: Any) -> Any:
        def code(target: Any, builder: Any, signature: Any, values: Any) -> Any:
            return builder.inttoptr(values[0], target.get_value_type(signature.return_type))

        return types.CPointer(kind)(address), code

    return pointer


pointer, byte_pointer = _pointer_to(types.float32), _pointer_to(types.int8)
short_pointer, integer_pointer = _pointer_to(types.int16), _pointer_to(types.int32)
word_pointer = _pointer_to(types.int64)


@intrinsic
def _float_of_bits(context: Any, bits: Any) -> Any:
    """The float32 whose bits are those of an int32."""

    def code(target: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.bitcast(values[0], target.get_value_type(signature.return_type))

    return types.float32(types.int32), code


@in_order
def exp(x: Any) -> Any:
    """e^x to 2e-7, from 2^-126 to 2^127: 2^whole times a polynomial in the rest, without calls."""
    binary = min(max(x * np.float32(1.4426950408889634), np.float32(-126)), np.float32(127))
    whole = np.floor(binary)
    rest = binary - whole
    power = np.float32(0)
    for coefficient in _POWERS_OF_TWO:
        power = power * rest + np.float32(coefficient)
    return power * _float_of_bits((np.int32(whole) + np.int32(127)) << np.int32(23))
