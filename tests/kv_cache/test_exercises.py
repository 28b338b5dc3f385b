"""The exercises of lesson 02: right answers, and what is said of typical mistakes."""

from collections.abc import Callable
from itertools import takewhile
from typing import Any

import pytest
import torch
from torch import Tensor

from minillm.kv_cache import kv_bytes
from minillm.transformer import Transformer
from widgets.common.exercises import (
    judge,
)
from widgets.kv_cache import exercises


def _common(old: list[int], new: list[int]) -> int:
    return len([*takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False))])


def _mended(old: list[int], new: list[int]) -> int:
    return min(_common(old, new), len(new) - 1)


def _reusable(old: list[int], new: list[int]) -> int:
    return sum(before == now for before, now in zip(old, new, strict=False))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (_reusable, "has seen another past"),
        (lambda old, new: min(_reusable(old, new), len(new) - 1), "has seen another past"),
        (lambda old, new: len({*old} & {*new}), "has seen another past"),
        (_common, "the last token of `new` has to go through in any case"),
        (lambda old, new: min(_common(old, new), len(old) - 1), "All of `old` may stay"),
        (lambda old, new: max(_mended(old, new) - 1, 0), "it may stay"),
        (lambda old, new: 0, "[5, 6, 1, 8, 9, 4]): 0 tokens stay, and 2 may stay."),
        (lambda old, new: len(old) + 1, "5 are cached"),
        (lambda old, new: new.clear(), "Is there a return?"),
    ],
)
def test_an_edited_text_mistaken(answer: Callable[..., Any], says: str) -> None:
    verdict = judge("02.1", answer)
    assert verdict.grade == "wrong"
    assert says in f"{verdict.says} {verdict.look}"


def test_an_edited_text() -> None:
    verdict = judge("02.1", _mended)
    assert verdict.grade == "right"
    assert "mere rounding" in verdict.says


@pytest.mark.parametrize(("old", "new"), exercises.EDITS)
def test_what_stays_is_the_most_that_leaves_the_logits_alone(
    old: list[int], new: list[int]
) -> None:
    stays = _mended(old, new)
    assert exercises._off(old, new, stays) < 1e-10
    for more in range(stays + 1, min(len(old), len(new) - 1) + 1):
        assert exercises._off(old, new, more) > 1e-3


def _ring(written: int, window: int) -> list[int]:
    slots = [-1] * window
    for position in range(written):
        slots[position % window] = position
    return slots


def _ring_by_formula(written: int, window: int) -> Tensor:
    slots = torch.arange(window)
    held = written - 1 - (written - 1 - slots) % window
    return held.where(held >= 0, -1)


@pytest.mark.parametrize(
    ("answer", "helps"),
    [
        (lambda n, w: list(range(max(0, n - w), n)), "in other slots"),
        (lambda n, w: [p if p < n else -1 for p in range(w)], "goes on at its first slot"),
        (lambda n, w: [max(p, 0) for p in _ring(n, w)], "A slot that holds nothing"),
        (lambda n, w: [None if p < 0 else p for p in _ring(n, w)], "A slot that holds nothing"),
        (lambda n, w: [p + 1 if p >= 0 else p for p in _ring(n, w)], "counted from 0"),
        (lambda n, w: [p for p in _ring(n, w) if p >= 0], "One number for each"),
        (lambda n, w: [n] * w, "one after the other"),
        (lambda n, w: n, "Is there a return?"),
    ],
)
def test_a_ring_mistaken(answer: Callable[[int, int], Any], helps: str) -> None:
    verdict = judge("02.2", answer)
    assert verdict.grade == "wrong"
    assert helps in verdict.look


@pytest.mark.parametrize("answer", [_ring, _ring_by_formula])
def test_a_ring(answer: Callable[[int, int], Any]) -> None:
    assert judge("02.2", answer).grade == "right"


def test_a_ring_says_what_was_expected() -> None:
    sorted_ones = judge("02.2", lambda n, w: list(range(max(0, n - w), n)))
    assert sorted_ones.says == "ring(written=5, window=3): expected [3, 4, 2], got [2, 3, 4]."


@pytest.mark.parametrize("answer", [107, 107.79, 132, torch.tensor(107)])
def test_chats_on_a_card(answer: float) -> None:
    assert judge("02.3", answer).grade == "right"
    assert judge("02.3", answer).says == "107 chats; 132 if the 24 are GiB."


@pytest.mark.parametrize(
    ("answer", "helps"),
    [
        (29, "in every chat"),
        (110, "but it is kept"),
        (331, "no room for the weights"),
        (24, "kv heads"),
        (52, "16 bits"),
        (218, "both a key and a value"),
        (108, "does not fit entirely"),
        (5000, "minus one beginning"),
        (-1, "minus one beginning"),
    ],
)
def test_chats_on_a_card_mistaken(answer: float, helps: str) -> None:
    verdict = judge("02.3", answer)
    assert verdict.grade == "wrong"
    assert helps in verdict.look


def test_the_parameters_of_llama_3_8b_are_those_of_its_shape() -> None:
    with torch.device("meta"):
        model = Transformer(exercises.LLAMA_3_8B)
    assert sum(p.numel() for p in model.parameters()) == exercises.PARAMETERS
    assert kv_bytes(exercises.LLAMA_3_8B, 1, torch.float16) == 131072
