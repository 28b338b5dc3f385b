"""Products of a few rows with a matrix, whose sums stay in registers from first input to last.

A matrix (N, K) is cut into panels of 32 outputs, each (K, 32): one walk through a panel, in the
order in which it lies in memory, multiplies it with all rows. Every output is one sum in the order
of its inputs, whatever else is computed beside it: a row's result is the same, bit for bit, alone
and in any block.

Numbers of 16 bits become float32 as they are read, which loses nothing and halves what is read.
Integers of 8 bits are multiplied with integers, two inputs at a time: their panels are
(K / 2, 32, 2), the rows are of 16 bits, and the sums, of 32 bits, are exact.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from minillm.fast.kernels.memory import in_order

__all__ = ["PANEL", "dots", "multiply"]

PANEL = 32
_WIDE = bool(get_host_cpu_features().get("avx512f"))
_LANES = 16 if _WIDE else 8  # of a vector
_ROWS = 8 if _WIDE else 6  # whose sums stay in the processor's registers, a half panel each
_FLOATS = (32, 16, -16)  # float32, float16, bfloat16
_WIDTHS = (*_FLOATS, 8)  # int8
_AHEAD = 4096  # bytes, so that memory works while the processor multiplies
_FEW = 2  # rows whose sums stay there for a whole panel

_F = ir.FloatType()
_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_VECTOR = ir.VectorType(_F, _LANES)
_INTEGERS = ir.VectorType(_I32, _LANES)


def _bytes_of_lanes(width: int) -> int:
    return 2 * _LANES if width == 8 else abs(width) // 8 * _LANES


def _vector(builder: Any, address: Any, width: int) -> Any:
    """Numbers from an address on, as float32; of int8 two for each lane, as int16."""
    kind = {32: _F, 16: ir.HalfType(), -16: _I16, 8: _I8}[width]
    stored = ir.VectorType(kind, 2 * _LANES if width == 8 else _LANES)
    loaded = builder.load(builder.inttoptr(address, stored.as_pointer()), align=2)
    if width == 32:
        return loaded
    if width == 16:
        return builder.fpext(loaded, _VECTOR)
    if width == 8:
        return builder.sext(loaded, ir.VectorType(_I16, 2 * _LANES))
    shift = ir.Constant(_INTEGERS, [16] * _LANES)
    return builder.bitcast(builder.shl(builder.zext(loaded, _INTEGERS), shift), _VECTOR)


def _everywhere(builder: Any, address: Any, width: int) -> Any:
    """One number in all lanes, or one pair of integers."""
    kind, vector = (_I32, _INTEGERS) if width == 8 else (_F, _VECTOR)
    number = builder.load(builder.inttoptr(address, kind.as_pointer()), align=4)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), number, _I32(0))
    all_lanes = ir.Constant(ir.VectorType(_I32, _LANES), [0] * _LANES)
    spread = builder.shuffle_vector(one, one, all_lanes)
    return builder.bitcast(spread, ir.VectorType(_I16, 2 * _LANES)) if width == 8 else spread


def _multiplied_and_added(builder: Any, a: Any, b: Any, c: Any) -> Any:
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    name = f"llvm.fma.v{_LANES}f32"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [a, b, c])


def _multiplied_pairs(builder: Any, a: Any, b: Any) -> Any:
    """The sums of the products of two neighbours, of int16 to int32."""
    wide = ir.VectorType(_I32, 2 * _LANES)
    products = builder.mul(builder.sext(a, wide), builder.sext(b, wide))
    halves = [
        builder.shuffle_vector(
            products, products, ir.Constant(_INTEGERS, list(range(first, 2 * _LANES, 2)))
        )
        for first in (0, 1)
    ]
    return builder.add(*halves)


def _zeros(builder: Any, count: int, kind: Any = _VECTOR) -> list[Any]:
    """Places for sums, which the compiler turns into registers."""
    places = [cgutils.alloca_once(builder, kind) for _ in range(count)]
    for place in places:
        builder.store(ir.Constant(kind, [0] * _LANES), place)
    return places


def _add_product(builder: Any, a: Any, b: Any, place: Any) -> None:
    so_far = builder.load(place)
    if so_far.type == _VECTOR:
        builder.store(_multiplied_and_added(builder, a, b, so_far), place)
    else:
        builder.store(builder.add(_multiplied_pairs(builder, a, b), so_far), place)


def _fetch_early(builder: Any, address: Any) -> None:
    """Ask for the line at an address, into all caches; any address will do."""
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, _I32, _I32, _I32])
    prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    to_read, everywhere, data = _I32(0), _I32(3), _I32(1)
    builder.call(prefetch, [builder.inttoptr(address, byte), to_read, everywhere, data])


def _rows_from(builder: Any, address: Any, stride: Any, rows: int) -> list[Any]:
    return [builder.add(address, builder.mul(stride, _I64(r))) for r in range(rows)]


def _walk(
    builder: Any, panel: Any, step: Any, x: Any, stride: Any, K: Any, out: Any, out_stride: Any,
    width: int, rows: int, vectors: int, listed: bool,
) -> None:  # fmt: skip
    """The first sums of a panel, `vectors` for each row; its rows a step apart, or as listed."""
    kind = _INTEGERS if width == 8 else _VECTOR
    sums = [_zeros(builder, vectors, kind) for _ in range(rows)]
    xs = _rows_from(builder, x, stride, rows)
    with cgutils.for_range(builder, K) as loop:
        place = builder.mul(loop.index, step)
        if listed:
            entry = builder.add(step, builder.mul(loop.index, _I64(8)))
            place = builder.load(builder.inttoptr(entry, _I64.as_pointer()))
        at = builder.add(panel, place)
        if not listed:
            _fetch_early(builder, builder.add(at, _I64(_AHEAD)))
        sizes = [_I64(_bytes_of_lanes(width) * v) for v in range(vectors)]
        weights = [_vector(builder, builder.add(at, size), width) for size in sizes]
        for r in range(rows):
            at_row = builder.add(xs[r], builder.mul(loop.index, _I64(4)))
            number = _everywhere(builder, at_row, width)
            for v in range(vectors):
                _add_product(builder, weights[v], number, sums[r][v])
    for places, row in zip(sums, _rows_from(builder, out, out_stride, rows), strict=True):
        for v, place in enumerate(places):
            address = builder.add(row, _I64(4 * _LANES * v))
            target = builder.inttoptr(address, kind.as_pointer())
            builder.store(builder.load(place), target, align=4)


def _for_all_rows(widths: Sequence[int], listed: bool) -> Any:
    """A panel with up to `_ROWS` rows: of each width and count there is code of its own."""

    @intrinsic
    def multiply_panel(
        context: Any, panel: Any, step: Any, width: Any, x: Any, stride: Any, K: Any,
        out: Any, out_stride: Any, rows: Any,
    ) -> Any:  # fmt: skip
        def code(target: Any, builder: Any, signature: Any, values: Any) -> Any:
            panel, step, width, x, stride, K, out, out_stride, rows = values
            whole, half = PANEL // _LANES, PANEL // _LANES // 2
            for bits in widths:
                with builder.if_then(builder.icmp_signed("==", width, _I64(bits))):
                    second = builder.add(panel, _I64(half * _bytes_of_lanes(bits)))
                    behind = builder.add(out, _I64(half * _LANES * 4))
                    for R in range(1, _ROWS + 1):
                        walks = [(panel, out, whole)]
                        if R > _FEW:
                            walks = [(panel, out, half), (second, behind, half)]
                        with builder.if_then(builder.icmp_signed("==", rows, _I64(R))):
                            for first, to, vectors in walks:
                                _walk(
                                    builder, first, step, x, stride, K, to, out_stride,
                                    bits, R, vectors, listed,
                                )  # fmt: skip
            return target.get_dummy_value()

        return types.void(*(types.int64,) * 9), code

    return multiply_panel


_all_rows = _for_all_rows(_WIDTHS, listed=False)
_all_rows_listed = _for_all_rows(_FLOATS, listed=True)


@in_order
def multiply(
    panel: int, step: int, width: int, x: int, stride: int, K: int,
    out: int, out_stride: int, rows: int, listed: bool,
) -> None:  # fmt: skip
    """Multiply a panel (K, 32) with x (rows, K), to out (rows, 32).

    Rows of the panel are `step` bytes apart, those of x and out their strides; width is 32 of
    float32, 16 of float16, -16 of bfloat16, 8 of int8, where K counts pairs. If `listed`, `step` is
    the address of K words instead: where in the panel, in bytes, each of its rows begins.
    """
    groups = (rows + _ROWS - 1) // _ROWS
    for group in range(groups):
        count = (rows + groups - group - 1) // (groups - group)
        if listed:
            _all_rows_listed(panel, step, width, x, stride, K, out, out_stride, count)
        else:
            _all_rows(panel, step, width, x, stride, K, out, out_stride, count)
        x, out, rows = x + stride * count, out + out_stride * count, rows - count


@intrinsic
def _dots(
    context: Any, queries: Any, stride: Any, keys: Any, key_stride: Any, D: Any,
    out: Any, out_stride: Any, rows: Any, columns: Any, width: Any,
) -> Any:  # fmt: skip
    """Up to two queries and four keys at a time; D is a multiple of a vector's lanes."""

    def tile(builder: Any, values: Any, R: int, N: int, bits: int) -> None:
        queries, stride, keys, key_stride, D, out, out_stride = values
        sums = [_zeros(builder, N) for _ in range(R)]
        qs, ks = _rows_from(builder, queries, stride, R), _rows_from(builder, keys, key_stride, N)
        with cgutils.for_range_slice(builder, _I64(0), D, _I64(_LANES)) as (index, _):
            both = [
                [
                    _vector(builder, builder.add(row, builder.mul(index, _I64(size // 8))), kind)
                    for row in rows
                ]
                for rows, size, kind in ((qs, 32, 32), (ks, abs(bits), bits))
            ]
            for r in range(R):
                for n in range(N):
                    _add_product(builder, both[0][r], both[1][n], sums[r][n])
        for places, row in zip(sums, _rows_from(builder, out, out_stride, R), strict=True):
            for n, place in enumerate(places):
                target = builder.inttoptr(builder.add(row, _I64(4 * n)), _F.as_pointer())
                builder.store(_total(builder, builder.load(place)), target, align=4)

    def code(target: Any, builder: Any, signature: Any, values: Any) -> Any:
        *values, rows, columns, width = values
        for R, N, bits in product((1, 2), (1, 4), _FLOATS):
            wanted = [
                builder.icmp_signed("==", value, _I64(number))
                for value, number in ((rows, R), (columns, N), (width, bits))
            ]
            with builder.if_then(builder.and_(builder.and_(*wanted[:2]), wanted[2])):
                tile(builder, values, R, N, bits)
        return target.get_dummy_value()

    return types.void(*(types.int64,) * 10), code


def _total(builder: Any, vector: Any) -> Any:
    """The sum of a vector's lanes, by halves."""
    lanes = _LANES
    while lanes > 1:
        lanes //= 2
        kind = ir.VectorType(_I32, lanes)
        low, high = (
            builder.shuffle_vector(
                vector, vector, ir.Constant(kind, list(range(first, first + lanes)))
            )
            for first in (0, lanes)
        )
        vector = builder.fadd(low, high)
    return builder.extract_element(vector, _I32(0))


@in_order
def dots(
    queries: int, stride: int, keys: int, key_stride: int, D: int,
    out: int, out_stride: int, rows: int, columns: int, width: int,
) -> None:  # fmt: skip
    """Dot products of queries (rows, D) and keys (columns, D), to out (rows, columns).

    Strides are in bytes, D is a multiple of 16; the keys' numbers are of a width (see `multiply`).
    """
    for n in range(0, columns - 3, 4):
        for r in range(0, rows, 2):
            _dots(
                queries + stride * r, stride, keys + key_stride * n, key_stride, D,
                out + out_stride * r + 4 * n, out_stride, min(rows - r, 2), 4, width,
            )  # fmt: skip
    for n in range(columns // 4 * 4, columns):
        for r in range(0, rows, 2):
            _dots(
                queries + stride * r, stride, keys + key_stride * n, key_stride, D,
                out + out_stride * r + 4 * n, out_stride, min(rows - r, 2), 1, width,
            )  # fmt: skip
