"""The exercises of lesson 02: right answers, and what is said of typical mistakes."""

from collections.abc import Callable
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


@pytest.mark.parametrize(
    ("answer", "helps"),
    [
        (524288, "share one key and value"),
        (65536, "both key and value"),
        (262144, "4 bytes"),
        (32768, "A quarter"),
        (4096, "one layer"),
        (1048576, "32 bits and every query head"),
        (1, "Multiply"),
    ],
)
def test_bytes_a_token(answer: int, helps: str) -> None:
    assert judge("02.1", 131072).grade == "right"
    verdict = judge("02.1", answer)
    assert verdict.grade == "wrong"
    assert helps in verdict.look


def _mask(new: int, cached: int) -> Tensor:
    return torch.ones(new, cached + new, dtype=torch.bool).tril(cached)


@pytest.mark.parametrize(
    ("answer", "helps"),
    [
        (lambda n, c: torch.ones(n, c + n, dtype=torch.bool).tril(), "top left"),
        (lambda n, c: ~_mask(n, c), "upside down"),
        (lambda n, c: torch.ones(n, c + n, dtype=torch.bool), "come after it"),
        (lambda n, c: torch.ones(n, c + n, dtype=torch.bool).tril(c - 1), "sees itself"),
        (lambda n, c: torch.ones(n, n, dtype=torch.bool).tril(), "One row for each new token"),
        (lambda n, c: _mask(n, c).float(), "dtype=torch.bool"),
        (lambda n, c: _mask(n, c).tolist(), "Is there a return?"),
        (lambda n, c: torch.ones(n, c + n, dtype=torch.bool).tril(c + 1), "come after it"),
        (lambda n, c: torch.ones(n, c + n, dtype=torch.bool).tril(c - 2), "comes before"),
    ],
)
def test_a_mask_mistaken(answer: Callable[[int, int], Any], helps: str) -> None:
    verdict = judge("02.2", answer)
    assert verdict.grade == "wrong"
    assert helps in verdict.look


def test_a_mask() -> None:
    assert judge("02.2", _mask).grade == "right"
    top_left = judge("02.2", lambda n, c: torch.ones(n, c + n, dtype=torch.bool).tril())
    assert top_left.says == (
        "causal_mask(new=2, cached=3), row 0: expected keys 0, 1, 2, 3, got keys 0."
    )


@pytest.mark.parametrize(
    ("answer", "grade"), [(60570, "right"), (60_000, "right"), (74_073, "right"), (8192, "wrong")]
)
def test_tokens_on_a_card(answer: float, grade: str) -> None:
    assert judge("02.3", answer).grade == grade


@pytest.mark.parametrize(
    ("answer", "helps"),
    [
        (183_105, "no room for the weights"),
        (121_838, "2 bytes a parameter"),
        (15_142, "kv heads"),
        (121_141, "bytes"),
        (30_285, "16 bits"),
        (200_000, "minus the weights"),
        (-1, "Do the weights fit?"),
    ],
)
def test_tokens_on_a_card_mistaken(answer: float, helps: str) -> None:
    verdict = judge("02.3", answer)
    assert verdict.grade == "wrong"
    assert helps in verdict.look


def test_the_parameters_of_llama_3_8b_are_those_of_its_shape() -> None:
    with torch.device("meta"):
        model = Transformer(exercises.LLAMA_3_8B)
    assert sum(p.numel() for p in model.parameters()) == exercises.PARAMETERS
    assert kv_bytes(exercises.LLAMA_3_8B, 1, torch.float16) == 131072
