"""Formats: limits, tables and roundings, against torch, the formulas and each other."""

import math

import pytest
import torch

from minillm.quantization.formats import E2M1, E8M0, FORMATS, format_named
from minillm.quantization.rounding import dequantize, quantize
from minillm.quantization.spec import Spec

# The constants of bitsandbytes' kernels and of QLoRA's appendix E.
NF4 = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
    -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]  # fmt: skip
FP8 = {"fp8_e4m3": torch.float8_e4m3fn, "fp8_e5m2": torch.float8_e5m2}


def numbers(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", FORMATS)
def test_every_code_round_trips(name: str) -> None:
    """A float's second zero becomes the first."""
    form = FORMATS[name]
    codes = torch.arange(2**form.bits, dtype=torch.uint8)
    values = form.decode(codes)
    finite = values.isfinite()
    again = form.encode(values[finite])
    assert form.decode(again).equal(values[finite])
    keeps = finite & ~((values == 0) & (codes > 0)) if not form.integer else finite
    if name != "nf4":
        assert form.encode(values[keeps]).equal(codes[keeps])
    else:
        assert form.encode(values).equal(codes)


@pytest.mark.parametrize(("name", "dtype"), FP8.items())
def test_fp8_is_what_torch_has_bit_for_bit(name: str, dtype: torch.dtype) -> None:
    form, info = FORMATS[name], torch.finfo(dtype)
    codes = torch.arange(256, dtype=torch.uint8)
    theirs = codes.view(dtype).float()
    assert torch.equal(form.decode(codes).nan_to_num(7.5), theirs.nan_to_num(7.5))
    assert form.largest == info.max
    smallest = float(form.levels[form.levels > 0][0])
    assert (
        smallest == info.smallest_normal * info.eps == {"fp8_e4m3": 2**-9, "fp8_e5m2": 2**-16}[name]
    )


@pytest.mark.parametrize(("name", "dtype"), FP8.items())
def test_fp8_rounds_as_torch_does_and_saturates_where_it_may_not(
    name: str, dtype: torch.dtype
) -> None:
    form = FORMATS[name]
    x = numbers(50_000) * torch.logspace(-8, 3, 50_000)
    middles = (form.levels[1:] + form.levels[:-1]) / 2  # ties
    x = torch.cat((x, middles)).clamp(-form.largest, form.largest)
    assert form.decode(form.encode(x)).equal(x.to(dtype).float())
    beyond = torch.tensor([form.largest * 1.01, 1e30, math.inf])
    assert form.decode(form.encode(beyond)).equal(torch.full((3,), form.largest))
    assert form.decode(form.encode(-beyond)).equal(torch.full((3,), -form.largest))


def test_special_codes() -> None:
    e4m3, e5m2 = (FORMATS[name].table for name in FP8)
    assert [code for code in range(256) if e4m3[code].isnan()] == [0x7F, 0xFF]
    assert [code for code in range(256) if e5m2[code].isinf()] == [0x7C, 0xFC]
    assert int(e5m2.isnan().sum()) == 6
    assert E8M0.table[127] == 1
    assert E8M0.table[255].isnan()


def test_integers_round_half_to_even_and_saturate() -> None:
    for bits in (8, 4, 3, 2):
        form, half = FORMATS[f"int{bits}"], 2 ** (bits - 1)
        assert form.levels.tolist() == list(range(-half, half))
        x = torch.arange(-half, half - 1) + 0.5
        assert form.decode(form.encode(x)).equal(x.round())
        assert form.decode(form.encode(torch.tensor([1e9, -1e9]))).tolist() == [half - 1, -half]
        assert form.largest == half - 1


def test_nf4_is_its_formula_and_the_published_table() -> None:
    table = FORMATS["nf4"].table
    torch.testing.assert_close(table, torch.tensor(NF4), rtol=0, atol=2e-7)
    assert (int((table < 0).sum()), int((table > 0).sum())) == (7, 8)


def test_e2m1() -> None:
    assert E2M1[:8] == (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
    assert E2M1[8:] == tuple(-value for value in E2M1[:8])


@pytest.mark.parametrize(
    ("name", "errors"),
    [("nf4", (0.06777, 0.07281, 0.07695)), ("int4", (0.0813, 0.0915, 0.1004))],
)
def test_mean_error_on_normal_numbers(name: str, errors: tuple[float, ...]) -> None:
    """At blocks of 32, 64, 128; the figures of bitsandbytes' tests, recomputed."""
    weight = numbers(2**22).view(2048, 2048)
    for group, expected in zip((32, 64, 128), errors, strict=True):
        error = (dequantize(quantize(weight, Spec(name, group))) - weight).abs().mean()
        assert float(error) == pytest.approx(expected, rel=0.005)


def test_nf4_squares_less_error_than_its_rivals_of_four_bits() -> None:
    weight = numbers(2**20).view(1024, 1024)
    squared = {
        spec: float((dequantize(quantize(weight, spec)) - weight).square().mean())
        for spec in (Spec("nf4", 64), Spec("int4", 64), Spec("mxfp4"))
    }
    assert squared[Spec("nf4", 64)] == pytest.approx(0.0085, abs=2e-4)
    assert squared[Spec("int4", 64)] == pytest.approx(0.0116, abs=2e-4)
    assert min(squared, key=squared.__getitem__) == Spec("nf4", 64)


def test_an_unknown_format_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="no format named 'int5': the known ones are int8, int4"):
        format_named("int5")
