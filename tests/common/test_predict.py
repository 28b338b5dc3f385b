"""Predict, lock, reveal: the comparison, the widget's state, and that no notebook spoils."""

import json
import math
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from widgets.common.predict import control as predict_module
from widgets.common.predict import predict
from widgets.common.predict.question import Outcome, Question, with_unit
from widgets.common.predict.reveal import html
from widgets.common.predict.spoilers import spoilers

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
SPEED = Question("02.speed", "How many times faster?", 1, 100, "x")
BOUND = Question("02.why", "What limits it?", choices=("memory", "arithmetic"))


@pytest.fixture(autouse=True)
def _forget() -> None:
    predict_module._asked.clear()


@pytest.mark.parametrize(
    ("said", "truth", "sentence"),
    [
        (8.0, 2.1, "you said 8×, measured 2.1×: 3.8 times off"),
        (1.0, 250.0, "you said 1×, measured 250×: 250 times off"),
        (2.0, 2.04, "you said 2×, measured 2.0×: within 5 %"),
        (3.0, 0.0, "you said 3×, measured 0×: 3× off"),
        (None, 2.1342, "no prediction; measured 2.1×"),
    ],
)
def test_a_number_is_compared_by_its_factor(
    said: float | None, truth: float, sentence: str
) -> None:
    assert Outcome(SPEED, said, truth).sentence == sentence


def test_computed_truths_keep_three_digits() -> None:
    question = Question("02.bytes", "How many?", 1, 1e9, "B")
    assert (
        Outcome(question, 6e6, 4718592.0, "computed").sentence
        == "you said 6,000,000 B, computed 4,718,592 B: 1.3 times off"
    )


def test_a_choice_is_right_or_not() -> None:
    assert Outcome(BOUND, "memory", "memory").sentence.endswith(": right")
    assert "not what you said" in Outcome(BOUND, "arithmetic", "memory").sentence


@pytest.mark.parametrize("truth", [math.nan, math.inf, "memory"])
def test_a_truth_that_is_no_number_is_refused(truth: Any) -> None:
    with pytest.raises(ValueError, match=r"02\.speed: expected"):
        Outcome(SPEED, 8.0, truth)


@pytest.mark.parametrize(
    "wrong", [{"low": 2, "high": 1}, {"high": math.inf}, {"choices": ("a",)}, {"choices": "aa"}]
)
def test_a_question_without_a_scale_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"low must be below|two different choices"):
        predict("00.none", "?", **wrong)


@pytest.mark.parametrize(
    "question", [SPEED, Question("k", "?", 0, 10), Question("k", "?", 0.5, 3e6, "B")]
)
def test_the_slider_passes_rising_values_from_end_to_end(question: Question) -> None:
    stops = question.stops()
    assert stops == sorted(set(stops))
    assert (stops[0], stops[-1]) == (question.low, question.high)
    assert 20 < len(stops) < 1000
    assert [question.where(v) for v in (question.low, question.high)] == [0, 1]


@pytest.mark.parametrize(("value", "place"), [(0.2, 0), (1, 0), (2, 1), (100, 5), (1e4, 5)])
def test_every_answer_falls_into_a_bin(value: float, place: int) -> None:
    assert SPEED.bin_of(value) == place
    assert len(SPEED.bins()) == len(SPEED.edges()) - 1 == 6


def test_only_a_locked_prediction_counts() -> None:
    guess = predict("02.speed", "How many times faster?", low=1, high=100, unit="x")
    guess.said = 8.0
    assert guess.reveal(2.1).summary() == "no prediction; measured 2.1×"
    guess.locked = True
    assert guess.reveal(2.1).summary() == "you said 8×, measured 2.1×: 3.8 times off"
    assert guess.summary() == "How many times faster? (locked: 8×)"


def test_a_reveal_follows_a_later_lock_and_the_audience() -> None:
    guess = predict("02.why", BOUND.text, choices=BOUND.choices)
    card = guess.reveal("memory")
    guess.said, guess.locked = "arithmetic", True
    assert "arithmetic" in card.html
    guess.counts = [3, 1]
    assert card.summary().endswith("Audience: 3 of 4 said memory, where the answer lies.")


def test_a_question_asked_again_keeps_its_lock() -> None:
    first = predict("02.speed", "How many?", low=1, high=9)
    first.said, first.locked = 3.0, True
    assert predict("02.speed", "How many?", low=1, high=9).prediction == 3
    assert predict("02.speed", "How many now?", low=1, high=9).prediction is None


def test_an_answer_that_is_none_is_refused() -> None:
    guess = predict("02.why", BOUND.text, choices=BOUND.choices)
    with pytest.raises(ValueError, match="is not an answer"):
        guess.said = "luck"


def test_the_picture_of_a_reveal_names_the_hidden_answer() -> None:
    guess = predict("a.<b>", "?", low=1, high=9, unit="MB")
    assert "data-key" not in guess.picture()
    hidden = ElementTree.fromstring(guess.reveal(4.718592, tag="computed").picture()).attrib
    parts = {name: hidden["data-" + name] for name in ("key", "answer", "unit")}
    assert parts == {"key": "a.<b>", "answer": "4.72", "unit": "MB"}


@pytest.mark.parametrize("said", [None, 8.0])
def test_pictures_are_svg_and_hostile_texts_are_escaped(said: float | None) -> None:
    question = Question("k", "<script>&\"'", 1, 10, "<b>")
    outcome = Outcome(question, said, 3.0, counts=(1, 2, 0, 0, 0))
    assert "<script>" not in html(outcome)
    assert "<b>8" in html(outcome) or said is None
    guess = predict("k", "<script>&\"'", low=1, high=10, unit="<b>")
    guess.said, guess.locked, guess.counts = said, said is not None, [1, 2, 0, 0, 0]
    for drawn in (guess.picture(), guess.reveal(3).picture()):
        ElementTree.fromstring(drawn)
    assert with_unit(1, "<b>") == "1 <b>"


# the scanner


def _code(source: str, *outputs: dict[str, Any]) -> dict[str, Any]:
    return {"cell_type": "code", "source": source, "outputs": list(outputs)}


def _text(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "source": [text]}


def _plain(text: str, mime: str = "text/plain") -> dict[str, Any]:
    return {"output_type": "display_data", "data": {mime: text}, "metadata": {}}


def _reveal(answer: str, unit: str = "x", key: str = "02.speed") -> dict[str, Any]:
    svg = f'<svg data-key="{key}" data-answer="{answer}" data-unit="{unit}"></svg>'
    return _code("guess.reveal(v)", _drawing(svg))


def _drawing(svg: str) -> dict[str, Any]:
    data = b64encode(svg.encode()).decode()
    return _plain(f'<img alt="" src="data:image/svg+xml;base64,{data}">', "text/html")


def _notebook(*cells: dict[str, Any]) -> dict[str, Any]:
    return {"cells": list(cells)}


LOCK = _code('guess = predict("02.speed", "How many times faster?", low=1, high=2.1, unit="x")')


@pytest.mark.parametrize(
    "above",
    [
        [_text("It is 2.1 times faster.")],
        [_text("About 2x.")],
        [_text("a 2-fold gain")],
        [_text("2 fold")],
        [_code("# 2.13")],
        [_code("x", {"output_type": "stream", "text": ["speed\n", "2.134\n"]})],
        [_code("x", _plain("<td>2.13</td>", "text/html"))],
        [_code("x", _drawing('<svg><text x="1">2.13</text></svg>'))],
    ],
)
def test_a_number_above_its_lock_is_found(above: Sequence[dict[str, Any]]) -> None:
    found = spoilers(_notebook(*above, LOCK, _reveal("2.13")))
    assert len(found) == 1
    assert "above the lock" in found[0]


@pytest.mark.parametrize(
    "harmless",
    [
        _text("2 layers, 2.4x, 22.1, 2.1.3, v2.13, 21 %"),
        _code("x", _drawing('<svg width="2.13"></svg>')),
        _code("x", _plain("<style>a { width: 2.13px; }</style>", "text/html")),
        _code("predict_nothing(2)"),
    ],
)
def test_other_numbers_are_harmless(harmless: dict[str, Any]) -> None:
    assert spoilers(_notebook(harmless, LOCK, _reveal("2.13"), _text("So 2.1x."))) == []


@pytest.mark.parametrize("text", ["4.7 MB", "4,718,592", "4718592 bytes", "4.72 million", "4.7e6"])
def test_large_numbers_are_found_in_any_spelling(text: str) -> None:
    assert len(spoilers(_notebook(_text(text), LOCK, _reveal("4,718,592", "B")))) == 1


def test_the_question_may_not_tell_its_answer() -> None:
    lock = _code('guess = predict("02.speed", "Is it 2.1 times?", low=1, high=100)')
    assert len(spoilers(_notebook(lock, _reveal("2.1")))) == 1


def test_a_choice_is_looked_for_in_outputs_only() -> None:
    lock = _code('guess = predict("02.speed", "Why?", choices=["memory", "arithmetic"])')
    assert spoilers(_notebook(_text("memory"), lock, _reveal("memory"))) == []
    told = _code("x", _plain("It is Memory."))
    assert len(spoilers(_notebook(told, lock, _reveal("memory")))) == 1


def test_locks_and_reveals_come_in_pairs_and_in_order() -> None:
    assert "never revealed" in spoilers(_notebook(LOCK))[0]
    assert "never predicted" in spoilers(_notebook(_reveal("2")))[0]
    assert "not below" in spoilers(_notebook(_reveal("2"), LOCK))[0]


def test_an_answer_known_to_few_digits_is_found_in_more() -> None:
    assert len(spoilers(_notebook(_text("2.1342"), LOCK, _reveal("2.1")))) == 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_notebook_gives_an_answer_away(path: Path) -> None:
    assert spoilers(json.loads(path.read_text(encoding="utf-8"))) == []
