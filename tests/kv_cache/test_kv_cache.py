"""The cache changes nothing: every way to fill it, roll it back and share it gives the same."""

import contextlib
from collections.abc import Callable

import oracles
import pytest
import torch

import minillm
from minillm import KVCache, ModelConfig, Transformer, kv_bytes

SEEDS = range(6)
Tiny = Callable[..., Transformer]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("oracle", [oracles.one_by_one, oracles.chunked_prefill])
def test_full_forward_equals_any_chunking(
    oracle: Callable[..., None], seed: int, dtype: torch.dtype
) -> None:
    oracle(minillm, seed, dtype)


@pytest.mark.parametrize("T", [1, 3])
@pytest.mark.parametrize("seed", SEEDS)
def test_stale_slots_change_nothing(seed: int, T: int) -> None:
    oracles.stale_slots(minillm, seed, T)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "oracle",
    [
        oracles.truncate_and_continue,
        oracles.ragged_rows,
        oracles.interrupted_forward,
        oracles.kept_rows,
    ],
)
def test_the_protocol(oracle: Callable[..., None], seed: int) -> None:
    oracle(minillm, seed)


@pytest.mark.parametrize("kept", [[], [0], [3], [0, 1, 2, 3], [3, 1]])
def test_keep_moves_tokens_in_the_order_given(
    tiny_config: Callable[..., ModelConfig], kept: list[int]
) -> None:
    cache = KVCache(tiny_config(), 1, 9)
    k = torch.arange(6.0)[None, None, :, None].expand(1, 2, 6, 6)  # token i writes i
    for layer in range(2):
        cache.append(layer, k[:, :, :2], -k[:, :, :2])
    cache.advance(2)
    for layer in range(2):
        cache.append(layer, k[:, :, 2:], -k[:, :, 2:])
    cache.advance(4)
    cache.keep([kept])
    expected = torch.tensor([0, 1, *(2 + i for i in kept)], dtype=torch.float32)
    assert list(cache.lengths) == [len(expected)]
    stored = cache.keys[:, 0, :, : len(expected)]
    assert torch.equal(stored, expected[:, None].expand_as(stored))
    assert torch.equal(cache.values[:, 0, :, : len(expected)], -stored)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("layers", "groups", "head", "tokens", "batch"), [(2, 2, 6, 1, 1), (3, 1, 8, 64, 5)]
)
def test_bytes_equal_the_formula(
    tiny_config: Callable[..., ModelConfig],
    layers: int,
    groups: int,
    head: int,
    tokens: int,
    batch: int,
    dtype: torch.dtype,
) -> None:
    config = tiny_config(num_hidden_layers=layers, num_key_value_heads=groups, head_dim=head)
    cache = KVCache(config, batch, tokens, dtype=dtype)
    buffers = [x for x in vars(cache).values() if isinstance(x, torch.Tensor) and x.ndim > 1]
    held = sum(x.untyped_storage().nbytes() for x in buffers)
    formula = 2 * layers * groups * head * dtype.itemsize * tokens * batch
    assert held == cache.nbytes == kv_bytes(config, tokens, dtype, batch) == formula


def test_a_cache_is_filled_to_the_last_slot_and_no_further(tiny: Tiny) -> None:
    model, tokens = tiny(), oracles.tokens_of(0, 1, 12)
    cache = KVCache(model.config, 1, 10, dtype=torch.float64)
    model(tokens[:, :8], cache)
    with pytest.raises(ValueError, match="room for 10 tokens, 11 are needed"):
        model(tokens[:, 8:11], cache)
    assert list(cache.lengths) == [8]
    assert oracles.close(model(tokens[:, 8:10], cache), model(tokens[:, :10])[:, 8:])
    with pytest.raises(ValueError, match="room for 10 tokens, 11 are needed"):
        model(tokens[:, 10:11], cache)


def test_the_longest_row_decides_about_room(tiny: Tiny) -> None:
    model = tiny()
    cache = KVCache(model.config, 2, 10, dtype=torch.float64)
    model(oracles.tokens_of(0, 2, 8), cache)
    cache.truncate([8, 1])
    with pytest.raises(ValueError, match="room for 10"):
        model(oracles.tokens_of(0, 2, 3), cache)
    assert list(cache.lengths) == [8, 1]


@pytest.mark.parametrize("lengths", [[4, 4], [4, 2]], ids=["equal", "ragged"])
@pytest.mark.parametrize("rows", [1, 3])
def test_another_number_of_rows_is_refused(tiny: Tiny, lengths: list[int], rows: int) -> None:
    model = tiny()
    cache = KVCache(model.config, 2, 10, dtype=torch.float64)
    model(oracles.tokens_of(0, 2, 4), cache)
    cache.truncate(lengths)
    with pytest.raises(ValueError, match="rows"):
        model(oracles.tokens_of(0, rows, 2), cache)
    assert list(cache.lengths) == lengths


@pytest.mark.parametrize("lengths", [[], [1], [1, 2, 3], [5, 4], [0, 100]])
def test_truncate_refuses(tiny: Tiny, lengths: list[int]) -> None:
    model = tiny()
    cache = KVCache(model.config, 2, 10, dtype=torch.float64)
    model(oracles.tokens_of(0, 2, 4), cache)
    with pytest.raises(ValueError, match="lengths must be"):
        cache.truncate(lengths)
    assert list(cache.lengths) == [4, 4]


@pytest.mark.parametrize("rows", [[], [[0]], [[0], [3]], [[0], [0], [0]]], ids=str)
def test_keep_refuses(tiny: Tiny, rows: list[list[int]]) -> None:
    model = tiny()
    cache = KVCache(model.config, 2, 10, dtype=torch.float64)
    model(oracles.tokens_of(0, 2, 4), cache)
    model(oracles.tokens_of(1, 2, 3), cache)
    with pytest.raises(ValueError, match="rows must be"):
        cache.keep(rows)
    assert list(cache.lengths) == [7, 7]


def test_keep_never_brings_back_what_truncate_forgot(tiny: Tiny) -> None:
    model = tiny()
    cache = KVCache(model.config, 1, 10, dtype=torch.float64)
    model(oracles.tokens_of(0, 1, 4), cache)
    model(oracles.tokens_of(1, 1, 3), cache)
    cache.truncate([2])
    with contextlib.suppress(ValueError):  # a refusal is as good
        cache.keep([[]])
    assert list(cache.lengths) == [2]


@pytest.mark.parametrize(("batch", "capacity"), [(0, 5), (-1, 5), (2, 0)])
def test_an_empty_cache_is_refused(
    tiny_config: Callable[..., ModelConfig], batch: int, capacity: int
) -> None:
    with pytest.raises(ValueError, match=r"(batch|capacity) must be at least 1"):
        KVCache(tiny_config(), batch, capacity)
