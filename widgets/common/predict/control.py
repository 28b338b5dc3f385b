"""Predict, lock, reveal: the reader commits to an answer before the notebook measures it.

    guess = predict("02.speed", "How many times faster?", low=1, high=100, unit="x")   # one cell
    guess.reveal(plain_seconds / cached_seconds)                                       # a later one

The first cell shows the question, the second what was said beside what is. Unlocked predictions
reveal as "no prediction", so Run All works; a prediction locked afterwards, or votes of an audience
counted afterwards, still reach the reveal. The static picture of a reveal names
the question and its answer, where `spoilers` finds them in the committed notebook.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from widgets.common.card import Card
from widgets.common.drawing.svg import Pictured
from widgets.common.predict.question import Answer, Outcome, Question, with_unit
from widgets.common.predict.reveal import html, picture, question_picture, summary
from widgets.common.strings import say, section
from widgets.common.theme import css

__all__ = ["Predict", "predict"]

_HERE = Path(__file__).parent
_asked: dict[str, Predict] = {}


def predict(
    key: str,
    text: str,
    *,
    low: float = 0.0,
    high: float = 0.0,
    unit: str = "",
    choices: Sequence[str] = (),
) -> Predict:
    """Ask for a number from `low` to `high`, or for one of `choices`.

    Asked again in the same kernel, the question still has its locked answer: a reader may lock and
    then run all cells.

    Args:
        key: lesson and name, such as "02.speed"; unique in the course.
        text: the question, in words.
        unit: of the number; "x" for a factor.

    Raises:
        ValueError: neither low < high nor two different choices.
    """
    question = Question(key, text, low, high, unit, tuple(choices))
    if key not in _asked or _asked[key].question != question:
        _asked[key] = Predict(question)
    return _asked[key]


class Predict(Pictured, anywidget.AnyWidget):
    """The control of one question. `said` is None until the reader has chosen something."""

    _esm = (_HERE / "predict.js").read_text(encoding="utf-8")
    _css = css() + (_HERE.parent / "card.css").read_text(encoding="utf-8")

    ask = traitlets.Dict().tag(sync=True)
    said = traitlets.Any(None, allow_none=True).tag(sync=True)
    locked = traitlets.Bool(False).tag(sync=True)
    counts = traitlets.List(traitlets.Int(min=0)).tag(sync=True)

    def __init__(self, question: Question) -> None:
        self.question = question
        bins = question.bins()
        super().__init__(
            ask={
                "text": question.text,
                "unit": with_unit(1, question.unit).removeprefix("1"),
                "low": question.low,
                "high": question.high,
                "stops": question.stops(),
                "choices": list(question.choices),
                "bins": bins,
                "words": section("predict"),
            },
            counts=[0] * len(bins),
        )

    @traitlets.validate("said")
    def _is_answer(self, proposal: Any) -> Answer | None:
        said = proposal["value"]
        if said is not None and not self.question.allows(said):
            raise ValueError(f"{self.question.key}: {said!r} is not an answer")
        return said

    @property
    def prediction(self) -> Answer | None:
        """What was locked in; None as long as nothing was."""
        return self.said if self.locked else None

    def outcome(self, truth: Answer, tag: str = "measured") -> Outcome:
        """The prediction, as it stands now, beside the truth."""
        truth = truth if isinstance(truth, str) else float(truth)
        return Outcome(self.question, self.prediction, truth, tag, tuple(self.counts))

    def reveal(self, truth: Answer, *, tag: str = "measured") -> Card:
        """What was said beside what is, and the spread of the audience.

        Args:
            truth: a number, or one of the choices.
            tag: where it comes from: "measured", "computed" or "cited".

        Raises:
            ValueError: no finite number, or none of the choices.
        """
        outcome = self.outcome(truth, tag)
        card = Card(html(outcome), picture=picture(outcome), summary=summary(outcome))

        def update(_change: Any) -> None:
            now = self.outcome(truth, tag)
            card.show(html(now), picture=picture(now), summary=summary(now))

        self.observe(update, names=["said", "locked", "counts"])
        return card

    def picture(self) -> str:
        return question_picture(self.question, self.prediction)

    def summary(self) -> str:
        state = (
            say("predict.open")
            if self.prediction is None
            else say("predict.said", said=with_unit(self.prediction, self.question.unit))
        )
        return f"{self.question.text} {state}"
