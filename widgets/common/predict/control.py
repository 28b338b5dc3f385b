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

import traitlets

from widgets.common.card import Card
from widgets.common.predict.hall import Hall, qr_picture
from widgets.common.predict.poll import Poll
from widgets.common.predict.question import Answer, Outcome, Question, with_unit
from widgets.common.predict.reveal import html, picture, question_picture, summary
from widgets.common.program import Program, program
from widgets.common.still import Pictured
from widgets.common.strings import say, section
from widgets.common.theme import css

__all__ = ["Predict", "Reveal", "predict"]

_HERE = Path(__file__).parent
_asked: dict[str, Predict] = {}
_halls: dict[str | None, Hall] = {}  # one for a host


def _hall(host: str | None) -> Hall:
    """The server of this kernel, started when it is first asked for."""
    if host not in _halls:
        _halls[host] = Hall(host)
    return _halls[host]


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


class Predict(Pictured, Program):
    """The control of one question. `said` is None until the reader has chosen something."""

    _esm = program(_HERE / "predict.js")
    _css = css() + (_HERE.parent / "card.css").read_text(encoding="utf-8")

    ask = traitlets.Dict().tag(sync=True)
    said = traitlets.Any(None, allow_none=True).tag(sync=True)
    locked = traitlets.Bool(False).tag(sync=True)
    counts = traitlets.List(traitlets.Int(min=0)).tag(sync=True)
    asking = traitlets.Bool(False).tag(sync=True)  # the hall, by the button of the card
    hall = traitlets.Dict().tag(sync=True)  # the address and its QR code, once the hall was asked

    def __init__(self, question: Question) -> None:
        self.question = question
        self._poll: Poll | None = None
        self._host: str | None = None
        bins = question.bins()
        super().__init__(
            ask={
                "text": question.text,
                "one": with_unit(1, question.unit).removeprefix("1"),
                "unit": with_unit(2, question.unit).removeprefix("2"),
                "low": question.low,
                "high": question.high,
                "log": not question.choices and question.log,
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

    def ask_hall(self, host: str | None = None) -> str:
        """Ask this question on a page for phones, and count their votes in the card.

        The page replaces that of the question before. The card's button does the same, and closes
        the vote.

        Args:
            host: this machine's address that phones reach; by default that of its route outward.

        Returns:
            The page's address.

        Raises:
            OSError: this machine has no such address.
        """
        self._host, self.asking = host, False
        self.asking = True
        return str(self.hall["address"])

    @traitlets.observe("asking")
    def _open_or_close(self, _change: Any) -> None:
        if self._poll is not None:
            self._poll.open = False
        if self.asking:
            for other in _asked.values():
                other.asking = other is self  # the page has one question
            hall = _hall(self._host)
            self._poll = hall.ask(self.question, self._count)
            self.hall = {"address": hall.address, "code": qr_picture(hall.address)}
            self.counts = self._poll.counts

    def _count(self, counts: list[int]) -> None:
        self.counts = counts

    @property
    def prediction(self) -> Answer | None:
        """What was locked in; None as long as nothing was."""
        return self.said if self.locked else None

    def reveal(self, truth: Answer, *, tag: str = "measured") -> Reveal:
        """What was said beside what is, and the spread of the audience.

        Args:
            truth: a number, or one of the choices.
            tag: where it comes from: "measured", "computed", "recorded" or "cited".

        Raises:
            ValueError: no finite number, or none of the choices.
        """
        return Reveal(self, truth, tag)

    def picture(self) -> str:
        return question_picture(self.question, self.prediction)

    def summary(self) -> str:
        state = (
            say("predict.open")
            if self.prediction is None
            else say("predict.said", said=with_unit(self.prediction, self.question.unit))
        )
        return f"{self.question.text} {state}"


class Reveal(Card):
    """The truth beside what is locked in, and what an audience said; it follows both."""

    def __init__(self, asked: Predict, truth: Answer, tag: str) -> None:
        self.question = asked.question
        self._asked, self._tag = asked, tag
        self._truth = truth if isinstance(truth, str) else float(truth)
        now = self._outcome(asked.prediction)
        super().__init__(html(now), picture=picture(now), summary=summary(now))
        asked.observe(self._follow, names=["said", "locked", "counts"])

    def reply(self, said: Answer) -> tuple[str, str]:
        """What it would say to this prediction, as HTML and as text."""
        outcome = self._outcome(said)
        return html(outcome), summary(outcome)

    def _outcome(self, said: Answer | None) -> Outcome:
        return Outcome(self.question, said, self._truth, self._tag, tuple(self._asked.counts))

    def _follow(self, _change: Any) -> None:
        now = self._outcome(self._asked.prediction)
        self.show(html(now), picture=picture(now), summary=summary(now))
