"""The forward pass: shapes, dtypes, devices, explicit masks and positions, its one hook."""

from collections.abc import Callable
from typing import Any

import oracles
import pytest
import torch

import minillm
from minillm import KVCache, Transformer
from minillm.attention import Attend, attention_weights

Tiny = Callable[..., Transformer]
VARIANTS: list[dict[str, Any]] = [
    {"hidden_act": "relu"},
    {"hidden_act": "silu", "tie_word_embeddings": False},
    {"hidden_act": "gelu", "num_key_value_heads": 4},
    {"num_key_value_heads": 1},
    {"model_type": "qwen2", "qkv_bias": True},
    {"model_type": "qwen3", "qk_norm": True, "head_dim": 10},
]


@pytest.mark.parametrize("sizes", VARIANTS, ids=str)
def test_shapes_and_names_of_the_forward_pass(tiny: Tiny, sizes: dict[str, Any]) -> None:
    model, tokens = tiny(**sizes), oracles.tokens_of(0, 2, 9)
    hidden = model.hidden(tokens)
    assert hidden.shape == (2, 9, 24)
    assert torch.equal(model.head(hidden), model(tokens))
    assert model(tokens).shape == (2, 9, 31)
    tied = model.head.weight is model.embed.weight
    assert tied == model.config.tie_word_embeddings


@pytest.mark.parametrize("sizes", VARIANTS, ids=str)
def test_no_token_sees_the_ones_behind_it(tiny: Tiny, sizes: dict[str, Any]) -> None:
    model, tokens = tiny(**sizes), oracles.tokens_of(0, 1, 12)
    logits = model(tokens)
    for cut in (1, 5, 11):
        other = torch.cat((tokens[:, :cut], (tokens[:, cut:] + 1) % 31), dim=1)
        assert oracles.close(model(other)[:, :cut], logits[:, :cut])
        assert not oracles.close(model(other)[:, cut], logits[:, cut])


@pytest.mark.parametrize("seed", range(4))
def test_attention_is_softmax_by_group(seed: int) -> None:
    oracles.attend_by_hand(minillm, seed)


@pytest.mark.parametrize("seed", range(4))
def test_branches_of_guesses_in_one_forward(seed: int) -> None:
    oracles.tree_of_guesses(minillm, seed)


def test_a_mask_and_positions_of_each_row_without_a_cache(tiny: Tiny) -> None:
    """Left-padded rows: the padding is masked out, positions count from the first real token."""
    model = tiny()
    rows = [oracles.tokens_of(i, n) for i, n in enumerate((6, 2, 4))]
    padding = torch.tensor([[6 - len(row)] for row in rows])
    tokens = torch.stack([torch.cat((row.new_zeros(6 - len(row)), row)) for row in rows])
    real = torch.arange(6) >= padding  # (B, T)
    mask = (real[:, None] & torch.ones(6, 6, dtype=torch.bool).tril()) | torch.eye(6).bool()
    positions = (torch.arange(6) - padding).clamp(min=0)
    logits = model(tokens, positions=positions, mask=mask)
    for b, row in enumerate(rows):
        assert oracles.close(logits[b, 6 - len(row) :], model(row[None])[0])


def test_rotation_is_relative(tiny: Tiny) -> None:
    """Queries and keys turn together: a text moved along the context keeps its logits."""
    model, tokens = tiny(), oracles.tokens_of(0, 1, 10)
    # cosines are float32 numbers, so the sum of two angles is exact to 1e-7 only
    moved = model(tokens, positions=torch.arange(10) + 54)
    assert (moved - model(tokens)).abs().max() < 1e-5
    stretched = model(tokens, positions=torch.arange(10) * 2)
    assert (stretched - model(tokens)).abs().max() > 1e-2


@pytest.mark.parametrize("ragged", [False, True])
def test_the_hook_on_attend_sees_what_the_kernel_hides(tiny: Tiny, ragged: bool) -> None:
    model, checked = tiny(), []

    def check(_: Attend, inputs: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        q, k, v, mask = inputs  # k and v are the cache's own slots: look now, or copy
        weights = attention_weights(q, k, mask)
        assert oracles.close(weights.sum(-1), torch.ones_like(weights[..., 0]))
        assert oracles.close(weights @ v.repeat_interleave(2, dim=1), out)
        checked.append(weights.shape)

    for module in model.modules():
        if isinstance(module, Attend):
            module.register_forward_hook(check)
    cache = KVCache(model.config, 2, 12, dtype=torch.float64)
    model(oracles.tokens_of(0, 2, 6), cache)
    cache.truncate([6, 3 if ragged else 6])
    model(oracles.tokens_of(1, 2, 1), cache)
    model(oracles.tokens_of(2, 2, 3), cache)
    assert checked == [(2, 4, T, S) for T, S in ((6, 6), (1, 7), (3, 10)) for _ in model.blocks]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_dtypes(tiny: Tiny, dtype: torch.dtype) -> None:
    """Cached and not, everything stays in the model's dtype; bf16 keeps about two digits."""
    exact, model, tokens = tiny(), tiny(dtype=dtype), oracles.tokens_of(0, 2, 12)
    cache = KVCache(model.config, 2, 12, dtype=dtype)
    parts = [model(tokens[:, :7], cache), model(tokens[:, 7:8], cache), model(tokens[:, 8:], cache)]
    bound = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.05}[dtype]
    for logits in (model(tokens), torch.cat(parts, dim=1)):
        assert logits.dtype == model.dtype == dtype
        assert (logits.double() - exact(tokens)).norm() < bound * exact(tokens).norm()
    run = minillm.decode_cached(model, [[1, 2, 3], [4]], max_new_tokens=9)
    assert [len(text) for text in minillm.collect(run)] == [9, 9]


@pytest.mark.parametrize("sizes", VARIANTS, ids=str)
def test_no_stray_cpu_tensor(tiny: Tiny, sizes: dict[str, Any]) -> None:
    """On the meta device any operation with a CPU tensor fails."""
    model = tiny(**sizes).to("meta")
    cache = KVCache(model.config, 3, 40, device="meta", dtype=model.dtype)

    def forward(T: int, **how: torch.Tensor) -> None:
        tokens = torch.zeros(3, T, dtype=torch.int64, device="meta")
        assert model.device == model(tokens, cache, **how).device == torch.device("meta")

    assert model(torch.zeros(3, 5, dtype=torch.int64, device="meta")).shape == (3, 5, 31)
    forward(6)
    forward(4)
    forward(1)
    cache.truncate([9, 4, 7])
    forward(1)
    forward(3)
    cache.keep([[0, 2], [], [1]])
    mask = torch.ones(2, 2, dtype=torch.bool, device="meta")
    forward(2, mask=mask)
    forward(2, mask=mask.expand(3, 2, 2), positions=torch.tensor([[13, 13], [7, 7], [11, 11]]))
    assert list(cache.lengths) == [16, 9, 13]


def test_logits_are_no_reused_buffer(tiny: Tiny) -> None:
    model, cache = tiny(), KVCache(tiny().config, 1, 9, dtype=torch.float64)
    first = model(oracles.tokens_of(0, 1, 1), cache)
    kept = first.clone()
    model(oracles.tokens_of(1, 1, 1), cache)
    assert torch.equal(first, kept)


@pytest.mark.parametrize("cached", [0, 60, 64])
def test_the_context_ends(tiny: Tiny, cached: int) -> None:
    model = tiny()
    cache = KVCache(model.config, 1, 80, dtype=torch.float64)
    if cached:
        model(oracles.tokens_of(0, 1, cached), cache)
    if cached < 64:
        model(oracles.tokens_of(1, 1, 64 - cached), cache)
        cache.truncate([cached])
    with pytest.raises(ValueError, match="position 64 is beyond the context of 64"):
        model(oracles.tokens_of(1, 1, 65 - cached), cache)
    assert list(cache.lengths) == [cached]


@pytest.mark.parametrize("position", [64, 1000])
def test_a_position_beyond_the_context(tiny: Tiny, position: int) -> None:
    with pytest.raises(ValueError, match=f"position {position} is beyond"):
        tiny()(oracles.tokens_of(0, 1, 2), positions=torch.tensor([0, position]))
