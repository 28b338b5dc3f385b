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
    """Rows of a table, which grows; a lesson shows the new ones, and in the end all."""

    def __init__(self) -> None:
        self._all: dict[str, _Row] = {}
        self._new: dict[str, _Row] = {}

    def add(
        self,
        finding: str,
        lesson: str,
        predicted: float,
        measured: float,
        *,
        nothing: float,
        one_sided: bool = False,
    ) -> None:
        """One more finding, judged by `minillm.public_model.rule`; a known one is replaced.

        Args:
            finding: in words, with its unit.
            lesson: that predicts it.
            predicted: a number; a measured one shows its interval.
            measured: the same of another model.
            nothing: the value that would be no effect.
            one_sided: no number can lie on its other side.
        """
        said = verdict(predicted, measured, nothing, one_sided=one_sided)
        row = _Row(finding, lesson, _number(predicted), _number(measured), said)
        for rows in (self._all, self._new):
            rows.pop(finding, None)
            rows[finding] = row

    def new(self) -> Card:
        """The findings since the last card."""
        rows, self._new = list(self._new.values()), {}
        return _card(rows)

    def whole(self) -> Card:
        """All findings."""
        return _card(list(self._all.values()))


def _card(rows: list[_Row]) -> Card:
    return Card(_html(rows), picture=_svg(rows), summary=_text(rows))


def _html(rows: list[_Row]) -> str:
    heads = "".join(f"<th>{say(f'findings.{name}')}</th>" for name in _COLUMNS)
    lines = "".join(
        "<tr>"
        + "".join(f"<td{_side(name)}>{escape(x)}</td>" for name, x in row.cells().items())
        + f'<td><i class="card-mark" data-state="{_MARKS[row.verdict]}" role="img" '
        f'aria-hidden="true"></i>{row.verdict}</td></tr>'
        for row in rows
    )
    return (
        f'<p class="card-kicker">{say("findings.heading")}</p>'
        f'<table class="card-findings"><thead><tr>{heads}<th>{say("findings.holds")}</th></tr>'
        f"</thead><tbody>{lines}</tbody></table>"
    )


def _text(rows: list[_Row]) -> str:
    return "\n".join(
        f"{row.finding} (lesson {row.lesson}): predicted {row.predicted}, measured "
        f"{row.measured}: {row.verdict}"
        for row in rows
    )


def _svg(rows: list[_Row]) -> str:
    page = Page(dark=False)
    page.y = 24
    for name, x in _COLUMNS.items():
        page.text(PAD + x, page.y, say(f"findings.{name}"), 13, muted=True, anchor=_anchor(name))
    for row in rows:
        page.y += 28
        state = STATES[_MARKS[row.verdict]]
        page.rect(PAD, page.y - 16, 22, 22, state.light.fill, 6, stroke=state.light.line)
        page.glyph(PAD + 6, page.y - 10, state.glyph, state.light.ink)
        for name, text in row.cells().items():
            page.text(PAD + _COLUMNS[name], page.y, text, anchor=_anchor(name))
        page.text(PAD + _COLUMNS["measured"] + 24, page.y, row.verdict, muted=True)
    page.y += 10
    return page.document(_text(rows).replace("\n", "; "))


def _number(x: float) -> str:
    if isinstance(x, Measured) and x.low < x.high:
        return f"{digits(x)} ({digits(x.low)} to {digits(x.high)})"
    return f"{round(x):,}" if x == round(x) else digits(x)


def _anchor(name: str) -> str:
    return "end" if name in _RIGHT else "start"


def _side(name: str) -> str:
    return ' class="card-number"' if name in _RIGHT else ""
