"""The exercises of lesson 00: right answers, and what is said of typical mistakes."""

from typing import Any

import pytest
import torch
from torch import Tensor

import minillm
from widgets.common.exercises import judge
from widgets.transformer.exercises import looks_back


def band(q: Tensor, window: int) -> Tensor:
    """What is hidden."""
    return ~torch.ones(len(q), len(q), dtype=torch.bool).tril().triu(1 - window)


def head(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    return scores(q, k).masked_fill(band(q, window), -torch.inf).softmax(-1) @ v


def head_by_loop(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    rows = []
    for i in range(len(q)):
        near = slice(max(0, i + 1 - window), i + 1)
        rows.append(scores(q[i : i + 1], k[near]).softmax(-1) @ v[near])
    return torch.cat(rows)


def scores(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.T / q.shape[-1] ** 0.5


@pytest.mark.parametrize(
    ("answer", "grade", "told"),
    [
        (218_112_000, "right", "81% of it"),
        (218_112_000 - 2 * 4096, "wrong", "two norms"),
        (218_112_000 - 4096 * 14336, "wrong", "three matrices"),
        (218_112_000 + 2 * 4096 * 24 * 128, "wrong", "8 heads, not 32"),
        (3 * 4096 * 14336, "wrong", "the MLP alone"),
        (32 * 218_112_000, "wrong", "all 32 blocks"),
        (7, "wrong", "shape of each matrix"),
        ("many", "wrong", ""),
        (..., "open", ""),
    ],
)
def test_parameters_of_a_block(answer: Any, grade: str, told: str) -> None:
    verdict = judge("00.1", answer)
    assert verdict.grade == grade
    assert told in f"{verdict.says} {verdict.look}"


def masked(q: Tensor, k: Tensor, v: Tensor, hidden: Tensor) -> Tensor:
    return scores(q, k).masked_fill(hidden, -torch.inf).softmax(-1) @ v


def future(q: Tensor) -> Tensor:
    return torch.ones(len(q), len(q), dtype=torch.bool).triu(1)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda q, k, v, w: scores(q, k).softmax(-1) @ v, "no mask"),
        (lambda q, k, v, w: masked(q, k, v, future(q)), "no window"),
        (lambda q, k, v, w: masked(q, k, v, band(q, w) & band(q, w).T), "both sides"),
        (lambda q, k, v, w: masked(q, k, v, band(q, w) & ~future(q)), "future is not hidden"),
        (lambda q, k, v, w: head(q, k, v, w + 1), "One key too many"),
        (lambda q, k, v, w: head(q, k, v, w - 1), "One key too few"),
        (lambda q, k, v, w: head(q * q.shape[-1] ** 0.5, k, v, w), "not divided"),
        (lambda q, k, v, w: head(q / q.shape[-1] ** 0.5, k, v, w), "not by it"),
        (
            lambda q, k, v, w: scores(q, k).masked_fill(band(q, w), 0.0).softmax(-1) @ v,
            "minus infinity",
        ),
        (
            lambda q, k, v, w: scores(q, k).softmax(-1).masked_fill(band(q, w), 0.0) @ v,
            "before the softmax",
        ),
        (
            lambda q, k, v, w: scores(q, k).masked_fill(band(q, w), -torch.inf).softmax(0) @ v,
            "not each column",
        ),
        (lambda q, k, v, w: head(q, k, v, 0), "not finite"),
        (lambda q, k, v, w: scores(q, k), "expected shape"),
        (lambda q, k, v, w: [v], "Expected a tensor"),
        (lambda q, k, v, w: q @ k, "raised RuntimeError"),
        (lambda q, k, v, w: v.flip(0), "Compare one row"),
    ],
)
def test_wrong_attention_is_told_what_is_wrong(answer: Any, told: str) -> None:
    verdict = judge("00.2", answer)
    assert verdict.grade == "wrong"
    assert told in f"{verdict.says} {verdict.look}"


@pytest.mark.parametrize("answer", [head, head_by_loop])
def test_right_attention(answer: Any) -> None:
    assert judge("00.2", answer).grade == "right"


def test_the_head_that_looks_back() -> None:
    config = minillm.load("stories")[0].config
    layers, heads = config.num_hidden_layers, config.num_attention_heads
    pairs = [(layer, head) for layer in range(layers) for head in range(heads)]
    layer, head = best = max(pairs, key=lambda pair: looks_back(*pair))
    assert judge("00.3", best).grade == "right"
    assert judge("00.3", list(best)).grade == "right"
    other = (layer, (head + 1) % heads)
    assert "heads have more" in judge("00.3", other).says
    assert judge("00.3", (layers, 0)).says == f"There is no layer {layers} with head 0."
    assert "pair" in judge("00.3", 3).says
    assert judge("00.3", (..., ...)).grade == "open"
