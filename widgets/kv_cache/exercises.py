"""The checks of lesson 02: bytes a token, the mask over a cache, and where a card runs out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from minillm.config import ModelConfig
from minillm.kv_cache import kv_bytes
from widgets.common.exercises import Verdict, check, exercise, hint, right, run, wrong

__all__ = ["CARD", "LLAMA_3_8B", "PARAMETERS", "check", "hint"]

LLAMA_3_8B = ModelConfig(  # its published config.json
    vocab_size=128256,
    hidden_size=4096,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=128,
    intermediate_size=14336,
    max_position_embeddings=8192,
    hidden_act="silu",
    rope_theta=500_000.0,
    tie_word_embeddings=False,
)
PARAMETERS = 8_030_261_248
CARD = 24 * 10**9  # bytes of a card of 24 GB


@exercise(
    "02.1",
    hints=[
        "What does one token leave behind in one layer? A key and a value for each key/value head.",
        "Llama 3 8B shares each key and value among 4 query heads: only 8 heads are stored.",
        "2 x layers x kv heads x head dim is elements; each takes 2 bytes in 16 bits.",
    ],
)
def bytes_a_token(answer: Any) -> Verdict:
    """Bytes that one token adds to the cache of LLAMA_3_8B in 16 bits."""
    config = LLAMA_3_8B
    true = kv_bytes(config, 1, torch.float16)
    group = config.num_attention_heads // config.num_key_value_heads
    mistakes = {
        true * group: f"That stores every query head. {group} of them share one key and value.",
        true // 2: "Half: are both key and value in, and is each element counted as 2 bytes?",
        true // 4: "A quarter: count key and value, and 2 bytes for each element.",
        true * 2: "Double: either an element was counted as 4 bytes, or the query heads were "
        "counted and a factor 2 forgotten.",
        true * group * 2: "Eight times too much: bits instead of bytes, or 32 bits and every "
        "query head.",
        true // config.num_hidden_layers: "That is one layer. Every layer keeps its own.",
    }
    if answer == true:
        return right(
            f"{true:,} bytes, 2 x 32 x 8 x 128 x 2: kv_bytes says the same.",
            f"With a key and value for every query head it would be {true * group:,}.",
        )
    return wrong(
        f"Expected the bytes of one token over all layers, got {answer:,}.",
        mistakes.get(
            answer, "Multiply: key and value, layers, kv heads, head dim, bytes a number."
        ),
    )


@exercise(
    "02.2",
    hints=[
        "Rows are the new tokens, columns are all keys: first the cached, then the new.",
        "New token i stands at position cached + i, and sees every key up to that position.",
        "torch.ones(...).tril(diagonal=d) keeps column <= row + d: which d is needed?",
    ],
)
def causal_mask(answer: Any) -> Verdict:
    """A function (new, cached) -> bool (new, cached + new), True = visible."""
    for new, cached in ((2, 3), (3, 0), (1, 4), (4, 1)):
        got = run(answer, new, cached)
        if not isinstance(got, Tensor):
            return wrong(f"Expected a tensor, got {type(got).__name__}.", "Is there a return?")
        call, shape = f"causal_mask(new={new}, cached={cached})", (new, cached + new)
        if tuple(got.shape) != shape:
            return wrong(
                f"{call}: expected shape {shape}, got {tuple(got.shape)}.",
                "One row for each new token, one column for each key, cached ones first.",
            )
        if got.dtype != torch.bool:
            return wrong(f"{call}: expected booleans, got {got.dtype}.", "Use dtype=torch.bool.")
        true = torch.arange(cached + new) <= cached + torch.arange(new)[:, None]
        if not torch.equal(got.cpu(), true):
            row = int((got.cpu() != true).any(1).nonzero()[0])
            told = f"{call}, row {row}: expected {_keys(true[row])}, got {_keys(got[row].cpu())}."
            return wrong(told, _why_mask(got.cpu(), true, cached))
    return right(
        "Every new token sees all cached ones, the new ones before it, and itself.",
        "With one new token the mask is all True: that is why decoding needs none.",
    )


def _why_mask(got: Tensor, true: Tensor, cached: int) -> str:
    if torch.equal(got, ~true):
        return "It is upside down: True means visible here."
    if torch.equal(got, torch.ones_like(true).tril()):
        return (
            "The triangle starts at the top left, as if nothing were cached; it has to end at the "
            "lower right. This is a real bug of public code: the new tokens forget the text."
        )
    if torch.equal(got, torch.ones_like(true).tril(cached - 1)):
        return "A token also sees itself."
    if bool((got & ~true).any()):
        return "A token sees keys that come after it."
    return "A key that comes before the token is hidden."


def _keys(row: Tensor) -> str:
    seen = [str(i) for i, visible in enumerate(row.tolist()) if visible]
    return "keys " + ", ".join(seen) if seen else "no key at all"


@exercise(
    "02.3",
    hints=[
        "What is left of the card once the weights are loaded?",
        "The weights take 2 bytes a parameter in 16 bits.",
        "Divide what is left by the bytes that one token adds to the cache (exercise 02.1).",
    ],
)
def tokens_on_a_card(answer: Any) -> Verdict:
    """Tokens of LLAMA_3_8B, weights and cache in 16 bits, that fit into CARD bytes."""
    answer = float(answer)
    token = kv_bytes(LLAMA_3_8B, 1, torch.float16)
    true = (CARD - 2 * PARAMETERS) / token
    gibibytes = (24 * 2**30 - 2 * PARAMETERS) / token
    mistakes = {
        CARD / token: "That leaves no room for the weights: load them first.",
        true / 4: "The cache is too large by 4: kv heads are stored, not query heads.",
        true * 2: "Twice as many: the weights take 2 bytes a parameter, and a token leaves both a "
        "key and a value of 2 bytes a number.",
        true / 8: "That is what each row gets at batch 8; the question is about one text.",
        true / 2: "The cache is too large by 2: 16 bits are 2 bytes.",
    }
    if abs(answer / true - 1) < 0.01 or abs(answer / gibibytes - 1) < 0.01:
        return right(
            f"About {true:,.0f} tokens; {gibibytes:,.0f} if the 24 are counted in GiB.",
            f"That is one text, or {true / 8192:.1f} of 8,192 tokens each. Activations take their "
            "share as well, so a real engine stops earlier.",
        )
    if answer <= 0:
        return wrong(f"Expected a number of tokens, got {answer:,.0f}.", "Do the weights fit?")
    for mistake, why in mistakes.items():
        if abs(answer / mistake - 1) < 0.01:
            return wrong(f"{answer:,.0f} tokens is not it.", why)
    return wrong(
        f"{answer:,.0f} tokens is too {'many' if answer > true else 'few'}.",
        "What the card has, minus the weights, divided by the bytes of a token.",
    )
