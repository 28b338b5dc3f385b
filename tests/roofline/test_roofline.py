"""Counted work equals what torch counts, what the modules move, and a count by hand."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from minillm import KVCache, ModelConfig, Transformer, kv_bytes
from minillm.attention import Attend
from minillm.data.hardware import ACCELERATORS
from minillm.roofline import Work, free_tokens, seconds, work

SHAPES: dict[str, dict[str, Any]] = {
    "grouped": {},
    "every head its own keys": {"num_key_value_heads": 4},
    "one key for all": {"num_key_value_heads": 1, "num_hidden_layers": 3},
    "untied, wide heads": {"tie_word_embeddings": False, "head_dim": 10, "vocab_size": 7},
    "biases": {"qkv_bias": True, "model_type": "qwen2"},
    "norms of queries and keys": {"qk_norm": True, "model_type": "qwen3"},
}
PASSES: dict[str, dict[str, int]] = {
    "prefill": {"new": 5},
    "decode": {"new": 1, "cached": 7},
    "first token": {"new": 1},
    "verification": {"new": 3, "cached": 4},
    "batch of decodes": {"new": 1, "cached": 7, "batch": 3},
    "batch of verifications": {"new": 4, "cached": 2, "batch": 2},
}

each_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
each_pass = pytest.mark.parametrize("step", PASSES.values(), ids=PASSES)


def forward(
    model: Transformer, logits: str, new: int, cached: int = 0, batch: int = 1
) -> Callable[[], Tensor]:
    """The pass itself, its cache filled already."""
    cache = KVCache(model.config, batch, new + cached, dtype=model.dtype)
    if cached:
        model.hidden(torch.zeros(batch, cached, dtype=torch.int64), cache)
    tokens = torch.zeros(batch, new, dtype=torch.int64)
    if logits == "all":
        return partial(model, tokens, cache)
    return lambda: model.head(model.hidden(tokens, cache)[:, -1])


# The work of a pass


def attention(config: ModelConfig, new: int, cached: int = 0, batch: int = 1) -> int:
    """A score and a mix of D multiplications and additions each, for every visible pair."""
    visible = torch.ones(new, new + cached).tril(cached)
    pairs = int(visible.sum()) * config.num_attention_heads * config.num_hidden_layers
    return 2 * (2 * config.head_dim) * pairs * batch


@each_shape
@each_pass
@pytest.mark.parametrize("logits", ["all", "last"])
def test_flops_are_those_of_the_matrices_and_of_visible_pairs(
    tiny: Callable[..., Transformer], shape: dict[str, Any], step: dict[str, int], logits: str
) -> None:
    model = tiny(**shape)
    run = forward(model, logits, **step)
    with FlopCounterMode(display=False) as counter:
        run()
    counts = counter.get_flop_counts()
    attend = [sum(ops.values()) for name, ops in counts.items() if name.endswith(".attend")]
    matrices = counter.get_total_flops() - sum(attend)  # torch counts hidden pairs as well
    expected = matrices + attention(model.config, **step)
    assert work(model.config, **step, logits=logits).flops == expected


@each_shape
@each_pass
@pytest.mark.parametrize("logits", ["all", "last"])
def test_activations_are_what_goes_through_the_matrices(
    tiny: Callable[..., Transformer], shape: dict[str, Any], step: dict[str, int], logits: str
) -> None:
    """Watched in the modules: of attention the queries and what they have read."""
    model, moved = tiny(**shape), []
    run = forward(model, logits, **step)
    for module in model.modules():
        if isinstance(module, nn.Linear | Attend):
            module.register_forward_hook(
                lambda _module, inputs, output: moved.append(inputs[0].nbytes + output.nbytes)
            )
    run()
    counted = work(model.config, **step, cache_bytes=model.dtype.itemsize, logits=logits)
    assert counted.activation_bytes == sum(moved)


@each_pass
def test_weights_are_read_once_whatever_the_pass(draft: Transformer, step: dict[str, int]) -> None:
    """Embedding and head of the shipped model are one matrix."""
    parameters = sum(weight.nbytes for weight in draft.parameters())
    assert work(draft.config, **step, weight_bytes=8).weight_bytes == parameters


@each_shape
@pytest.mark.parametrize(("new", "batch", "rows"), [(1, 1, 1), (3, 2, 6), (9, 9, 81)])
def test_of_an_embedding_of_its_own_the_looked_up_rows_are_read(
    tiny: Callable[..., Transformer], shape: dict[str, Any], new: int, batch: int, rows: int
) -> None:
    model = tiny(**shape)
    read = sum(weight.nbytes for weight in model.parameters())
    if not model.config.tie_word_embeddings:
        table = model.embed.weight
        read += (min(rows, len(table)) - len(table)) * table[0].nbytes
    counted = work(model.config, new=new, batch=batch, weight_bytes=model.dtype.itemsize)
    assert counted.weight_bytes == read


@each_shape
@each_pass
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_each_row_reads_its_cache_and_writes_its_new_tokens(
    tiny_config: Callable[..., ModelConfig],
    shape: dict[str, Any],
    step: dict[str, int],
    dtype: torch.dtype,
) -> None:
    config, batch = tiny_config(**shape), step.get("batch", 1)
    read = kv_bytes(config, step.get("cached", 0) + step["new"], dtype, batch)
    written = kv_bytes(config, step["new"], dtype, batch)
    counted = work(config, **step, cache_bytes=dtype.itemsize)
    assert counted.cache_bytes == read + written


def test_verification_in_two_texts_by_hand() -> None:
    """Two guesses verified in each, behind 5 cached tokens, number by number."""
    config = ModelConfig(
        vocab_size=10,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=2,
        intermediate_size=12,
        tie_word_embeddings=False,
    )
    qkv, out, gate_up, down, head = 8 * (8 + 4 + 4), 8 * 8, 8 * 24, 12 * 8, 8 * 10
    assert (qkv, out, gate_up, down, head) == (128, 64, 192, 96, 80)
    counted = work(config, new=3, cached=5, batch=2, weight_bytes=0.5, cache_bytes=2)

    # 6 tokens through 480 weights a layer; the three of a text see 6 + 7 + 8 keys, with 4 heads of
    # 2 numbers, for a score and a mix; 6 rows of logits.
    assert counted.flops == 2 * (2 * 6 * 480 + 2 * (2 * 4 * 2 * 21) * 2) + 2 * 6 * 80 == 15168

    # Two layers with two norms each, the last norm, the head, and 6 looked up rows; half a byte.
    assert counted.weight_bytes == (2 * (480 + 8 + 8) + 8 + 80 + 6 * 8) / 2 == 564

    # 2 layers x (key + value) x 2 heads x 2 numbers a token; 8 read, 3 written, by 2 texts.
    assert counted.cache_bytes == 16 * (8 + 3) * 2 * 2 == 704

    # In and out: qkv 8 + 16, attention 8 + 8, out 8 + 8, gate and up 8 + 24, down 12 + 8; head.
    assert counted.activation_bytes == (2 * 6 * (24 + 16 + 16 + 32 + 20) + 6 * 18) * 2 == 2808

    assert counted.nbytes == 564 + 704 + 2808
    assert counted.intensity == 15168 / 4076


# How work grows


def test_a_batch_shares_the_weights_and_nothing_else(
    tiny_config: Callable[..., ModelConfig],
) -> None:
    one, many = (work(tiny_config(), new=2, cached=30, batch=batch) for batch in (1, 12))
    assert many == Work(
        12 * one.flops, one.weight_bytes, 12 * one.cache_bytes, 12 * one.activation_bytes
    )


def test_tokens_of_one_text_share_the_cache_as_well(
    tiny_config: Callable[..., ModelConfig],
) -> None:
    """But for attention among themselves, and for writing their own keys and values."""
    config = tiny_config()
    texts = work(config, new=1, cached=50, batch=8)
    tokens = work(config, new=8, cached=50)
    among = 4 * config.num_attention_heads * config.head_dim * config.num_hidden_layers
    assert tokens.flops - texts.flops == among * (0 + 1 + 2 + 3 + 4 + 5 + 6 + 7)
    assert tokens.weight_bytes == texts.weight_bytes
    assert tokens.activation_bytes == texts.activation_bytes
    assert tokens.cache_bytes == kv_bytes(config, 50 + 8 + 8, torch.float32)
    assert texts.cache_bytes == kv_bytes(config, 50 + 1 + 1, torch.float32, batch=8)


def test_a_longer_context_adds_attention_and_cache_only(
    tiny_config: Callable[..., ModelConfig],
) -> None:
    config = tiny_config()
    short, long = (work(config, new=1, cached=cached, batch=3) for cached in (10, 40))
    per_key = 4 * config.num_attention_heads * config.head_dim * config.num_hidden_layers
    assert long.flops - short.flops == 3 * 30 * per_key
    assert long.cache_bytes - short.cache_bytes == kv_bytes(config, 30, torch.float32, batch=3)
    assert long.weight_bytes == short.weight_bytes
    assert long.activation_bytes == short.activation_bytes


@pytest.mark.parametrize("cut", [1, 4, 8])
def test_a_text_costs_the_same_in_one_pass_or_two(
    tiny_config: Callable[..., ModelConfig], cut: int
) -> None:
    config = tiny_config()
    whole, first = work(config, new=9), work(config, new=cut)
    rest = work(config, new=9 - cut, cached=cut)
    assert first.flops + rest.flops == whole.flops
    assert first.activation_bytes + rest.activation_bytes == whole.activation_bytes
    assert first.weight_bytes == rest.weight_bytes == whole.weight_bytes  # read twice


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"new": 0}, "new must be at least 1"),
        ({"new": 1, "cached": -1}, "cached must be at least 0"),
        ({"new": 1, "batch": 0}, "batch must be at least 1"),
        ({"new": 1, "weight_bytes": 0}, "weight_bytes must be above 0, got 0"),
        ({"new": 1, "cache_bytes": -2}, "cache_bytes must be above 0, got -2"),
        ({"new": 1, "logits": "first"}, "'all' or 'last', got 'first'"),
    ],
)
def test_work_that_cannot_be_is_refused(
    tiny_config: Callable[..., ModelConfig], wrong: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(named)):
        work(tiny_config(), **wrong)


# Time


@pytest.mark.parametrize(
    ("flops", "bandwidth", "overhead", "expected"),
    [
        (1e3, 1e9, 0.0, 6.0),  # arithmetic decides
        (1e9, 1e2, 0.0, 20.0),  # reading does
        (6e3, 2e3, 0.0, 1.0),  # the ridge
        (6e3, 2e3, 0.25, 1.25),
    ],
)
def test_the_slower_of_two_decides(
    flops: float, bandwidth: float, overhead: float, expected: float
) -> None:
    step = Work(flops=6000, weight_bytes=1000, cache_bytes=600, activation_bytes=400)
    assert seconds(step, flops, bandwidth, overhead) == expected


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("A100 80 GB SXM", 153),
        ("A100 80 GB PCIe", 161),  # "about 160" of the article
        ("A100 40 GB SXM", 201),
        ("A100 40 GB PCIe", 201),
        ("H100 SXM", 295),
        ("H100 PCIe", 378),
        ("H200", 206),
        ("RTX 4090", 164),
        ("RTX 5090", 117),
        ("MI300X", 247),
    ],
)
def test_tokens_that_an_accelerator_has_for_free(name: str, tokens: int) -> None:
    card = ACCELERATORS[name]
    assert round(free_tokens(card.flops, card.bandwidth)) == tokens
    in_8_bits = free_tokens(card.flops, card.bandwidth, weight_bytes=1)
    assert in_8_bits == pytest.approx(free_tokens(card.flops, card.bandwidth) / 2)


@pytest.mark.parametrize("weight_bytes", [2, 1, 0.5])
def test_free_tokens_are_where_reading_a_matrix_and_multiplying_take_the_same_time(
    weight_bytes: float,
) -> None:
    flops, bandwidth, weights = 3e12, 1e11, 10**6
    m = free_tokens(flops, bandwidth, weight_bytes)
    for tokens, longer in ((0.5 * m, "reading"), (2 * m, "multiplying")):
        step = Work(round(2 * weights * tokens), weights * weight_bytes, 0, 0)
        times = {"reading": step.nbytes / bandwidth, "multiplying": step.flops / flops}
        assert seconds(step, flops, bandwidth) == times[longer] == max(times.values())


@pytest.mark.parametrize("wrong", [0, -1, float("nan")])
def test_rates_are_above_zero(wrong: float) -> None:
    step = Work(1, 1, 1, 1)
    for call in (
        lambda: free_tokens(wrong, 1),
        lambda: free_tokens(1, wrong),
        lambda: free_tokens(1, 1, wrong),
        lambda: seconds(step, wrong, 1),
        lambda: seconds(step, 1, wrong),
    ):
        with pytest.raises(ValueError, match="must be above 0, got"):
            call()


# Accelerators


def test_every_accelerator_is_cited_under_its_name() -> None:
    for name, accelerator in ACCELERATORS.items():
        assert accelerator.name == name
        assert accelerator.source
        assert accelerator.dtype.itemsize == 2
        assert 1e13 < accelerator.flops < 1e16
        assert 5e11 < accelerator.bandwidth < 1e13
        assert 2e10 < accelerator.memory < 1e12
        assert accelerator.kind.startswith(("HBM", "GDDR"))
