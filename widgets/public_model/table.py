"""The table of findings, which grows in the lesson: what was predicted, and what came."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from minillm.measure.noise import Measured
from minillm.public_model.rule import verdict
from widgets.common.card import CLOSE, OPEN, RIGHT, WRONG, Card
from widgets.common.drawing.page import PAD, Page
from widgets.common.stable import digits
from widgets.common.strings import say
from widgets.common.theme import STATES

__all__ = ["Findings"]

_MARKS = {"holds": RIGHT, "in direction": CLOSE, "does not hold": WRONG, "not decided": OPEN}
_COLUMNS = {"finding": 34, "lesson": 400, "predicted": 600, "measured": 770}  # where each begins
_RIGHT = ("predicted", "measured")  # columns of numbers; their places are ends


@dataclass(frozen=True)
class _Row:
    finding: str
    lesson: str
    predicted: str
    measured: str
    verdict: str

    def cells(self) -> dict[str, str]:
        """By the name of the column."""
        return {name: getattr(self, name) for name in _COLUMNS}


class Findings:
    """Rows of a table; each `add` returns the whole of it as a card."""

    def __init__(self) -> None:
        self._rows: list[_Row] = []

    def add(
        self, finding: str, lesson: str, predicted: float, measured: float, *, nothing: float
    ) -> Card:
        """One more finding, judged by `minillm.public_model.rule`; a known one is replaced.

        Args:
            finding: in words, with its unit.
            lesson: that predicts it.
            predicted: a number; a measured one shows its interval.
            measured: the same of another model.
            nothing: the value that would be no effect.
        """
        said = verdict(predicted, measured, nothing)
        row = _Row(finding, lesson, _number(predicted), _number(measured), said)
        self._rows = [old for old in self._rows if old.finding != finding] + [row]
        return Card(self._html(), picture=self._svg(), summary=self._text())

    def _html(self) -> str:
        heads = "".join(f"<th>{say(f'findings.{name}')}</th>" for name in _COLUMNS)
        rows = "".join(
            f"<tr{_last(row, self._rows)}>"
            + "".join(f"<td{_side(name)}>{escape(x)}</td>" for name, x in row.cells().items())
            + f'<td><i class="card-mark" data-state="{_MARKS[row.verdict]}" role="img" '
            f'aria-hidden="true"></i>{row.verdict}</td></tr>'
            for row in self._rows
        )
        return (
            f'<p class="card-kicker">{say("findings.heading")}</p>'
            f'<table class="card-findings"><thead><tr>{heads}<th>{say("findings.holds")}</th></tr>'
            f"</thead><tbody>{rows}</tbody></table>"
        )

    def _text(self) -> str:
        return "\n".join(
            f"{row.finding} (lesson {row.lesson}): predicted {row.predicted}, measured "
            f"{row.measured}: {row.verdict}"
            for row in self._rows
        )

    def _svg(self) -> str:
        page = Page(dark=False)
        page.y = 24
        for name, x in _COLUMNS.items():
            page.text(
                PAD + x, page.y, say(f"findings.{name}"), 13, muted=True, anchor=_anchor(name)
            )
        for row in self._rows:
            page.y += 28
            state = STATES[_MARKS[row.verdict]]
            page.rect(PAD, page.y - 16, 22, 22, state.light.fill, 6, stroke=state.light.line)
            page.glyph(PAD + 6, page.y - 10, state.glyph, state.light.ink)
            for name, text in row.cells().items():
                page.text(PAD + _COLUMNS[name], page.y, text, anchor=_anchor(name))
            page.text(PAD + _COLUMNS["measured"] + 24, page.y, row.verdict, muted=True)
        page.y += 10
        return page.document(self._text().replace("\n", "; "))


def _number(x: float) -> str:
    if isinstance(x, Measured) and x.low < x.high:
        return f"{digits(x)} ({digits(x.low)} to {digits(x.high)})"
    return f"{round(x):,}" if x == round(x) else digits(x)


def _anchor(name: str) -> str:
    return "end" if name in _RIGHT else "start"


def _side(name: str) -> str:
    return ' class="card-number"' if name in _RIGHT else ""


def _last(row: _Row, rows: list[_Row]) -> str:
    return ' class="card-here"' if row is rows[-1] else ""
