"""The exercises of lesson 15: right answers, and what is said of typical mistakes."""

from collections.abc import Callable
from statistics import harmonic_mean
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from minillm.checkpoint import opened
from minillm.public_model import inside
from minillm.public_model.subject import subject
from widgets.common.exercises import judge
from widgets.public_model.exercises import FIRST, TOKENS, errors

Answer = Callable[..., Any]


def even(tokens: int, first: int) -> float:
    shares = [1 / (place + 1) for place in range(first, tokens)]
    return sum(shares) / len(shares)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda tokens, first: 1 / tokens, "the last query alone"),
        (lambda tokens, first: 2 / (tokens + first + 1), "not 1 over the mean"),
        (lambda tokens, first: even(tokens, 0), "left out"),
        (lambda tokens, first: even(tokens, first) * (tokens - first) / tokens, "queries that co"),
        (lambda tokens, first: 100 * even(tokens, first), "not in per cent"),
        (
            lambda tokens, first: (
                sum(1 / max(place, 1) for place in range(first, tokens)) / (tokens - first)
            ),
            "sees itself",
        ),
        (lambda tokens, first: 0.5, "even(tokens=4, first=2): expected 0.2917, got 0.5."),
        (lambda tokens, first: 0.5, "What does each query give"),
        (lambda tokens, first: [].clear(), "Is there a return?"),
    ],
)
def test_an_even_share_mistaken(answer: Answer, says: str) -> None:
    verdict = judge("15.1", answer)
    assert verdict.grade == "wrong"
    assert says in f"{verdict.says} {verdict.look}"


@pytest.mark.parametrize(
    "answer", [even, lambda tokens, first: 1 / harmonic_mean(range(first + 1, tokens + 1))]
)
def test_an_even_share(answer: Answer) -> None:
    verdict = judge("15.1", answer)
    assert verdict.grade == "right"
    assert "gets 1.83 %. It gets 1.48 times that in stories, 18.5 times" in verdict.says


def test_an_even_share_is_what_sinks_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    ones = torch.ones(TOKENS, TOKENS, dtype=torch.float64).tril()
    weights = (ones / ones.sum(-1, keepdim=True)).expand(2, 1, 3, TOKENS, TOKENS)
    monkeypatch.setattr(inside, "observe", lambda model, texts: SimpleNamespace(weights=weights))
    checkpoint = opened("stories-draft")
    model = checkpoint.model()
    shares = inside.sinks(subject(checkpoint, model, model))
    assert shares == pytest.approx(dict.fromkeys((1, 2), even(TOKENS, FIRST)))


def choose(predicted: float, measured: float) -> tuple[float, float]:
    far = min(predicted, measured) - 9 * abs(predicted - measured)
    return far, (predicted + measured) / 2


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda p, m: choose(p, m)[::-1], "The other way round"),
        (lambda p, m: (128, 20), "same for every pair"),
        (lambda p, m: (min(p, m) - abs(p - m), (p + m) / 2), "go further away"),
        (lambda p, m: ((p + m) / 2, (p + m) / 2), "on the same side"),
        (lambda p, m: (choose(p, m)[0], min(p, m) - 1), "different signs"),
        (lambda p, m: (p + 9 * (p - m), (p + m) / 2), "right"),
        (lambda p, m: (choose(p, m)[0], p), "right"),
        (lambda p, m: 1.0, "Expected two values"),
    ],
)
def test_what_counts_as_no_effect_tried(answer: Answer, says: str) -> None:
    verdict = judge("15.2", answer)
    assert says in f"{verdict.grade} {verdict.says} {verdict.look}"
    assert (verdict.grade == "right") == (says == "right")


def test_what_counts_as_no_effect() -> None:
    verdict = judge("15.2", choose)
    assert verdict.grade == "right"
    assert "save 98 and 113 of them, and the verdict is “holds”" in verdict.look


NOISE = torch.randn(32, 32, generator=torch.Generator().manual_seed(0))
SPIKES = NOISE + 100 * torch.eye(32)


def _channel(times: float = 1, more: float = 0) -> torch.Tensor:
    x = NOISE.clone()
    x[:, 3] = times * x[:, 3] + more
    return x


@pytest.mark.parametrize(
    ("answer", "grade", "says"),
    [
        (..., "open", ""),
        ((_channel(more=30), SPIKES), "right", "decides nothing"),
        ((_channel(more=-30).tolist(), SPIKES.tolist()), "right", ""),
        ((_channel(more=30), _channel(times=50)), "right", ""),
        ((NOISE, SPIKES), "wrong", "nothing spoils a scale"),
        ((SPIKES, SPIKES), "wrong", "scales of few tokens"),
        ((_channel(times=100), SPIKES), "wrong", "hard to round by itself"),
        ((_channel(more=30).T, SPIKES), "wrong", "Turned"),
        ((_channel(more=30), NOISE), "wrong", "Make one larger"),
        ((_channel(more=30), _channel(more=300)), "wrong", "as many tokens as channels"),
        ((NOISE[:5], SPIKES), "wrong", "expected (32, 32) numbers, got (5, 32)"),
        ((NOISE / 0, SPIKES), "wrong", "finite"),
        ((0 * NOISE, SPIKES), "wrong", "not all of them 0"),
        ((NOISE,), "wrong", "two matrices"),
    ],
)
def test_outliers(answer: Any, grade: str, says: str) -> None:
    verdict = judge("15.3", answer)
    assert verdict.grade == grade
    assert says in f"{verdict.says} {verdict.look}"


def test_errors_are_along_a_token_and_along_a_channel() -> None:
    token, channel = errors(_channel(more=30))
    assert token > 5 * channel
    assert errors(_channel(more=30).T) == (channel, token)
