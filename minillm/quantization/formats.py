"""Number formats of few bits, each a table: what every code stands for.

An int4, an NF4 and an FP4 all have sixteen values; they differ in where these lie. Integers are
evenly spaced, floats twice as far apart in every binade, NormalFloat's as dense as weights are if
those are normal. Rounding is the same for all: to the nearest value, a tie to the even code, and
what is beyond the largest value becomes it (saturation; torch's own casts differ by version).

A format's numbers are used with a scale. `block` and `scales` say what the format's definition
fixes: how many weights share one, and in what format it is stored.

>>> FORMATS["int4"].decode(torch.tensor([0, 1, 7, 8, 15], dtype=torch.uint8)).tolist()
[0.0, 1.0, 7.0, -8.0, -1.0]
>>> FORMATS["fp8_e4m3"].decode(FORMATS["fp8_e4m3"].encode(torch.tensor([1.06, -1000.0]))).tolist()
[1.0, -448.0]

Sources: fp8 (arXiv 2209.05433); NF4 (arXiv 2305.14314, appendix E); MX formats (OCP Microscaling
Formats v1.0; arXiv 2310.10537); NVFP4 (NVIDIA's blog of June 2025; its CUTLASS documentation).
"""

import math
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from minillm.kept import kept

__all__ = ["E2M1", "E8M0", "FORMATS", "Format", "format_named"]


@dataclass(frozen=True)
class Format:
    """A table of values.

    Attributes:
        name: how messages and specs call it.
        values: by code; codes of NaN and infinity are never rounded to.
        block: how many weights share a scale by definition; None where that is free.
        scales: how a scale is stored.
        integer: whether the values are integers, evenly spaced, so that a zero point makes sense.
    """

    name: str
    values: tuple[float, ...]
    block: int | None = None
    scales: Literal["float32", "e8m0", "e4m3"] = "float32"
    integer: bool = False

    @property
    def bits(self) -> int:
        """Of a code."""
        return (len(self.values) - 1).bit_length()

    @property
    @kept
    def levels(self) -> Float[Tensor, " levels"]:
        """The finite values in rising order."""
        return self.table[self._ordered.long()]

    @property
    @kept
    def table(self) -> Float[Tensor, " codes"]:
        """The values by code."""
        return torch.tensor(self.values, dtype=torch.float32, device="cpu")

    @property
    def largest(self) -> float:
        """The largest magnitude on both sides of zero, to which a scale maps the largest weight."""
        return min(float(self.levels[-1]), -float(self.levels[0]))

    @cached_property
    def _ordered(self) -> Tensor:
        """The codes of `levels`; of the two zeros of a float the one with code 0."""
        by_value = {value: code for code, value in reversed(list(enumerate(self.values)))}
        return torch.tensor(
            [by_value[value] for value in sorted(by_value) if math.isfinite(value)],
            dtype=torch.uint8,
            device="cpu",
        )

    @cached_property
    def _thresholds(self) -> Tensor:
        """The largest number that is rounded to each level but the last."""
        middles = (self.levels[1:] + self.levels[:-1]) / 2
        below = torch.nextafter(middles, middles.new_tensor(float("-inf")))
        return torch.where(self._ordered[:-1] % 2 == 0, middles, below)

    def encode(self, x: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
        """The codes of the nearest values; NaN is the caller's to refuse."""
        thresholds, ordered = self._thresholds.to(x.device), self._ordered.to(x.device)
        return ordered[torch.bucketize(x.float(), thresholds)]

    def decode(self, codes: UInt8[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The values of codes."""
        return self.table.to(codes.device)[codes.long()]


def _integers(bits: int) -> tuple[float, ...]:
    """Two's complement."""
    half = 2 ** (bits - 1)
    return tuple(float(code - 2 * half * (code >= half)) for code in range(2 * half))


def _floats(exponent: int, mantissa: int) -> list[float]:
    """A sign, an exponent and a mantissa, with subnormals and without special values."""
    bias = 2 ** (exponent - 1) - 1
    positive = []
    for code in range(2 ** (exponent + mantissa)):
        e, m = divmod(code, 2**mantissa)
        normal = e > 0
        positive.append((normal + m / 2**mantissa) * 2.0 ** (max(e, 1) - bias))
    return [*positive, *(-value for value in positive)]


def _e4m3fn() -> tuple[float, ...]:
    """All ones is NaN; there is no infinity ("fn": finite)."""
    values = _floats(4, 3)
    values[0x7F] = values[0xFF] = math.nan
    return tuple(values)


def _e5m2() -> tuple[float, ...]:
    """The largest exponent is for infinity and NaN, as in IEEE 754."""
    values = _floats(5, 2)
    for sign, start in ((1, 0x7C), (-1, 0xFC)):
        values[start : start + 4] = [sign * math.inf, math.nan, math.nan, math.nan]
    return tuple(values)


def _normal_float() -> tuple[float, ...]:
    """Quantiles of the normal distribution: 8 above zero, 7 below, and zero, over the largest."""
    offset, quantile = 0.9677083, NormalDist().inv_cdf

    def spread(count: int) -> list[float]:  # from offset down to, and without, one half
        return [quantile(offset - i * (offset - 0.5) / count) for i in range(count)]

    above, below = spread(8), spread(7)
    return tuple(sorted(value / above[0] for value in (*above, 0.0, *(-x for x in below))))


E2M1 = tuple(_floats(2, 1))
E8M0 = Format("e8m0", (*(2.0 ** (code - 127) for code in range(255)), math.nan))

FORMATS: dict[str, Format] = {
    format.name: format
    for format in (
        *(Format(f"int{bits}", _integers(bits), integer=True) for bits in (8, 4, 3, 2)),
        Format("nf4", _normal_float()),
        Format("fp8_e4m3", _e4m3fn()),
        Format("fp8_e5m2", _e5m2()),
        Format("mxfp4", E2M1, block=32, scales="e8m0"),
        Format("nvfp4", E2M1, block=16, scales="e4m3"),
    )
}


def format_named(name: str) -> Format:
    """One of `FORMATS`.

    Raises:
        ValueError: no such format; the message lists those there are.
    """
    if name not in FORMATS:
        raise ValueError(f"no format named {name!r}: the known ones are {', '.join(FORMATS)}")
    return FORMATS[name]
