"""Counted work equals what torch counts in the matrices, and attention counted by its mask."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from minillm import KVCache, ModelConfig, Transformer
from minillm.roofline import forward_flops

SHAPES: dict[str, dict[str, Any]] = {
    "grouped": {},
    "every head its own keys": {"num_key_value_heads": 4},
    "one key for all": {"num_key_value_heads": 1, "num_hidden_layers": 3},
    "untied, wide heads": {"tie_word_embeddings": False, "head_dim": 10, "vocab_size": 7},
}


def matrices(model: Transformer, new: int, cached: int) -> int:
    """What torch counts in a forward of `new` tokens behind `cached`, attention left out."""
    cache = KVCache(model.config, 1, new + cached, dtype=model.dtype)
    if cached:
        model.hidden(torch.zeros(1, cached, dtype=torch.int64), cache)
    with FlopCounterMode(display=False) as counter:
        model.head(model.hidden(torch.zeros(1, new, dtype=torch.int64), cache)[:, -1])
    counts = counter.get_flop_counts()
    attend = [sum(ops.values()) for name, ops in counts.items() if name.endswith(".attend")]
    return counter.get_total_flops() - sum(attend)


def attention(config: ModelConfig, new: int, cached: int) -> int:
    """A score and a mix of D multiplications and additions each, for every visible pair."""
    visible = torch.ones(new, new + cached).tril(cached)
    pairs = int(visible.sum()) * config.num_attention_heads * config.num_hidden_layers
    return 2 * (2 * config.head_dim) * pairs


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(("new", "cached"), [(1, 0), (5, 0), (1, 7), (3, 4)])
def test_flops_are_those_of_the_matrices_and_of_visible_pairs(
    tiny: Callable[..., Transformer], shape: dict[str, Any], new: int, cached: int
) -> None:
    model = tiny(**shape)
    expected = matrices(model, new, cached) + attention(model.config, new, cached)
    assert forward_flops(model.config, new, cached) == expected


@pytest.mark.parametrize("cut", [1, 4, 8])
def test_a_text_costs_the_same_in_one_pass_or_two(
    tiny_config: Callable[..., ModelConfig], cut: int
) -> None:
    """But for the logits of one more token."""
    config = tiny_config()
    head = 2 * config.hidden_size * config.vocab_size
    parts = forward_flops(config, cut) + forward_flops(config, 9 - cut, cut)
    assert parts == forward_flops(config, 9) + head
