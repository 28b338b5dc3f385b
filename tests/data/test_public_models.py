"""Sizes of public models: counted from their published configurations, and cited."""

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest
import torch

from minillm import ModelConfig, Transformer, kv_bytes
from minillm.data.hardware import ACCELERATORS
from minillm.data.public_models import MODELS, PublicModel, capacity


def llama(
    width: int, layers: int, heads: int, kv: int, mlp: int, vocabulary: int, parameters: int
) -> tuple[ModelConfig, int]:
    """A published config.json, and the exact count of its weights."""
    config = ModelConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv,
        head_dim=width // heads,
        intermediate_size=mlp,
        max_position_embeddings=8,  # rotations have no weights
        hidden_act="silu",
        tie_word_embeddings=False,
    )
    return config, parameters


LLAMAS = {
    "Llama-2-7B": llama(4096, 32, 32, 32, 11008, 32000, 6_738_415_616),
    "Llama-2-70B": llama(8192, 80, 64, 8, 28672, 32000, 68_976_648_192),
    "Llama-3-8B": llama(4096, 32, 32, 8, 14336, 128_256, 8_030_261_248),
    "Llama-3.1-405B": llama(16384, 126, 128, 8, 53248, 128_256, 405_853_388_800),
}


@pytest.mark.parametrize("name", LLAMAS)
def test_sizes_are_those_of_our_model_with_the_published_config(name: str) -> None:
    config, parameters = LLAMAS[name]
    with torch.device("meta"):
        counted = sum(p.numel() for p in Transformer(config).parameters())
    assert counted == parameters
    assert MODELS[name].parameters == counted
    assert MODELS[name].kv_elements_per_token == config.kv_elements_per_token


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("GPT-3", 4_718_592),
        ("Llama-2-7B", 512 * 1024),
        ("Llama-2-70B", 320 * 1024),
        ("Llama-3-8B", 128 * 1024),
        ("Llama-3.1-405B", 516_096),
        ("DeepSeek-V3 (MLA)", 70_272),
    ],
)
def test_bytes_of_a_token_in_16_bits(name: str, size: int) -> None:
    assert capacity(MODELS[name], ACCELERATORS["H200"]).per_token == size


def test_every_size_is_cited_under_its_name() -> None:
    for name, thing in [*MODELS.items(), *ACCELERATORS.items()]:
        assert thing.name == name
        assert thing.source
    for model in MODELS.values():
        formula = re.sub(r"[^\d+*()]", "", model.kv_formula.replace(" x ", "*"))
        assert eval(formula) == model.kv_elements_per_token


def test_a_model_of_ours_beside_them(tiny_config: Callable[..., ModelConfig]) -> None:
    config = tiny_config()
    model = PublicModel.from_config("ours", config, 12_345)
    assert (model.name, model.parameters, model.context) == ("ours", 12_345, 64)
    assert model.kv_formula == "2 x 2 layers x 2 kv heads x 6"
    assert capacity(model, ACCELERATORS["H200"], bits=32).per_token == kv_bytes(
        config, 1, torch.float32
    )


# Capacity


@pytest.mark.parametrize(("cards", "batch", "bits"), [(1, 1, 16), (3, 7, 8), (16, 64, 4)])
def test_the_last_token_fits_and_the_next_does_not(cards: int, batch: int, bits: int) -> None:
    for model, card in product(MODELS.values(), ACCELERATORS.values()):
        found = capacity(model, card, cards=cards, batch=batch, bits=bits)
        assert found.memory == cards * card.memory
        assert found.weights == model.parameters * bits / 8
        assert found.per_token == model.kv_elements_per_token * batch * bits / 8
        if found.tokens:
            assert found.weights + found.tokens * found.per_token <= found.memory
        assert found.weights + (found.tokens + 1) * found.per_token > found.memory


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"cards": 2}, {"cards": 1}),
        ({"cards": 16}, {"cards": 15}),
        ({"batch": 1}, {"batch": 2}),
        ({"batch": 63}, {"batch": 64}),
        ({"bits": 4}, {"bits": 8}),
        ({"bits": 8}, {"bits": 16}),
    ],
)
def test_more_memory_and_smaller_numbers_never_hold_less(
    better: dict[str, int], worse: dict[str, int]
) -> None:
    pairs = [
        (capacity(model, card, **better).tokens, capacity(model, card, **worse).tokens)
        for model, card in product(MODELS.values(), ACCELERATORS.values())
    ]
    assert all(more >= less for more, less in pairs)
    assert any(more > less for more, less in pairs)


@pytest.mark.parametrize(("memory", "tokens"), [(99, 0), (100, 0), (119, 0), (120, 1), (1120, 51)])
def test_what_just_fits(memory: float, tokens: int) -> None:
    model = PublicModel("m", parameters=50, kv_elements_per_token=10, kv_formula="10", context=8,
                        source="made up")  # fmt: skip
    assert capacity(model, replace(ACCELERATORS["H200"], memory=memory)).tokens == tokens
