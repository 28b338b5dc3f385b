"""Weights of a few bits to float32: blocks of small integers q that share a scale d, and a minimum.

A number is d q, or d q + m; the K formats store the scales of a block's groups as integers too.

Dimensions: N blocks.

Source: ggml's `ggml-quants.c`; the numbers are those of the `gguf` package, bit for bit.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["FORMATS", "Format", "dequantize", "format_of"]

_CHUNK = 1 << 20  # numbers that are widened at a time: what lies between stays in the caches


class Format(NamedTuple):
    """How numbers are stored: so many in a block of so many bytes.

    Attributes:
        read: blocks (N, nbytes) of uint8 to their numbers, (N, numbers).
    """

    name: str
    numbers: int
    nbytes: int
    read: Callable[[Tensor], Tensor]


def dequantize(stored: Tensor, form: Format) -> Tensor:
    """Whole blocks, as flat bytes, to a flat tensor of float32."""
    blocks = stored.view(-1, form.nbytes)
    out = torch.empty(len(blocks), form.numbers, dtype=torch.float32, device="cpu")
    step = _CHUNK // form.numbers
    for chunk, numbers in zip(blocks.split(step), out.split(step), strict=True):
        numbers.copy_(form.read(chunk))
    return out.flatten()


def _float(block: Tensor, dtype: torch.dtype = torch.float16) -> Tensor:
    return block.contiguous().view(dtype).float()


def _fields(block: Tensor, bits: int, group: int) -> Tensor:
    """(N, bytes) to one integer for each field of so many bits.

    Of each group of bytes come the lowest fields first, then the next higher ones.
    """
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8, device="cpu")[:, None]
    return (block.unflatten(1, (-1, 1, group)) >> shifts & (1 << bits) - 1).flatten(1)


def _q4_0(block: Tensor) -> Tensor:
    d, q = block.split([2, 16], 1)
    return _float(d) * (_fields(q, 4, 16).float() - 8)


def _q4_1(block: Tensor) -> Tensor:
    d, m, q = block.split([2, 2, 16], 1)
    return _float(d) * _fields(q, 4, 16).float() + _float(m)


def _five(high: Tensor, low: Tensor) -> Tensor:
    return (_fields(low, 4, 16) | _fields(high, 1, 1) << 4).float()


def _q5_0(block: Tensor) -> Tensor:
    d, high, low = block.split([2, 4, 16], 1)
    return _float(d) * (_five(high, low) - 16)


def _q5_1(block: Tensor) -> Tensor:
    d, m, high, low = block.split([2, 2, 4, 16], 1)
    return _float(d) * _five(high, low) + _float(m)


def _q8_0(block: Tensor) -> Tensor:
    d, q = block.split([2, 32], 1)
    return _float(d) * q.view(torch.int8).float()


def _of_groups(d: Tensor, least: Tensor, scales: Tensor, q: Tensor) -> Tensor:
    """Eight groups of 32 numbers; their scales and minima are integers of six bits."""
    low, mins, both = scales.unflatten(1, (3, 4)).unbind(1)
    steps = torch.cat((low & 63, both & 15 | low >> 2 & 48), 1).float()
    mins = torch.cat((mins & 63, both >> 4 | mins >> 2 & 48), 1).float()
    steps, mins = (_float(d) * steps)[..., None], (_float(least) * mins)[..., None]
    return (steps * q.unflatten(1, (8, 32)).float() - mins).flatten(1)


def _q4_k(block: Tensor) -> Tensor:
    d, least, scales, q = block.split([2, 2, 12, 128], 1)
    return _of_groups(d, least, scales, _fields(q, 4, 32))


def _q5_k(block: Tensor) -> Tensor:
    d, least, scales, high, low = block.split([2, 2, 12, 32, 128], 1)
    return _of_groups(d, least, scales, _fields(low, 4, 32) | _fields(high, 1, 32) << 4)


def _q6_k(block: Tensor) -> Tensor:
    low, high, scales, d = block.split([128, 64, 16, 2], 1)
    q = (_fields(low, 4, 64) | _fields(high, 2, 32) << 4).float() - 32
    steps = (_float(d) * scales.view(torch.int8).float())[..., None]
    return (steps * q.unflatten(1, (16, 16))).flatten(1)


FORMATS: dict[int, Format] = {  # by ggml's numbers
    0: Format("F32", 1, 4, lambda block: _float(block, torch.float32)),
    1: Format("F16", 1, 2, _float),
    2: Format("Q4_0", 32, 18, _q4_0),
    3: Format("Q4_1", 32, 20, _q4_1),
    6: Format("Q5_0", 32, 22, _q5_0),
    7: Format("Q5_1", 32, 24, _q5_1),
    8: Format("Q8_0", 32, 34, _q8_0),
    12: Format("Q4_K", 256, 144, _q4_k),
    13: Format("Q5_K", 256, 176, _q5_k),
    14: Format("Q6_K", 256, 210, _q6_k),
    30: Format("BF16", 1, 2, lambda block: _float(block, torch.bfloat16)),
}
_OTHERS = {
    **{9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS"},
    **{19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16"},
    **{26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4"},
}


def format_of(number: int) -> Format:
    """The format that ggml gives this number.

    Raises:
        ValueError: one that is not supported, named where ggml names it.
    """
    if number not in FORMATS:
        known = ", ".join(form.name for form in FORMATS.values())
        name = _OTHERS.get(number, f"number {number}")
        raise ValueError(f"the format {name} is not supported, only {known}")
    return FORMATS[number]
