"""The checks of lesson 02: bytes a token, a ring of slots, and where a card runs out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from minillm.data.public_models import LLAMA_3_8B
from minillm.kv_cache import kv_bytes
from widgets.common.exercises import Verdict, check, exercise, hint, right, run, wrong

__all__ = ["CARD", "LLAMA_3_8B", "PARAMETERS", "check", "hint"]

PARAMETERS = 8_030_261_248
CARD = 24 * 10**9  # bytes of a card of 24 GB


@exercise(
    "02.1",
    hints=[
        "What does one token store in one layer? A key and a value for each key/value head.",
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
        "Write it down for 3 slots: after 5 tokens, position 3 has replaced 0, and 4 has 1.",
        "Start with -1 in each slot, and write the positions 0, 1, ... one after the other.",
        "Only the last `window` positions can survive, each in slot position % window.",
    ],
)
def ring(answer: Any) -> Verdict:
    """A function (written, window) -> the position that each slot of a ring holds, -1: none."""
    for written, window in ((5, 3), (2, 4), (3, 3), (0, 2), (10, 4)):
        got = run(answer, written, window)
        if isinstance(got, Tensor):
            got = got.tolist()
        call = f"ring(written={written}, window={window})"
        if not isinstance(got, list | tuple):
            return wrong(f"Expected a list, got {type(got).__name__}.", "Is there a return?")
        true = _ring(written, window)
        if list(got) != true:
            look = _why_ring(list(got), true, written, window)
            return wrong(f"{call}: expected {true}, got {list(got)}.", look)
    return right(
        "The last tokens survive, each in its own slot.",
        "A window of 128 keeps 128 slots, however long the text: its cache stops growing.",
    )


def _ring(written: int, window: int) -> list[int]:
    last = range(max(0, written - window), written)
    slots = [-1] * window
    for position in last:
        slots[position % window] = position
    return slots


def _why_ring(got: list[Any], true: list[int], written: int, window: int) -> str:
    if len(got) != window:
        return f"One number for each of the {window} slots, -1 where nothing was written."
    if got == [p if p < written else -1 for p in range(window)]:
        return "A full ring goes on at its first slot: newer tokens replace the oldest."
    if got == [None if p == -1 else p for p in true] or got == [0 if p == -1 else p for p in true]:
        return "A slot that holds nothing is -1: 0 is the position of the first token."
    if got == [p + 1 if p >= 0 else p for p in true]:
        return "Positions are counted from 0."
    if sorted(map(str, got)) == sorted(map(str, true)):
        return "The right tokens, in other slots: position p lies in slot p % window."
    return "Write the positions one after the other, each into slot p % window."


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
