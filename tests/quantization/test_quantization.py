"""Quantization: grids, storage, layers and models; each known defect is noticed."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from minillm import KVCache, collect, decode_cached, load
from minillm.data.heldout import bench_prompts, stories
from minillm.fast.int8_linear import Int8DynamicLinear
from minillm.fast.int8_model import INT8, optimized_int8
from minillm.fast.outliers import OutlierLinear, outlier_channels
from minillm.measure.evaluation import evaluate
from minillm.quantization.formats import FORMATS
from minillm.quantization.layers import QuantEmbedding, QuantLinear
from minillm.quantization.model import QuantizedTransformer, matrices, quantize_model
from minillm.quantization.packing import packed_bytes
from minillm.quantization.rounding import dequantize, quantize
from minillm.quantization.saved import load_quantized, save_quantized
from minillm.quantization.smoothing import (
    fold,
    input_peaks,
    plant_outliers,
    smooth,
    smoothing_scales,
)
from minillm.quantization.spec import Spec
from minillm.speculative.decode import decode_speculative
from minillm.speculative.drafters import DraftModel
from minillm.tokens import encode, encode_all
from minillm.transformer import Transformer

SPECS = [
    *(Spec(name, group) for name in ("int8", "int4", "int3", "int2") for group in ("tensor", 32)),
    *(Spec(f"int{bits}", 32, symmetric=False) for bits in (8, 4, 3, 2)),
    Spec("int8", "channel", symmetric=False),
    INT8,
    Spec("nf4", 32),
    Spec("fp8_e4m3"),
    Spec("fp8_e5m2", "tensor"),
    Spec("mxfp4"),
    Spec("nvfp4"),
]
each_spec = pytest.mark.parametrize("spec", SPECS, ids=str)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tiny_model(tiny: Any, **sizes: Any) -> Any:
    widths = {"hidden_size": 64, "intermediate_size": 96, "head_dim": 16, "hidden_act": "relu"}
    return tiny(dtype=torch.float32, **(widths | sizes))


# Grids


@each_spec
def test_each_weight_becomes_the_nearest_value_of_its_grid(spec: Spec) -> None:
    """By exhaustion: all values, stretched by the scale, in float64."""
    weight = normal(6, 64) * torch.logspace(-3, 1, 6)[:, None]
    quantized = quantize(weight, spec)
    grid, G = quantized.grid, quantized.grid.scales.shape[1]
    steps, offsets = (
        part.double().expand(6, G).repeat_interleave(64 // G, 1)[..., None]
        for part in (grid.steps, grid.offsets)
    )
    values = (spec.table.levels.double() - offsets) * steps  # (6, 64, levels)
    nearest = (values - weight.double()[..., None]).abs().amin(-1)
    error = (dequantize(quantized).double() - weight.double()).abs()
    assert (error <= nearest + 1e-6 * weight.abs() + 1e-9).all()  # ties, to rounding


@each_spec
def test_what_is_on_the_grid_stays_there(spec: Spec) -> None:
    once = dequantize(quantize(normal(4, 64), spec))
    torch.testing.assert_close(dequantize(quantize(once, spec)), once, rtol=1e-5, atol=1e-6)


@each_spec
def test_zeros_and_constants(spec: Spec) -> None:
    for value in (0.0, 3.0, -3.0):
        weight = torch.full((4, 64), value)
        back = dequantize(quantize(weight, spec))
        assert back.isfinite().all()
        torch.testing.assert_close(back, weight, rtol=1e-6 if spec.table.bits != 4 else 0.1, atol=0)
    mixed = torch.cat((torch.zeros(4, 32), normal(4, 32)), 1)
    assert dequantize(quantize(mixed, spec))[:, :32].abs().max() == 0


@each_spec
@pytest.mark.parametrize("size", [2e38, torch.finfo(torch.float32).max, 1e-36, 1e-44])
def test_at_the_edges_of_float32_weights_stay_near_or_are_refused(spec: Spec, size: float) -> None:
    weight = torch.tensor([[-size, size] * 32, [0.0, size] * 32])
    refused = contextlib.suppress(ValueError) if size > 3e38 else contextlib.nullcontext()
    with refused:
        back = dequantize(quantize(weight, spec))
        assert (back.double() - weight.double()).abs().max() <= max(0.34 * size, 1e-38)


def test_a_grid_whose_ends_overflow_is_refused() -> None:
    weight = torch.tensor([[-3.4e38, 3.4e38]])
    with pytest.raises(ValueError, match=r"from -3\.4e\+38 to 3\.4e\+38 overflow as int4, per ch"):
        quantize(weight, Spec("int4", symmetric=False))


def test_weights_beyond_float32_are_refused() -> None:
    with pytest.raises(ValueError, match="1 weights are NaN or infinite"):
        quantize(torch.tensor([[1e39, 1.0]], dtype=torch.float64), INT8)


@each_spec
def test_stored_bytes_are_the_formula(spec: Spec) -> None:
    quantized = quantize(normal(24, 96), spec)
    layer = QuantLinear(quantized)
    assert layer.nbytes == quantized.nbytes == spec.nbytes(24, 96)
    assert quantized.bits == 8 * layer.nbytes / (24 * 96)


def test_bits_of_a_weight_by_hand() -> None:
    bits = {spec: quantize(normal(64, 1024), spec).bits for spec in (*SPECS, Spec("nf4", 64))}
    assert bits[Spec("nf4", 64)] == 4.5
    assert bits[Spec("mxfp4")] == 4.25
    assert bits[Spec("nvfp4")] == pytest.approx(4.5, abs=1e-3)  # and one number for the matrix
    assert bits[INT8] == 8 + 32 / 1024
    assert bits[Spec("int4", 32, symmetric=False)] == 4 + 32 / 32 + 4 / 32
    assert packed_bytes(1024, 3) == 384


def test_small_groups_contain_an_outlier() -> None:
    weight = normal(8, 256)
    weight[:, 3] = 40
    errors = [
        float((dequantize(quantize(weight, Spec("int4", group))) - weight)[:, 16:].abs().mean())
        for group in ("tensor", "channel", 64, 16)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 4 * errors[-1]


def test_a_zero_point_pays_where_weights_lie_on_one_side() -> None:
    weight = normal(8, 64).abs()
    both, one = (
        (dequantize(quantize(weight, Spec("int4", 32, symmetric=s))) - weight).abs().mean()
        for s in (True, False)
    )
    assert one < 0.6 * both


def test_mx_scales_are_powers_of_two_and_the_largest_may_saturate() -> None:
    grid = quantize(normal(4, 64), Spec("mxfp4")).grid
    assert torch.equal(grid.steps.log2(), grid.steps.log2().round())
    weight = torch.full((1, 32), 7.9)  # in the binade of 4, scaled by 1: 6 is the end
    assert dequantize(quantize(weight, Spec("mxfp4"))).equal(torch.full((1, 32), 6.0))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(tiny: Any, bad: float) -> None:
    model = tiny_model(tiny)
    with torch.no_grad():
        model.blocks[1].mlp.down.weight[2, 3] = bad
    with pytest.raises(ValueError, match=r"blocks\.1\.mlp\.down: 1 weights are NaN or infinite"):
        quantize_model(model, INT8)


def test_a_moved_model_is_in_one_place_and_its_head_stays_tied(
    tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = quantize_model(tiny_model(tiny), INT8)
    before = small.nbytes
    assert small._apply(torch.clone).nbytes == before  # what a move does
    assert small.head.packed is small.embed.packed
    elsewhere = torch.device("meta")
    monkeypatch.setattr(QuantizedTransformer, "device", elsewhere)
    made = quantize_model(tiny_model(tiny), INT8)
    assert {x.device for x in (*made.parameters(), *made.buffers())} == {elsewhere}


def test_the_plain_model_shares_no_memory_with_the_quantized_one(tiny: Any) -> None:
    model = tiny_model(tiny)
    small = quantize_model(model, INT8)
    small.norm.weight.mul_(2)
    assert small.norm.weight.equal(2 * model.norm.weight)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("int5",), "no format named 'int5': the known ones are int8"),
        (("mxfp4", 64), "mxfp4 has blocks of 32, not 64"),
        (("nf4", 64, False), "nf4 has no zero point"),
        (("int8", 0), "a group holds at least one weight"),
    ],
)
def test_impossible_specs_are_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Spec(*arguments)


def test_a_group_that_does_not_divide_is_refused(tiny: Any) -> None:
    with pytest.raises(ValueError, match="embed: groups of 48 do not divide rows of 64 weights"):
        quantize_model(tiny_model(tiny), Spec("int4", 48))


# Layers


@each_spec
def test_a_layer_is_the_product_with_what_it_stands_for(spec: Spec) -> None:
    quantized = quantize(normal(24, 64), spec)
    layer = QuantLinear(quantized, bias=normal(24, seed=1))
    x = normal(2, 5, 64, seed=2)
    expected = F.linear(x, dequantize(quantized), normal(24, seed=1))
    assert layer(x).equal(expected)
    for r in range(5):
        torch.testing.assert_close(layer(x[:, r : r + 1])[:, 0], expected[:, r])


@each_spec
def test_an_embedding_reads_rows(spec: Spec) -> None:
    quantized = quantize(normal(24, 64), spec)
    tokens = torch.tensor([[3, 0], [23, 3]])
    assert QuantEmbedding(quantized)(tokens).equal(dequantize(quantized)[tokens])


# Models


@each_spec
@pytest.mark.parametrize("tied", [True, False])
def test_a_model_is_saved_and_loaded(tiny: Any, tmp_path: Path, spec: Spec, tied: bool) -> None:
    family = "llama" if tied else "qwen2"  # which alone has biases
    model = tiny_model(tiny, tie_word_embeddings=tied, qkv_bias=not tied, model_type=family)
    quantized = quantize_model(model, spec)
    save_quantized(tmp_path / "model.safetensors", quantized)
    again = load_quantized(tmp_path / "model.safetensors")
    tokens = torch.tensor([[1, 5, 3]])
    assert again(tokens).equal(quantized(tokens))
    assert again.nbytes == quantized.nbytes
    stored = sum(spec.nbytes(*weight.shape) for weight in matrices(model).values())
    rest = sum(p.nbytes for p in model.parameters() if p.ndim == 1)
    assert quantized.nbytes == stored + rest
    size = (tmp_path / "model.safetensors").stat().st_size
    assert 0 <= size - quantized.nbytes < 12_000  # the header


def test_broken_files_are_refused(tiny: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(FileNotFoundError):
        load_quantized(path)
    save_quantized(path, quantize_model(tiny_model(tiny), INT8))
    whole = path.read_bytes()
    for length in (0, 5, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="corrupted or truncated"):
            load_quantized(path)
    shipped = Path(__file__).parents[2] / "minillm/weights/stories-draft/model.safetensors"
    with pytest.raises(ValueError, match="is not a quantized model"):
        load_quantized(shipped)


def test_the_plain_model_stays_as_it_is(tiny: Any) -> None:
    model = tiny_model(tiny)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    quantize_model(model, Spec("int2", 32))
    assert all(weight.equal(before[name]) for name, weight in model.named_parameters())


# The int8 twin


@pytest.mark.parametrize("round_activations", [False, True])
def test_the_twin_is_close_to_the_readable_model(tiny: Any, round_activations: bool) -> None:
    quantized = quantize_model(tiny_model(tiny, qkv_bias=True), INT8)
    twin = optimized_int8(quantized, round_activations=round_activations)
    tokens = torch.tensor([[1, 5, 3, 7]])
    expected = quantized(tokens)
    error = (twin(tokens) - expected).norm() / expected.norm()
    assert float(error) < 0.05
    assert quantized(tokens).equal(expected)


def test_the_twin_needs_int8_per_channel(tiny: Any) -> None:
    untied = quantize_model(tiny_model(tiny, tie_word_embeddings=False), INT8, embed=Spec("nf4"))
    with pytest.raises(ValueError, match="int8 per channel is needed, embed is in nf4"):
        optimized_int8(untied, round_activations=False)
    with pytest.raises(ValueError, match="int8 per channel is needed"):
        optimized_int8(quantize_model(tiny_model(tiny), Spec("int8", 32)), round_activations=True)


def int8_draft() -> Any:
    """The draft in int8, a step as one call."""
    fast = optimized_int8(quantize_model(load("stories-draft")[0], INT8), round_activations=True)
    assert fast.layers.dtype == torch.int8
    return fast


@torch.inference_mode()
def test_one_call_computes_what_the_readable_pass_does() -> None:
    """To rounding; a last bit may turn into a whole step of a code, and does in a few texts."""
    fast, errors = int8_draft(), []
    for text in torch.randint(2048, (60, 1, 3), generator=torch.Generator().manual_seed(0)):
        ours, theirs = (KVCache(fast.config, 1, 3) for _ in range(2))
        expected = fast.head.plain(Transformer.hidden(fast, text, theirs))
        errors.append(float((fast(text, ours) - expected).norm() / expected.norm()))
    assert sum(error < 1e-5 for error in errors) > 45
    assert max(errors) < 0.05


@torch.inference_mode()
def test_a_token_is_the_same_in_any_pass_bit_for_bit() -> None:
    """More than one call takes, too."""
    ours = int8_draft()
    tokens = torch.randint(2048, (1, 96), generator=torch.Generator().manual_seed(1))
    caches = [KVCache(ours.config, 1, 96) for _ in range(2)]
    together = ours(tokens, caches[0])
    apart = [ours(tokens[:, t : t + 1], caches[1]) for t in range(96)]
    assert torch.cat(apart, 1).equal(together)


def test_guess_and_verify_in_int8_writes_the_int8_text() -> None:
    ours = int8_draft()
    prompts = [encode(load("stories-draft")[1], prompt) for prompt in bench_prompts()[:6]]
    for prompt in prompts:
        plain = collect(decode_cached(ours, [prompt], max_new_tokens=40))
        drafter = DraftModel(ours)
        guessed = decode_speculative(ours, [prompt], drafter=drafter, gamma=4, max_new_tokens=40)
        assert collect(guessed) == plain


def test_ragged_rows_run_in_the_twin(tiny: Any) -> None:
    twin = optimized_int8(quantize_model(tiny_model(tiny), INT8), round_activations=True)
    together = collect(decode_cached(twin, [[1, 2, 3], [4]], max_new_tokens=5))
    assert [len(text) for text in together] == [5, 5]


@pytest.mark.slow
def test_held_out_loss_of_the_target() -> None:
    """Int8 within 0.2 % of float32, four bits in groups of 64 within 4 %."""
    model, tokenizer = load("stories")
    text = encode_all(tokenizer, stories())
    plain = evaluate(model, text).loss
    twin = optimized_int8(quantize_model(model, INT8), round_activations=False)
    assert evaluate(twin, text).loss < plain * 1.002
    for spec in (Spec("nf4", 64), Spec("int4", 64)):
        assert evaluate(quantize_model(model, spec), text).loss < plain * 1.04


# Outliers


def test_smoothing_and_planting_keep_the_function(tiny: Any) -> None:
    model = tiny(dtype=torch.float64, hidden_size=64, qkv_bias=True)
    tokens = torch.tensor([[1, 5, 3, 7, 2]])
    expected = model(tokens)
    planted = plant_outliers(model, [3, 40])
    peaks = input_peaks(planted, tokens)
    smoothed = smooth(planted, peaks)
    for twin in (planted, smoothed, smooth(model, input_peaks(model, tokens), alpha=0.8)):
        torch.testing.assert_close(twin(tokens), expected, rtol=0, atol=1e-11)
    after = input_peaks(smoothed, tokens)
    plain = input_peaks(model, tokens)
    for name, peak in peaks.items():
        torch.testing.assert_close(peak[3], 50 * plain[name][3])
        assert after[name].max() / after[name].median() < peak.max() / peak.median()


def test_smoothing_shares_the_outlier() -> None:
    """With alpha one half activations and weights end up with the same largest numbers."""
    x, weight = normal(10, 8), normal(6, 8, seed=1)
    x[:, 2] *= 60
    s = smoothing_scales(x.abs().amax(0), weight)
    torch.testing.assert_close((x / s).abs().amax(0), (weight * s).abs().amax(0))
    assert smoothing_scales(torch.zeros(8), torch.zeros(6, 8)).isfinite().all()


def test_bad_scales_are_refused(tiny: Any) -> None:
    model = tiny_model(tiny)
    with pytest.raises(ValueError, match=r"blocks\.0\.mlp\.down is not behind a norm"):
        fold(model, {"blocks.0.mlp.down": torch.ones(96)})
    with pytest.raises(ValueError, match="a scale must be above zero"):
        fold(model, {"blocks.0.mlp.gate_up": torch.zeros(64)})
    with pytest.raises(ValueError, match="channels must be from 0 to 63"):
        plant_outliers(model, [64])


@torch.random.fork_rng()
def test_split_outliers_cost_little_and_rows_stay_alone() -> None:
    plain = torch.nn.Linear(64, 24)
    x = normal(5, 64)
    x[:, [7, 50]] *= 100
    channels = outlier_channels(x.abs().amax(0))
    assert {7, 50} == set(channels)
    expected = plain(x)
    split, whole = (OutlierLinear(plain, which) for which in (channels, []))
    errors = [float((layer(x) - expected).detach().norm()) for layer in (split, whole)]
    assert errors[0] < errors[1] / 10
    for r in range(5):
        torch.testing.assert_close(split(x[r : r + 1]), split(x)[r : r + 1])


@torch.random.fork_rng()
def test_outliers_of_a_layer_in_half_precision_are_split_off_too() -> None:
    plain = torch.nn.Linear(64, 24)
    x = normal(5, 64)
    exact = OutlierLinear(plain, [3])(x)
    half = OutlierLinear(plain.bfloat16(), [3])
    assert half.columns.dtype == torch.float32
    for numbers in (x, x.bfloat16()):
        assert half(numbers).dtype == numbers.dtype
        torch.testing.assert_close(half(numbers).float(), exact, rtol=0.05, atol=0.05)


def test_int8_beats_e4m3_on_even_numbers_and_loses_on_outliers() -> None:
    """Which of two formats of eight bits wins depends on what they round."""
    even = normal(64, 320)
    spiky = even.clone()
    spiky[:, 5] *= 300
    for x, winner in ((even, "int8"), (spiky, "fp8_e4m3")):
        rest = [c for c in range(320) if c != 5]
        errors = {
            name: float((dequantize(quantize(x, Spec(name))) - x)[:, rest].norm())
            for name in ("int8", "fp8_e4m3")
        }
        assert min(errors, key=errors.__getitem__) == winner


def test_formats_are_all_tested() -> None:
    assert {spec.format for spec in SPECS} == set(FORMATS)


# What would be silently wrong


@pytest.mark.parametrize(
    "change",
    [
        lambda parts: parts.pop("blocks.0.attention.qkv.scales"),
        lambda parts: parts.pop("blocks.0.attention.qkv.bias"),
        lambda parts: parts.pop("blocks.1.mlp.down.zero_points"),
        lambda parts: parts.pop("norm.weight"),
        lambda parts: parts.update({"blocks.0.mlp.down.bias": torch.zeros(64)}),
        lambda parts: parts.update({"norm.weight": torch.ones(3)}),
        lambda parts: parts.update(
            {"blocks.0.mlp.down.scales": parts["blocks.0.mlp.down.scales"].byte()}
        ),
    ],
    ids=["scales", "bias", "zeros", "norm", "stray", "shape", "dtype"],
)
def test_a_file_with_other_parts_is_refused(
    tiny: Any, tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], Any]
) -> None:
    path = tmp_path / "model.safetensors"
    model = tiny_model(tiny, qkv_bias=True, model_type="qwen2")
    save_quantized(path, quantize_model(model, Spec("int4", 32, symmetric=False)))
    with safe_open(path, "pt") as file:
        metadata, parts = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(parts)
    save_file(parts, path, metadata)
    with pytest.raises(ValueError, match=r"lacks|do not fit|does not fit"):
        load_quantized(path)


def test_scales_that_are_not_finite_are_refused_by_name(tiny: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    small = quantize_model(tiny_model(tiny), INT8)
    small.blocks[0].mlp.down.scales[1] = float("nan")
    save_quantized(path, small)
    with pytest.raises(ValueError, match=r"blocks\.0\.mlp\.down\.scales has numbers that are NaN"):
        load_quantized(path)


@pytest.mark.parametrize(
    ("format", "part", "bad", "named"),
    [
        ("fp8_e4m3", "packed", 0x7F, "weight"),  # the code of NaN
        ("fp8_e5m2", "packed", 0xFC, "weight"),  # of minus infinity
        ("mxfp4", "scales", 0xFF, "scales"),
        ("nvfp4", "scales", 0x7F, "scales"),
        ("int8", "scales", 3e38, "weight"),  # the scale is finite, 127 of it are not
    ],
)
def test_codes_that_stand_for_no_number_are_refused_by_name(
    tiny: Any, tmp_path: Path, format: str, part: str, bad: float, named: str
) -> None:
    path = tmp_path / "model.safetensors"
    small = quantize_model(tiny_model(tiny), Spec(format))
    getattr(small.blocks[0].mlp.down, part)[0, 0] = bad
    save_quantized(path, small)
    with pytest.raises(
        ValueError, match=rf"blocks\.0\.mlp\.down\.{named} has numbers that are NaN"
    ):
        load_quantized(path)


@pytest.mark.parametrize(
    ("norm", "said"),
    [
        (torch.full((64,), float("nan")), r"norm\.weight has numbers that are NaN"),
        (torch.ones(64, dtype=torch.int64), r"norm\.weight is stored as torch\.int64"),
        (torch.ones(64).to(torch.float8_e4m3fn), r"norm\.weight is stored as torch\.float8"),
    ],
    ids=["nan", "int64", "fp8"],
)
def test_norms_are_finite_floats(tiny: Any, tmp_path: Path, norm: torch.Tensor, said: str) -> None:
    path = tmp_path / "model.safetensors"
    rewrite(tiny, path, parts={"norm.weight": norm})
    with pytest.raises(ValueError, match=said):
        load_quantized(path)


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"config": "{"}, "is not valid JSON"),
        ({"config": "[]"}, "must hold a JSON object"),
        ({"config": '{"model_type": "gpt2"}'}, "model_type"),
        ({"specs": "[]"}, "must hold a JSON object"),
        ({"specs": "{}"}, "lacks 'embed'"),
        ({"specs": '{"embed": 3}'}, "the spec of embed must be an object"),
        ({"specs": '{"embed": {"format": ["int8"]}}'}, "embed must be"),
        ({"specs": '{"embed": {"format": "int8", "group": 2.5}}'}, "group of embed must be"),
        ({"specs": '{"embed": {"format": "int8", "group": "channel", "symmetric": 1}}'}, "true or"),
    ],
    ids=str,
)
def test_metadata_that_is_none_is_refused(
    tiny: Any, tmp_path: Path, metadata: dict[str, str], said: str
) -> None:
    path = tmp_path / "model.safetensors"
    rewrite(tiny, path, metadata=metadata)
    with pytest.raises(ValueError, match=said):
        load_quantized(path)


def rewrite(
    tiny: Any,
    path: Path,
    parts: dict[str, torch.Tensor] | None = None,
    metadata: dict[str, str] | None = None,
) -> None:
    """Save a small quantized model, with other tensors or other metadata."""
    save_quantized(path, quantize_model(tiny_model(tiny), INT8))
    with safe_open(path, "pt") as file:
        noted, stored = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(stored | (parts or {}), path, noted | (metadata or {}))


def test_a_model_with_other_modules_is_not_quantized(tiny: Any) -> None:
    model = tiny_model(tiny)
    model.blocks[0].attention.attend = nn.Identity()
    with pytest.raises(ValueError, match="quantize the plain model"):
        quantize_model(model, INT8)


def test_a_twin_is_neither_moved_nor_saved(tiny: Any, tmp_path: Path) -> None:
    twin = optimized_int8(quantize_model(tiny_model(tiny), INT8), round_activations=True)
    with pytest.raises(ValueError, match="stays where it is"):
        twin.half()
    with pytest.raises(ValueError, match="not a twin of it"):
        save_quantized(tmp_path / "model.safetensors", twin)
    assert not any(tmp_path.iterdir())


def test_a_cache_made_for_another_model_is_refused(tiny: Any) -> None:
    model = tiny_model(tiny)
    twin = optimized_int8(quantize_model(model, INT8), round_activations=True)
    other = replace(model.config, head_dim=model.config.head_dim + 2)
    with pytest.raises(ValueError, match="not made for this model"):
        twin(torch.tensor([[1, 2]]), KVCache(other, 1, 8))


def test_rows_of_another_width_are_refused() -> None:
    layer = Int8DynamicLinear(torch.ones(3, 64, dtype=torch.int8), torch.ones(3))
    with pytest.raises(ValueError, match="rows of 64 numbers on cpu are needed"):
        layer(torch.ones(2, 32))
