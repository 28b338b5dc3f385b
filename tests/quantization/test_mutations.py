"""The tests of quantization notice each known defect: it is planted, and an oracle must fail."""

import math
from typing import Any

import pytest
import torch
from mutations import Mutation

import minillm
from minillm.speculative.bug_gallery import library, patched

ORDER = (
    "quantization.formats",
    "quantization.packing",
    "quantization.spec",
    "quantization.rounding",
    "quantization.smoothing",
)


def weights(seed: int = 0) -> torch.Tensor:
    weight = torch.randn(8, 64, generator=torch.Generator().manual_seed(seed))
    weight[2], weight[3, :32] = 0, 0
    return weight


def saturates(lib: Any) -> None:
    for name in ("fp8_e4m3", "fp8_e5m2", "int4"):
        form = lib.FORMATS[name]
        x = torch.tensor([1e9, -1e9, math.inf])
        assert form.decode(form.encode(x)).isfinite().all()
        assert form.decode(form.encode(x))[0] == form.levels[-1]


def as_torch(lib: Any) -> None:
    for name, dtype in (("fp8_e4m3", torch.float8_e4m3fn), ("fp8_e5m2", torch.float8_e5m2)):
        form = lib.FORMATS[name]
        codes = torch.arange(256, dtype=torch.uint8)
        theirs = codes.view(dtype).float()
        assert torch.equal(form.decode(codes).nan_to_num(7.5), theirs.nan_to_num(7.5))
        ties = ((form.levels[1:] + form.levels[:-1]) / 2).clamp(-form.largest, form.largest)
        assert form.decode(form.encode(ties)).equal(ties.to(dtype).float())


def normal_float(lib: Any) -> None:
    levels = lib.FORMATS["nf4"].levels
    assert (int((levels < 0).sum()), int((levels > 0).sum())) == (7, 8)
    assert abs(float(levels[8]) - 0.07958) < 1e-5
    assert levels[0] == -1
    assert levels[-1] == 1


def packs(lib: Any) -> None:
    for bits in (2, 3, 4, 8):
        codes = torch.arange(2**bits, dtype=torch.uint8)[None].repeat(2, 3)[:, 1:]
        packed = lib.pack(codes, bits)
        assert packed.shape[1] == -(-codes.shape[1] * bits // 8)
        assert lib.unpack(packed, bits, codes.shape[1]).equal(codes)
    assert lib.pack(torch.tensor([1, 2], dtype=torch.uint8), 4).tolist() == [0x12]


def rounds(lib: Any) -> None:
    """Zeros stay zeros, errors are half a step at most, groups have their own scales."""
    q = lib
    for spec in (q.Spec("nvfp4"), q.Spec("int4", 16)):
        nothing = q.quantize(torch.zeros(2, 32), spec)
        assert nothing.grid.steps.isfinite().all()
        assert spec.format == "nvfp4" or nothing.grid.steps.min() > 0
    for spec in (
        q.Spec("int4", 16),
        q.Spec("int4", 16, symmetric=False),
        q.Spec("int8"),
        q.Spec("nf4", 32),
        q.Spec("mxfp4"),
        q.Spec("nvfp4"),
    ):
        weight = weights()
        weight[5, 32:] *= 100
        quantized = q.quantize(weight, spec)
        back = q.dequantize(quantized)
        assert back.isfinite().all()
        assert back[2].abs().max() == 0
        grid = quantized.grid
        G = grid.scales.shape[1]
        steps = grid.steps.expand(8, G).repeat_interleave(64 // G, 1)
        gap = float(spec.table.levels.diff().max())
        if spec.format not in ("mxfp4", "nvfp4"):  # whose scales are rounded
            assert ((back - weight).abs() <= steps * gap / 2 * (1 + 1e-4) + 1e-6).all()
        else:
            assert ((back - weight).abs() <= steps * 2.01 + 1e-6).all()


def reaches_the_ends(lib: Any) -> None:
    """A zero point lets the grid reach from the smallest weight to the largest."""
    q = lib
    weight = weights() + 1.5
    quantized = q.quantize(weight, q.Spec("int4", 16, symmetric=False))
    low, high = weight.view(8, 4, 16).amin(-1), weight.view(8, 4, 16).amax(-1)
    span = high.clamp_min(0) - low.clamp_max(0)
    torch.testing.assert_close(quantized.grid.steps, torch.where(span > 0, span / 15, 1))


def counts_all_bytes(lib: Any) -> None:
    q = lib
    assert q.Spec("nf4", 64).nbytes(1, 64) == 36
    assert q.Spec("int4", 32, symmetric=False).nbytes(1, 64) == 32 + 8 + 1
    assert q.Spec("mxfp4").nbytes(1, 64) == 34
    assert q.Spec("nvfp4").nbytes(1, 64) == 32 + 4 + 4


def keeps_the_function(lib: Any) -> None:
    with torch.random.fork_rng():
        model = minillm.Transformer(minillm.load("stories-draft")[0].config).double()
    tokens = torch.tensor([[5, 9, 2, 7]])
    with torch.no_grad():
        expected = model(tokens)
        planted = lib.plant_outliers(model, [3])
        smoothed = lib.smooth(planted, lib.input_peaks(planted, tokens))
        assert (planted(tokens) - expected).abs().max() < 1e-9
        assert (smoothed(tokens) - expected).abs().max() < 1e-9


ORACLES = {
    function.__name__: function
    for function in (
        saturates,
        as_torch,
        normal_float,
        packs,
        rounds,
        reaches_the_ends,
        counts_all_bytes,
        keeps_the_function,
    )
}
BUGS = [
    Mutation(
        "e4m3 without its last binade: 240, not 448 (CS336, lecture 10)",
        "quantization.formats",
        "    values[0x7F] = values[0xFF] = math.nan\n",
        "    values[0x78:0x80] = values[0xF8:0x100] = [math.nan] * 8\n",
        "as_torch",
    ),
    Mutation(
        "subnormals flushed to zero",
        "quantization.formats",
        "positive.append((normal + m / 2**mantissa) * 2.0 ** (max(e, 1) - bias))",
        "positive.append(normal * (1 + m / 2**mantissa) * 2.0 ** (max(e, 1) - bias))",
        "as_torch",
    ),
    Mutation(
        "ties away from the even code",
        "quantization.formats",
        "self._ordered[:-1] % 2 == 0",
        "self._ordered[:-1] % 2 == 1",
        "as_torch",
    ),
    Mutation(
        "infinity is rounded to (overflow differs by version: pytorch#178817)",
        "quantization.formats",
        "for value in sorted(by_value) if math.isfinite(value)",
        "for value in sorted(by_value) if not math.isnan(value)",
        "saturates",
    ),
    Mutation(
        "NF4 with 8 values below zero and 7 above (the docstring of bitsandbytes has 8 and 9)",
        "quantization.formats",
        "above, below = spread(8), spread(7)",
        "below, above = spread(8), spread(7)",
        "normal_float",
    ),
    Mutation(
        "the lower half of a byte first",
        "quantization.packing",
        "torch.arange(count - 1, -1, -1,",
        "torch.arange(count,",
        "packs",
    ),
    Mutation(
        "an odd number of codes loses its last byte (constructed)",
        "quantization.packing",
        "F.pad(stream, (0, -stream.shape[-1] % 8))",
        "stream[..., : stream.shape[-1] // 8 * 8]",
        "packs",
    ),
    Mutation(
        "a group of zeros divided by zero (KIVI has no guard)",
        "quantization.rounding",
        "    return torch.where(steps > 0, steps, 1)\n",
        "    return steps\n",
        "rounds",
    ),
    Mutation(
        "scales of groups read in the order of columns (constructed)",
        "quantization.rounding",
        "values.repeat_interleave(K // values.shape[1], dim=1)",
        "values.repeat(1, K // values.shape[1])",
        "rounds",
    ),
    Mutation(
        "the zero point is forgotten when weights are restored (constructed)",
        "quantization.rounding",
        "(values - _spread(self.offsets, K)) * _spread",
        "values * _spread",
        "rounds",
    ),
    Mutation(
        "the scale is that of the largest weight, not of the largest magnitude (constructed)",
        "quantization.rounding",
        "largest = groups.abs().amax(-1)",
        "largest = groups.amax(-1)",
        "rounds",
    ),
    Mutation(
        "one level too few with a zero point (constructed)",
        "quantization.rounding",
        "(high - low) / (levels[-1] - levels[0])",
        "(high - low) / (levels[-1] - levels[0] + 1)",
        "reaches_the_ends",
    ),
    Mutation(
        "scales are not counted",
        "quantization.rounding",
        "return N * packed_bytes(K, self.table.bits) + scales + whole + zeros",
        "return N * packed_bytes(K, self.table.bits) + zeros",
        "counts_all_bytes",
    ),
    Mutation(
        "smoothing divides the norm's weight and leaves the matrix",
        "quantization.smoothing",
        "            weights[0].mul_(s)\n",
        "",
        "keeps_the_function",
    ),
    Mutation(
        "smoothing scales the outputs of the matrix, not its inputs (constructed)",
        "quantization.smoothing",
        "            weights[0].mul_(s)\n",
        "            weights[0].mul_(s.mean())\n",
        "keeps_the_function",
    ),
]


@pytest.mark.parametrize("bug", BUGS, ids=str)
def test_an_oracle_notices(bug: Mutation) -> None:
    with pytest.raises((AssertionError, ValueError, TypeError)):
        ORACLES[bug.oracle](patched(bug, ORDER))


@pytest.mark.parametrize("name", ORACLES)
def test_an_oracle_passes_without_a_bug(name: str) -> None:
    ORACLES[name](library(ORDER))
