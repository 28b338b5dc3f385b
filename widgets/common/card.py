"""A card: the shape of everything the kit says that is not a film.

A reveal, the verdict on an exercise, the exactness meter: each is a heading and a few statements,
every statement with a mark (holds, nearly, wrong, open). `Note` holds that as data and writes it
as HTML for the live view, as SVG and as text for where no kernel runs. `Card` shows any HTML in
the look of the course. Texts are escaped here, once; a mark is a token state of the theme.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from html import escape
from pathlib import Path

import traitlets

from widgets.common.drawing.page import PAD, Page, visible
from widgets.common.program import Program, program
from widgets.common.still import Pictured
from widgets.common.strings import say
from widgets.common.theme import LIGHT, STATES, css

__all__ = ["CLOSE", "OPEN", "RIGHT", "WRONG", "Card", "Note", "Statement", "tag"]

RIGHT, CLOSE, WRONG, OPEN = "accepted", "early", "rejected", "unchecked"

_HERE = Path(__file__).parent


def tag(name: str) -> str:
    """Where a number comes from, as HTML."""
    return f'<span class="tag" data-tag="{name}">{escape(say(f"tag.{name}"))}</span>'


@dataclass(frozen=True)
class Statement:
    """One sentence with its mark, and what else there is to say about it, quietly.

    `live` is shown in the live view only: what differs between machines and runs.
    """

    mark: str
    text: str
    detail: str = ""
    live: str = ""

    def __post_init__(self) -> None:
        if self.mark not in STATES:
            raise ValueError(f"unknown mark {self.mark!r}: expected one of {', '.join(STATES)}")

    def html(self) -> str:
        """An item of a list, its mark first."""
        quiet = "".join(
            f'<span class="card-quiet">{escape(text)}</span>'
            for text in (self.detail, self.live)
            if text
        )
        label = escape(say(f"mark.{self.mark}"))
        return (
            f'<li><i class="card-mark" data-state="{self.mark}" role="img" '
            f'aria-label="{label}"></i><span>{escape(self.text)}{quiet}</span></li>'
        )


@dataclass(frozen=True)
class Note:
    """A heading, statements, and folded texts (label, text) that open on request.

    `tag` says where its numbers come from, if it has any.
    """

    heading: str
    statements: tuple[Statement, ...]
    folds: tuple[tuple[str, str], ...] = ()
    tag: str = ""

    def text(self) -> str:
        """One statement a line: what nbval compares."""
        said = [" ".join(filter(None, (s.text, s.detail))) for s in self.statements]
        return "\n".join([f"{self.heading}: {said[0]}" if said else self.heading, *said[1:]])

    def html(self) -> str:
        """The live view."""
        said = "".join(s.html() for s in self.statements)
        folds = "".join(
            f"<details><summary>{escape(label)}</summary><p>{escape(text)}</p></details>"
            for label, text in self.folds
        )
        return (
            f'<p class="card-kicker">{escape(self.heading)} {tag(self.tag) if self.tag else ""}</p>'
            f'<ul class="card-said">{said}</ul>'
            + (f'<div class="card-folds">{folds}</div>' if folds else "")
        )

    def svg(self) -> str:
        """The static picture, in the light look."""
        page = Page(dark=False)
        page.text(PAD, 24, self.heading, 13, muted=True)
        if self.tag:
            page.tag(PAD + 16 + 8 * len(self.heading), 24, self.tag)
        page.y = 30
        for said in self.statements:
            tone = STATES[said.mark].light
            page.rect(PAD, page.y + 4, 22, 22, tone.fill, 6, stroke=tone.line)
            page.glyph(PAD + 6, page.y + 10, STATES[said.mark].glyph, tone.ink)
            for part, colour in ((said.text, LIGHT.text), (said.detail, LIGHT.muted)):
                for line in textwrap.wrap(part, 118):
                    page.y += 20
                    page.text(PAD + 34, page.y, line, colour=colour)
            page.y += 8
        page.y -= 6
        return page.document(visible(self.text().replace("\n", "; ")))

    def card(self) -> Card:
        return Card(self.html(), picture=self.svg(), summary=self.text())


class Card(Pictured, Program):
    """Shows `html` (safe: its author has escaped it), with a static picture and its text.

    The text is also what a screen reader announces.
    """

    _esm = program(_HERE / "card.js")
    _css = css() + (_HERE / "card.css").read_text(encoding="utf-8")

    html = traitlets.Unicode().tag(sync=True)
    spoken = traitlets.Unicode().tag(sync=True)

    def __init__(self, html: str, *, picture: str, summary: str) -> None:
        super().__init__(html=html, spoken=summary)
        self._picture = picture

    def show(self, html: str, *, picture: str, summary: str) -> None:
        """Say something else, wherever the card is displayed."""
        self._picture, self.spoken = picture, summary
        self.html = html

    def picture(self) -> str:
        return self._picture

    def summary(self) -> str:
        return self.spoken
