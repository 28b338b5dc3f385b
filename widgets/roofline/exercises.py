"""The checks of lesson 03: free tokens of a card, a step in numbers, many texts or many tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from minillm.config import ModelConfig
from minillm.data.hardware import ACCELERATORS
from minillm.data.public_models import LLAMA_3_8B
from minillm.roofline import Work, free_tokens, seconds, work
from widgets.common.exercises import Verdict, check, exercise, hint, right, run, wrong

__all__ = ["CARD", "LLAMA_3_8B", "check", "hint"]

CARD = ACCELERATORS["RTX 4090"]
_H100 = ACCELERATORS["H100 SXM"]
_MODELS = {
    "LLAMA_3_8B": LLAMA_3_8B,
    "LLAMA_3_8B without groups": replace(LLAMA_3_8B, num_key_value_heads=32),
    "LLAMA_3_8B, head and embedding tied": replace(LLAMA_3_8B, tie_word_embeddings=True),
}
_BATCHES = ((8, 4096), (1, 1024), (64, 512))  # with their contexts
_step = partial(work, new=1, weight_bytes=2, cache_bytes=2)


def _near(got: float, true: float) -> bool:
    """Norms, biases and the token that is just written may be counted or not."""
    return abs(got / true - 1) < 0.02


def _why(got: float, mistakes: Mapping[str, float], otherwise: str) -> str:
    """What the mistake says that comes closest to an answer."""
    closest = min(mistakes, key=lambda why: abs(got / mistakes[why] - 1))
    return closest if _near(got, mistakes[closest]) else otherwise


@exercise(
    "03.1",
    hints=[
        "How long does it take to read one weight? How long to use it for one token?",
        "A weight is multiplied and added, 2 FLOPs, for each token; it is read once for all.",
        "m tokens are free as long as m x 2 / (FLOPs a second) is less than (bytes of a weight) / "
        "(bytes a second).",
    ],
)
def free_on_a_card(answer: Any) -> Verdict:
    """How many tokens CARD has for free, with weights in 16 bits and in 8, multiplied in 16."""
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        return wrong("Expected two numbers: for weights in 16 bits, and for weights in 8.")
    in_16, in_8 = (free_tokens(CARD.flops, CARD.bandwidth, size) for size in (2, 1))
    got_16, got_8 = map(float, answer)
    if not _near(got_16, in_16):
        return wrong(f"16 bits: {got_16:,.4g} tokens is not it.", _why_free_in_16(got_16, in_16))
    if not _near(got_8, in_8):
        mistakes = {
            "Half the bytes are read in half the time; the arithmetic stays as it is.": in_16,
            "The other way round: half the bytes are read sooner, so less fits in.": 2 * in_16,
            "Half the bytes, not a quarter.": in_16 / 4,
        }
        look = _why(got_8, mistakes, "Only the bytes of a weight have changed.")
        return wrong(f"8 bits: {got_8:,.4g} tokens is not it.", look)
    return right(
        f"About {in_16:.0f} tokens in 16 bits and {in_8:.0f} in 8: free_tokens says the same.",
        "Smaller weights make one token faster, and leave less time that others can use for free.",
    )


def _why_free_in_16(got: float, true: float) -> str:
    mistakes = {
        "You have twice as many: a weight takes 2 FLOPs for a token, a multiplication and an "
        "addition.": 2 * true,
        "You have half as many: a weight has 2 bytes in 16 bits.": true / 2,
        "You have eight times as many: bits where bytes are due.": 8 * true,
        "A thousand times as many: TFLOPs over GB.": 1000 * true,
        "A thousand times too few: are both rates in the same unit?": true / 1000,
        "Upside down: that is the part of the time that one token's arithmetic takes.": 1 / true,
    }
    return _why(got, mistakes, "The time to read a weight, divided by the time of its two FLOPs.")


@exercise(
    "03.2",
    hints=[
        "A weight of a matrix takes 2 FLOPs for each row and is read once for all rows. The "
        "embedding is a table: a token reads one row of it. The head is a matrix as large.",
        "Attention, for each row, layer and query head: the query times each key, and each value "
        "times its weight: 4 x head dim x context FLOPs.",
        "Each row reads its own cache: 2 x layers x kv heads x head dim numbers a token. Where do "
        "the caches of all rows have as many bytes as the weights?",
    ],
)
def decode_step(answer: Any) -> Verdict:
    """Two functions: one decode step in numbers, and where the cache outweighs the weights.

    decode_step(config, batch, context) -> FLOPs, bytes of weights, bytes of the cache, in 16 bits;
    outweighs(config, batch) -> the context at which all rows' caches are as large as the weights.
    """
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        return wrong("Expected two functions: (decode_step, outweighs).")
    for name, config in _MODELS.items():
        for batch, context in _BATCHES:
            verdict = _judge_step(answer[0], name, config, batch, context)
            if verdict:
                return verdict
    for name, config in _MODELS.items():
        for batch, _ in _BATCHES:
            verdict = _judge_outweighs(answer[1], name, config, batch)
            if verdict:
                return verdict
    alone, many = (_outweighs(LLAMA_3_8B, batch) for batch in (1, 64))
    return right(
        "FLOPs, weights and cache are those of minillm.roofline.work, for three models.",
        f"Llama-3-8B reads more cache than weights from {alone:,.0f} tokens on, with 64 texts from "
        f"{many:,.0f} tokens in each.",
    )


def _judge_step(
    function: Any, name: str, config: ModelConfig, batch: int, context: int
) -> Verdict | None:
    call = f"decode_step({name}, batch={batch}, context={context})"
    got = run(function, config, batch, context)
    if not isinstance(got, tuple | list) or len(got) != 3:
        return wrong(
            f"{call}: expected three numbers.", "FLOPs, weights, cache: is there a return?"
        )
    true = _step(config, cached=context, batch=batch)
    parts = {
        "FLOPs": (true.flops, _flop_mistakes(config, batch, true, context)),
        "bytes of weights": (true.weight_bytes, _weight_mistakes(config, batch, true)),
        "bytes of the cache": (true.cache_bytes, _cache_mistakes(config, batch, true)),
    }
    for value, (what, (expected, mistakes)) in zip(map(float, got), parts.items(), strict=True):
        if not _near(value, expected):
            said = f"{call}: expected {expected:.4g} {what}, got {value:.4g}."
            return wrong(said, _why(value, mistakes, "Compare with the hints, term by term."))
    return None


def _flop_mistakes(config: ModelConfig, batch: int, true: Work, context: int) -> dict[str, float]:
    heads, shared = config.num_attention_heads, config.num_key_value_heads
    attention = 4 * config.num_hidden_layers * heads * config.head_dim * batch * context
    table = 2 * batch * config.vocab_size * config.hidden_size
    return {
        "Half: a multiplication and an addition are two.": true.flops / 2,
        "That is one row: the arithmetic is done for each.": true.flops / batch,
        "Attention is missing: its work grows with the context.": true.flops - attention,
        "Attention does two things: queries by keys, and values by their weights.": true.flops
        - attention / 2,
        "Every row attends to its own context.": true.flops - attention * (1 - 1 / batch),
        "Sharing keys saves reading, not arithmetic: count all query heads.": true.flops
        - attention * (1 - shared / heads),
        "Looking up a row of the embedding multiplies nothing.": true.flops + table,
        "The head is a matrix too.": true.flops - table,
    }


def _weight_mistakes(config: ModelConfig, batch: int, true: Work) -> dict[str, float]:
    table = 2 * config.vocab_size * config.hidden_size
    return {
        "Weights are read once for all rows: that is why a batch pays.": true.weight_bytes * batch,
        "Half: in 16 bits a number has 2 bytes.": true.weight_bytes / 2,
        "Twice as many: in 16 bits a number has 2 bytes.": true.weight_bytes * 2,
        "Of the embedding, only the rows of the new tokens are read; where it is tied to the head, "
        "it is there once.": true.weight_bytes + table,
        "The head is read as a whole, tied or not.": true.weight_bytes - table,
    }


def _cache_mistakes(config: ModelConfig, batch: int, true: Work) -> dict[str, float]:
    group = config.num_attention_heads // config.num_key_value_heads
    return {
        "Each row has a cache of its own.": true.cache_bytes / batch,
        "Half: a token leaves a key and a value, of 2 bytes a number.": true.cache_bytes / 2,
        "A quarter: a token leaves a key and a value, of 2 bytes a number.": true.cache_bytes / 4,
        f"Stored are key/value heads: {group} query heads share one.": true.cache_bytes * group,
        "That is one layer.": true.cache_bytes / config.num_hidden_layers,
    }


def _outweighs(config: ModelConfig, batch: int) -> float:
    """Tokens in each row."""
    return _step(config).weight_bytes / (2 * config.kv_elements_per_token * batch)


def _judge_outweighs(function: Any, name: str, config: ModelConfig, batch: int) -> Verdict | None:
    got, true = float(run(function, config, batch)), _outweighs(config, batch)
    if _near(got, true):
        return None
    mistakes = {
        "Each row has a cache of its own: all of them are read.": true * batch,
        "Twice as many: key and value, weights and cache both of 2 bytes a number.": true * 2,
        "Half as many: weights and cache both have 2 bytes a number.": true / 2,
        "Upside down: bytes of weights over bytes of a token.": 1 / true,
    }
    return wrong(
        f"outweighs({name}, batch={batch}): expected {true:,.0f} tokens, got {got:,.4g}.",
        _why(
            got, mistakes, "The bytes of the weights, over those that one token adds in all rows."
        ),
    )


@exercise(
    "03.3",
    hints=[
        "A pass takes the longer of two times: to multiply, and to read.",
        "The arithmetic is the same for both: m tokens. The weights are read once for both.",
        "m texts read m caches; m tokens of one text share one.",
    ],
)
def texts_or_tokens(answer: Any) -> Verdict:
    """A function -> (seconds of m texts with a token each, seconds of m tokens of one text).

    Its arguments: m, bytes of the weights, bytes of one text's cache, FLOPs of one token, FLOPs a
    second, bytes a second.
    """
    cases = [
        (16, 15e9, 1e9, 16e9, 989e12, 3.35e12),  # both wait for memory
        (64, 2e9, 1e9, 8e9, 1e14, 1e12),  # the texts do
        (512, 15e9, 1e7, 15e9, 312e12, 2e12),  # neither
    ]
    for case in cases:
        got = run(answer, *case)
        if not isinstance(got, tuple | list) or len(got) != 2:
            return wrong("Expected two times, of m texts and of m tokens.", "Is there a return?")
        pair = float(got[0]), float(got[1])
        true, mistakes = _times(*case)
        if not _same(pair, true):
            call = f"texts_and_tokens({', '.join(f'{value:g}' for value in case)})"
            expected, given = (f"({texts:.4g}, {tokens:.4g})" for texts, tokens in (true, pair))
            look = next(
                (why for why, mistake in mistakes.items() if _same(pair, mistake)),
                "The longer of two: the arithmetic of m tokens, and all that is read.",
            )
            return wrong(f"{call}: expected {expected} seconds, got {given}.", look)
    one, texts, tokens = (_on_an_h100(batch, new) for batch, new in ((1, 1), (16, 1), (1, 16)))
    return right(
        "The arithmetic is the same, the reading is not: texts bring their caches along.",
        "Llama-3-8B at 8,192 tokens on an H100: 16 tokens of one text take "
        f"{tokens / one:.2f} times as long as one, 16 texts {texts / one:.2f} times.",
    )


def _times(
    m: int, weights: float, cache: float, flops: float, peak: float, bandwidth: float
) -> tuple[tuple[float, float], dict[str, tuple[float, float]]]:
    """The times of m texts and of m tokens, and what typical mistakes make of them."""
    compute = m * flops / peak
    own, shared = (weights + m * cache) / bandwidth, (weights + cache) / bandwidth
    again = m * (weights + cache) / bandwidth  # the weights too
    texts, tokens = max(compute, own), max(compute, shared)
    return (texts, tokens), {
        "The two are swapped: texts come first.": (tokens, texts),
        "A processor multiplies while it reads: the longer of both counts, not the sum.": (
            compute + own,
            compute + shared,
        ),
        "The longer of both counts, not the shorter.": (min(compute, own), min(compute, shared)),
        "Each text has a cache of its own, and all m are read.": (tokens, tokens),
        "The tokens of one text share its cache: it is read once.": (texts, texts),
        "The weights are read once for all m.": (max(compute, again), tokens),
        "The weights are read once for all m, in both cases.": (
            max(compute, again),
            max(compute, (m * weights + cache) / bandwidth),
        ),
        "The arithmetic of all m tokens can take longer than reading.": (own, shared),
        "The weights have to be read as well.": (
            max(compute, m * cache / bandwidth),
            max(compute, cache / bandwidth),
        ),
    }


def _same(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return all(abs(a - b) <= 1e-6 * abs(b) for a, b in zip(one, other, strict=True))


def _on_an_h100(batch: int, new: int) -> float:
    step = work(LLAMA_3_8B, new=new, cached=8192, batch=batch, weight_bytes=2, cache_bytes=2)
    return seconds(step, _H100.flops, _H100.bandwidth)
