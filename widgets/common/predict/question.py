"""A question to predict: its scale or choices, and how a guess compares with the truth.

Pure data and functions; `predict` shows them. A number lies on a scale from `low` to `high`, which
is logarithmic when it spans a factor of 20 or more, since then factors are what one errs by.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from re import sub

from widgets.common import stable
from widgets.common.strings import say

__all__ = ["Answer", "Outcome", "Question", "number", "with_unit"]

Answer = float | str


def number(value: float, digits: int = 3) -> str:
    """A number as the course writes it: whole ones in full, others to a few digits.

    >>> number(4718592), number(2.1342), number(2.1342, digits=2), number(153.7, digits=2)
    ('4,718,592', '2.13', '2.1', '154')
    """
    if value == round(value):
        return f"{value:,.0f}"
    return stable.digits(value, 3 if abs(value) >= 100 else digits)


def with_unit(value: Answer, unit: str, digits: int = 3) -> str:
    """A number with its unit, a choice as it is; "x" is the sign of "times", "tokens" a plural.

    >>> with_unit(8, "x"), with_unit(4.72, "MB"), with_unit("memory", "")
    ('8×', '4.72 MB', 'memory')
    >>> with_unit(1, "tokens a pass"), with_unit(3.5, "tokens a pass")
    ('1 token a pass', '3.50 tokens a pass')
    """
    if isinstance(value, str):
        return value
    shown = number(value, digits)
    if shown == "1":
        unit = sub("^tokens", "token", unit)
    return f"{shown}×" if unit in ("x", "×") else f"{shown} {unit}".strip()


@dataclass(frozen=True)
class Question:
    """What is asked under `key`: a number from `low` to `high`, or one of `choices`."""

    key: str
    text: str
    low: float = 0.0
    high: float = 0.0
    unit: str = ""
    choices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.choices:
            if len(set(self.choices)) < 2 or len(set(self.choices)) < len(self.choices):
                raise ValueError(f"two different choices or more are needed, got {self.choices}")
        elif not -math.inf < self.low < self.high < math.inf:
            raise ValueError(f"low must be below high, got {self.low} and {self.high}")

    @property
    def log(self) -> bool:
        return self.low > 0 and self.high >= 20 * self.low

    def allows(self, answer: Answer) -> bool:
        """Whether this can be an answer: a choice, or any finite number, on the scale or not."""
        if self.choices:
            return answer in self.choices
        return not isinstance(answer, str) and math.isfinite(answer)

    def where(self, value: float) -> float:
        """Where a number lies on the scale, from 0 to 1."""
        value = min(max(value, self.low), self.high)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def stops(self) -> list[float]:
        """The values that the slider passes: 100 equal steps, or two digits of each decade.

        >>> Question("k", "?", 1, 100).stops()[:3], len(Question("k", "?", 1, 100).stops())
        ([1, 1.1, 1.2], 181)
        """
        if self.choices:
            return []
        if not self.log:
            span = self.high - self.low
            step = 1 if float(span).is_integer() and 20 <= span <= 200 else span / 100
            return [round(self.low + i * step, 10) for i in range(round(span / step) + 1)]
        exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)))
        fine = [float(f"{m}e{e - 1}") for e in exponents for m in range(10, 100)]
        return [self.low, *(v for v in fine if self.low < v < self.high), self.high]

    def edges(self) -> list[float]:
        """Where the bins of a poll begin and end: 1, 2, 5, 10, ..., or five equal ones."""
        if self.choices:
            return []
        if not self.log:
            return [self.low + i * (self.high - self.low) / 5 for i in range(6)]
        exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        steps = (1,) if len(exponents) > 4 else (1, 2, 5)
        round_ones = [float(f"{m}e{e}") for e in exponents for m in steps]
        return [self.low, *(v for v in round_ones if self.low < v < self.high), self.high]

    def bins(self) -> list[str]:
        """What the bins of a poll are called: the choices, or "2 to 5×"."""
        edges = self.edges()
        return list(self.choices) or [
            f"{number(a)} to {with_unit(b, self.unit)}" for a, b in pairwise(edges)
        ]

    def bin_of(self, answer: Answer) -> int:
        """The bin that an answer falls into; beyond the scale, the outermost."""
        if isinstance(answer, str):
            return self.choices.index(answer)
        return min(max(bisect_right(self.edges(), answer) - 1, 0), len(self.bins()) - 1)


@dataclass(frozen=True)
class Outcome:
    """A prediction (None: there was none) beside the truth, and how the audience voted."""

    question: Question
    said: Answer | None
    truth: Answer
    tag: str = "measured"
    counts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.question.allows(self.truth):
            expected = self.question.choices or "a finite number"
            raise ValueError(f"{self.question.key}: expected {expected}, got {self.truth!r}")

    @property
    def said_text(self) -> str:
        return say("reveal.none") if self.said is None else self._write(self.said, 3)

    @property
    def truth_text(self) -> str:
        return self._write(self.truth, self._digits)

    @property
    def truth_bare(self) -> str:
        """The truth without its unit."""
        return with_unit(self.truth, "", self._digits)

    @property
    def _digits(self) -> int:
        return 2 if self.tag == "measured" else 3

    def _write(self, value: Answer, digits: int) -> str:
        return with_unit(value, self.question.unit, digits)

    @property
    def right(self) -> bool:
        """The right choice, or a number within 5 %."""
        if isinstance(self.said, str) or isinstance(self.truth, str) or self.said is None:
            return self.said == self.truth
        return math.isclose(self.said, self.truth, rel_tol=0.05)

    @property
    def error(self) -> tuple[str, str]:
        """How far off the prediction was: a number and what it counts; two empty texts if none.

        >>> Outcome(Question("k", "?", 1, 100, "x"), said=8.0, truth=2.1).error
        ('3.8', 'times off')
        """
        said, truth = self.said, self.truth
        if said is None:
            return "", ""
        if isinstance(said, str) or isinstance(truth, str):
            return "", say("reveal.right" if self.right else "reveal.other")
        if min(said, truth) <= 0 and not self.right:
            return self._write(abs(said - truth), 3), say("reveal.off")
        if self.right:
            return "", say("reveal.spot")
        return number(max(said / truth, truth / said), digits=2), say("reveal.times")

    @property
    def sentence(self) -> str:
        """Such as: you said 8×, measured 2.1×: 3.8 times off."""
        tag = say(f"tag.{self.tag}")
        if self.said is None:
            return say("reveal.unsaid", tag=tag, truth=self.truth_text)
        error = " ".join(filter(None, self.error))
        return say("reveal.said", said=self.said_text, tag=tag, truth=self.truth_text, error=error)

    @property
    def poll(self) -> str:
        """How many of the audience were right; empty where nobody voted."""
        if not any(self.counts):
            return ""
        here = self.question.bin_of(self.truth)
        votes, total = self.counts[here], sum(self.counts)
        return say("reveal.poll", votes=votes, total=total, bin=self.question.bins()[here])
