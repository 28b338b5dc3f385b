"""The checks of lesson 02: what an edit leaves of a cache, a ring, and where a card runs out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor

from minillm.checkpoint import load
from minillm.data.public_models import LLAMA_3_8B
from minillm.kv_cache import KVCache, kv_bytes
from minillm.transformer import Transformer
from widgets.common.exercises import Verdict, check, exercise, hint, right, run, wrong

__all__ = ["CARD", "LLAMA_3_8B", "PARAMETERS", "check", "hint"]

PARAMETERS = 8_030_261_248
CARD = 24 * 10**9  # bytes of a card of 24 GB
CHAT, SHARED = 2048, 1500  # 02.3: tokens of a chat, and of the beginning that all share
EDITS = (  # 02.1: the text in the cache, and the text that is wanted
    ([5, 6, 7, 8, 9], [5, 6, 1, 8, 9, 4]),  # a token replaced
    ([5, 6, 7, 8], [5, 1, 6, 7, 8]),  # one put in
    ([5, 6, 7], [5, 6, 7]),  # nothing changed
    ([5, 6], [5, 6, 7, 8]),  # gone on
    ([5, 6, 7, 8], [5, 6]),  # cut
    ([5, 6, 7], [1, 6, 7]),  # another beginning
    ([5], [5]),
)


@exercise(
    "02.1",
    hints=[
        "Take an edit in the middle: which of the cached tokens have seen the same past as in "
        "`new`?",
        "Take a text that was not edited at all: what goes through the layers then?",
        "Count the common beginning, up to the first difference, and leave the last token of "
        "`new` to go through.",
    ],
)
def mended(answer: Any) -> Verdict:
    """A function (old, new) -> how many cached tokens of `old` may stay to continue `new`."""
    for old, new in EDITS:
        got = run(answer, list(old), list(new))
        if got is None:
            return wrong("Expected a number of tokens, got nothing.", "Is there a return?")
        stays, true = int(got), _stays(old, new)
        if stays != true:
            told = f"mended({old}, {new}): {stays} tokens stay, and {_then(old, new, stays)}."
            return wrong(told, _why_mended(old, new, stays))
    old, new = EDITS[0]
    error = _off(old, new, _stays(old, new))
    return right(
        f"What stays is right: the next token's logits are off by {error:.0e}, mere rounding.",
        "Engines do so with each turn of a chat. So what changes often, such as the date, belongs "
        "late in a prompt.",
    )


def _stays(old: Sequence[int], new: Sequence[int]) -> int:
    alike = takewhile(lambda pair: pair[0] == pair[1], zip(old, new[:-1], strict=False))
    return sum(1 for _ in alike)


def _then(old: Sequence[int], new: Sequence[int], stays: int) -> str:
    """What comes of it."""
    if not 0 <= stays <= len(old):
        return f"{len(old)} are cached"
    if stays >= len(new):
        return "nothing is left to go through the layers"
    if stays > _stays(old, new):
        return f"the next token's logits are off by {_off(old, new, stays):.2g}"
    return f"{_stays(old, new)} may stay"


def _why_mended(old: Sequence[int], new: Sequence[int], stays: int) -> str:
    true = _stays(old, new)
    if stays >= len(new):
        return "Logits come out of a pass: the last token of `new` has to go through in any case."
    if stays > true:
        return (
            "Behind the first difference a token may be the same, but it has seen another past. "
            "So its keys and values are others."
        )
    if len(old) == true > stays:
        return "All of `old` may stay: the last token of `new` is not among it."
    return "A token before the first difference has seen the same past: it may stay."


@torch.inference_mode()
def _off(old: Sequence[int], new: Sequence[int], stays: int) -> float:
    """The largest error of the logits after `new`, if so many cached tokens of `old` stay."""
    model = _model()
    cache = KVCache(model.config, 1, len(old) + len(new), dtype=torch.float64)
    model(torch.tensor([old]), cache)
    cache.truncate([stays])
    reused = model(torch.tensor([new[stays:]]), cache)[0, -1]
    return (reused - model(torch.tensor([new]))[0, -1]).abs().max().item()


@cache
def _model() -> Transformer:
    return load("stories-draft", dtype=torch.float64)[0]


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
        "What is left of the card once the weights are loaded, at 2 bytes a parameter?",
        "Divide what is left by the bytes of a token: 2 x layers x kv heads x head dim numbers.",
        "Of these tokens the beginning takes 1,500, once. How many does each chat add?",
    ],
)
def chats_on_a_card(answer: Any) -> Verdict:
    """Chats of LLAMA_3_8B with one beginning that fit into CARD bytes, all in 16 bits."""
    answer, token = float(answer), kv_bytes(LLAMA_3_8B, 1, torch.float16)
    left = (CARD - 2 * PARAMETERS) / token
    gibibytes = (24 * 2**30 - 2 * PARAMETERS) / token
    mistakes = {
        left / CHAT: "That keeps the beginning in every chat: its keys and values are the same.",
        left / (CHAT - SHARED): "The beginning is kept once, but it is kept.",
        _chats(CARD / token): "That leaves no room for the weights: load them first.",
        _chats(left / 4): "The cache is too large by 4: kv heads are stored, not query heads.",
        _chats(left / 2): "The cache is too large by 2: 16 bits are 2 bytes.",
        _chats(left * 2): "A token leaves both a key and a value, of 2 bytes a number.",
        _chats(left) + 1: "The last one does not fit entirely.",
    }
    if int(answer) in (int(_chats(left)), int(_chats(gibibytes))):
        return right(
            f"{int(_chats(left))} chats; {int(_chats(gibibytes))} if the 24 are GiB.",
            f"Without sharing it would be {int(left / CHAT)}. Activations take their share as "
            "well, so a real engine stops earlier. Lesson 14 shows how blocks are shared.",
        )
    for mistake, why in mistakes.items():
        if int(answer) == int(mistake):
            return wrong(f"{int(answer):,} chats is not it.", why)
    return wrong(
        f"{answer:,.0f} chats is too {'many' if answer > _chats(left) else 'few'}.",
        "What the card has, minus the weights, minus one beginning; over what each chat adds.",
    )


def _chats(tokens: float) -> float:
    """How many fit into so many tokens of cache."""
    return (tokens - SHARED) / (CHAT - SHARED)
