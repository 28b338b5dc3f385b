"""The exercises of lesson 03: right answers, and what is said of typical mistakes."""

from collections.abc import Callable
from typing import Any

import pytest

from minillm.config import ModelConfig
from widgets.common.exercises import (
    judge,
)
from widgets.roofline import exercises


@pytest.mark.parametrize("answer", [(163.9, 81.9), [164, 82], (165.2e12 / 1008e9, 82.0)])
def test_free_tokens_of_a_card(answer: Any) -> None:
    assert exercises.CARD.name == "RTX 4090"
    verdict = judge("03.1", answer)
    assert verdict.grade == "right"
    assert verdict.says.startswith("About 164 tokens in 16 bits and 82 in 8")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((327.8, 163.9), "twice as many: a weight takes 2 FLOPs"),
        ((81.9, 41), "a weight has 2 bytes"),
        ((1311, 656), "bits where bytes are due"),
        ((163_900, 81_900), "TFLOPs over GB"),
        ((0.1639, 0.0819), "in the same unit"),
        ((1 / 163.9, 1 / 81.9), "Upside down"),
        ((500, 250), "divided by the time of its two FLOPs"),
        ((163.9, 163.9), "the arithmetic stays"),
        ((163.9, 327.8), "The other way round"),
        ((163.9, 41), "not a quarter"),
        ((163.9, 7), "Only the bytes of a weight"),
        (163.9, "Expected two numbers"),
        ((163.9, 81.9, 1), "Expected two numbers"),
    ],
)
def test_free_tokens_of_a_card_mistaken(answer: Any, told: str) -> None:
    verdict = judge("03.1", answer)
    assert verdict.grade == "wrong"
    assert told in verdict.says + verdict.look


def _matrices(config: ModelConfig) -> int:
    heads = config.num_attention_heads + 2 * config.num_key_value_heads
    layer = config.hidden_size * (
        (heads + config.num_attention_heads) * config.head_dim + 3 * config.intermediate_size
    )
    return config.num_hidden_layers * layer + config.vocab_size * config.hidden_size


def _attending(config: ModelConfig, context: int) -> int:
    return 4 * config.num_hidden_layers * config.num_attention_heads * config.head_dim * context


def _decode_step(config: ModelConfig, batch: int, context: int) -> tuple[float, float, float]:
    weights = _matrices(config)
    flops = batch * (2 * weights + _attending(config, context))
    return flops, 2 * weights, batch * context * 2 * config.kv_elements_per_token


def _outweighs(config: ModelConfig, batch: int) -> float:
    return _matrices(config) / (batch * config.kv_elements_per_token)


def test_a_decode_step_in_numbers() -> None:
    verdict = judge("03.2", (_decode_step, _outweighs))
    assert verdict.grade == "right"
    assert "from 114,516 tokens on, with 64 texts from 1,789 tokens in each" in verdict.look


Part = Callable[[ModelConfig, int, int], float]


def _table(config: ModelConfig) -> int:
    return config.vocab_size * config.hidden_size


def _group(config: ModelConfig) -> float:
    return config.num_attention_heads / config.num_key_value_heads


FLOPS: list[tuple[Part, str]] = [
    (lambda c, b, n: _decode_step(c, b, n)[0] / 2, "a multiplication and an addition"),
    (lambda c, b, n: _decode_step(c, 1, n)[0], "the arithmetic is done for each"),
    (lambda c, b, n: 2 * b * _matrices(c), "Attention is missing"),
    (lambda c, b, n: 2 * b * _matrices(c) + b * _attending(c, n) / 2, "does two things"),
    (lambda c, b, n: 2 * b * _matrices(c) + _attending(c, n), "its own context"),
    (
        lambda c, b, n: 2 * b * _matrices(c) + b * _attending(c, n) / _group(c),
        "not arithmetic: count all query heads",
    ),
    (lambda c, b, n: _decode_step(c, b, n)[0] + 2 * b * _table(c), "multiplies nothing"),
    (lambda c, b, n: _decode_step(c, b, n)[0] - 2 * b * _table(c), "The head is a matrix too"),
    (lambda c, b, n: 1.0, "term by term"),
]
WEIGHTS: list[tuple[Part, str]] = [
    (lambda c, b, n: 2 * b * _matrices(c), "read once for all rows"),
    (lambda c, b, n: _matrices(c), "Half: in 16 bits"),
    (lambda c, b, n: 4 * _matrices(c), "Twice as many: in 16 bits"),
    (lambda c, b, n: 2 * (_matrices(c) + _table(c)), "only the rows of the new tokens"),
    (lambda c, b, n: 2 * (_matrices(c) - _table(c)), "The head is read as a whole"),
    (lambda c, b, n: 1.0, "term by term"),
]
CACHE: list[tuple[Part, str]] = [
    (lambda c, b, n: _decode_step(c, 1, n)[2], "a cache of its own"),
    (lambda c, b, n: _decode_step(c, b, n)[2] / 2, "Half: a token leaves"),
    (lambda c, b, n: _decode_step(c, b, n)[2] / 4, "A quarter: a token leaves"),
    (lambda c, b, n: _decode_step(c, b, n)[2] * _group(c), "4 query heads share one"),
    (lambda c, b, n: _decode_step(c, b, n)[2] / c.num_hidden_layers, "That is one layer"),
    (lambda c, b, n: 1.0, "term by term"),
]


@pytest.mark.parametrize(
    ("index", "what", "part", "helps"),
    [
        (index, what, *case)
        for index, (what, cases) in enumerate(
            {"FLOPs": FLOPS, "bytes of weights": WEIGHTS, "bytes of the cache": CACHE}.items()
        )
        for case in cases
    ],
)
def test_a_decode_step_mistaken(index: int, what: str, part: Part, helps: str) -> None:
    def step(config: ModelConfig, batch: int, context: int) -> list[float]:
        numbers = list(_decode_step(config, batch, context))
        numbers[index] = part(config, batch, context)
        return numbers

    verdict = judge("03.2", (step, _outweighs))
    assert verdict.grade == "wrong"
    assert verdict.says.startswith("decode_step(LLAMA_3_8B, batch=8, context=4096): expected ")
    assert f" {what}, got " in verdict.says
    assert helps in verdict.look


def test_a_decode_step_has_to_hold_for_every_model() -> None:
    def tied(config: ModelConfig, batch: int, context: int) -> tuple[float, float, float]:
        flops, weights, cache = _decode_step(config, batch, context)
        return flops, weights - 2 * _table(config) * config.tie_word_embeddings, cache

    def ungrouped(config: ModelConfig, batch: int) -> float:
        return _outweighs(config, batch) * _group(config) / 4

    verdict = judge("03.2", (tied, _outweighs))
    assert "(LLAMA_3_8B, head and embedding tied, batch=8" in verdict.says
    assert "tied or not" in verdict.look
    verdict = judge("03.2", (_decode_step, ungrouped))
    assert verdict.says.startswith("outweighs(LLAMA_3_8B without groups, batch=8): expected ")


@pytest.mark.parametrize(
    ("outweighs", "helps"),
    [
        (lambda c, b: _outweighs(c, 1), "all of them are read"),
        (lambda c, b: 2 * _outweighs(c, b), "Twice as many"),
        (lambda c, b: _outweighs(c, b) / 2, "Half as many"),
        (lambda c, b: 1 / _outweighs(c, b), "Upside down"),
        (lambda c, b: 10.0, "over those that one token adds"),
    ],
)
def test_where_the_cache_outweighs_mistaken(
    outweighs: Callable[[ModelConfig, int], float], helps: str
) -> None:
    verdict = judge("03.2", (_decode_step, outweighs))
    assert verdict.grade == "wrong"
    assert verdict.says.startswith("outweighs(LLAMA_3_8B, batch=8): expected 14,315 tokens, got")
    assert helps in verdict.look


def test_two_functions_are_asked_for() -> None:
    assert "Expected two functions" in judge("03.2", _decode_step).says
    assert "expected three numbers" in judge("03.2", (lambda c, b, n: 1.0, _outweighs)).says
    assert judge("03.2", (_decode_step, ...)).grade == "open"
    assert "of type float" in judge("03.2", (_decode_step, 114_000.0)).says


Times = tuple[float, float]


def _together(
    m: int, weights: float, cache: float, flops: float, peak: float, bandwidth: float
) -> Times:
    compute = m * flops / peak
    return (
        max(compute, (weights + m * cache) / bandwidth),
        max(compute, (weights + cache) / bandwidth),
    )


def test_texts_and_tokens_together() -> None:
    verdict = judge("03.3", _together)
    assert verdict.grade == "right"
    assert "16 tokens of one text take 1.01 times as long as one, 16 texts 2.01" in verdict.look


@pytest.mark.parametrize(
    ("answer", "helps"),
    [
        (lambda *a: _together(*a)[::-1], "swapped"),
        (
            lambda m, w, c, f, p, b: (m * f / p + (w + m * c) / b, m * f / p + (w + c) / b),
            "not the sum",
        ),
        (
            lambda m, w, c, f, p, b: (min(m * f / p, (w + m * c) / b), min(m * f / p, (w + c) / b)),
            "not the shorter",
        ),
        (lambda *a: (_together(*a)[1],) * 2, "a cache of its own"),
        (lambda *a: (_together(*a)[0],) * 2, "share its cache"),
        (
            lambda m, w, c, f, p, b: (
                max(m * f / p, m * (w + c) / b),
                _together(m, w, c, f, p, b)[1],
            ),
            "read once for all m",
        ),
        (
            lambda m, w, c, f, p, b: (
                max(m * f / p, m * (w + c) / b),
                max(m * f / p, (m * w + c) / b),
            ),
            "in both cases",
        ),
        (lambda m, w, c, f, p, b: ((w + m * c) / b, (w + c) / b), "can take longer"),
        (
            lambda m, w, c, f, p, b: (max(f / p, (w + m * c) / b), max(f / p, (w + c) / b)),
            "The arithmetic of all m tokens",
        ),
        (
            lambda m, w, c, f, p, b: (max(m * f / p, m * c / b), max(m * f / p, c / b)),
            "The weights have to be read as well",
        ),
        (lambda *a: (1.0, 1.0), "The longer of two"),
        (lambda *a: 1.0, "Is there a return?"),
    ],
)
def test_texts_and_tokens_together_mistaken(answer: Callable[..., Any], helps: str) -> None:
    verdict = judge("03.3", answer)
    assert verdict.grade == "wrong"
    assert helps in verdict.look


def test_a_wrong_time_is_shown_beside_the_right_one() -> None:
    says = judge("03.3", lambda *a: (1.0, 1.0)).says
    assert says == (
        "texts_and_tokens(16, 1.5e+10, 1e+09, 1.6e+10, 9.89e+14, 3.35e+12): expected "
        "(0.009254, 0.004776) seconds, got (1, 1)."
    )
