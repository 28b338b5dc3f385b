"""A drawing that grows downwards: the SVG primitives of static pictures, on whole pixels."""

from __future__ import annotations

import textwrap
import unicodedata
from xml.sax.saxutils import escape, quoteattr

from minillm.tokens import END_OF_TEXT
from widgets.common.drawing.film import LONGEST, width
from widgets.common.strings import say
from widgets.common.theme import DARK, LIGHT, STATES, TAGS, Surface

__all__ = ["PAD", "WIDTH", "Page", "bare", "heading", "readable", "shortened", "visible"]

WIDTH, PAD = 960, 20  # the card and its padding
SANS = "system-ui, -apple-system, 'Segoe UI', sans-serif"
MONO = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
_WHITE_SPACE = str.maketrans({"\n": "↵", "\t": "⇥"})


def visible(text: str) -> str:
    """White space as marks; what XML or the reading order cannot bear, as a dot."""
    if text and not text.strip(" "):
        return "␣" * len(text)
    shown = text.translate(_WHITE_SPACE)
    return "".join(
        c if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Cn") or c == "\u200d" else "·"
        for c in shown
    )


def bare(text: str) -> str:
    """A token without the space that most words begin with, where room is short.

    >>> bare(" cat"), bare(" ")
    ('cat', ' ')
    """
    return text.strip(" ") or text


def readable(text: str) -> str:
    """A token as part of a running text: the one that begins every text says so.

    >>> readable("<|endoftext|>"), readable(" cat")
    ('start: ', ' cat')
    """
    return "start: " if text == END_OF_TEXT else text


def heading(text: str) -> str:
    """A token at a row or a column: the one that begins every text says so.

    >>> heading("<|endoftext|>"), heading(" cat")
    ('start', ' cat')
    """
    return "start" if text == END_OF_TEXT else text


def shortened(text: str, most: int = LONGEST) -> str:
    while width(text) > most:
        text = text.removesuffix("…")[:-1] + "…"
    return text


class Page:
    """The growing drawing: `y` is where the next thing goes."""

    def __init__(self, dark: bool, width: int = WIDTH) -> None:
        self.dark, self.width = dark, width
        self.surface: Surface = DARK if dark else LIGHT
        self.parts: list[str] = []
        self.places: dict[str, tuple[int, int]] = {}  # of links: the middle of a cell's top
        self.y = 0

    def rect(self, x: int, y: int, w: int, h: int, fill: str, r: int = 0, **more: str) -> None:
        radius = f' rx="{r}"' if r else ""
        extra = "".join(f' {k.replace("_", "-")}="{v}"' for k, v in more.items())
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{w}" height="{h}"{radius} fill="{fill}"{extra}/>'
        )

    def text(
        self,
        x: int,
        y: int,
        text: str,
        size: int = 14,
        colour: str | None = None,
        anchor: str = "start",
        bold: bool = False,
        muted: bool = False,
        mono: bool = False,
        struck: bool = False,
        upright: bool = False,
    ) -> None:
        fill = colour or (self.surface.muted if muted else self.surface.text)
        extra = ' font-weight="650"' if bold else ""
        extra += f' text-anchor="{anchor}"' if anchor != "start" else ""
        extra += f' font-family="{MONO}"' if mono else ""
        extra += ' text-decoration="line-through"' if struck else ""
        extra += f' transform="rotate(-90 {x} {y})"' if upright else ""
        self.parts.append(
            f'<text x="{x}" y="{y}" font-size="{size}" fill="{fill}"{extra}>'
            f"{escape(visible(text))}</text>"
        )

    def paragraph(self, text: str, x: int = PAD, muted: bool = False) -> None:
        for line in textwrap.wrap(text, (self.width - PAD - x) // 7):
            self.y += 20
            self.text(x, self.y, line, muted=muted)

    def glyph(self, x: int, y: int, path: str, colour: str) -> None:
        self.parts.append(
            f'<path transform="translate({x} {y})" d="{path}" fill="none" stroke="{colour}" '
            'stroke-width="1.5" stroke-linecap="round" stroke-linejoin="round"/>'
        )

    def tag(self, x: int, y: int, name: str) -> int:
        """Where a number comes from, as glyph and word; returns the room that it takes."""
        word = say(f"tag.{name}")
        self.glyph(x, y - 9, TAGS[name], self.surface.muted)
        self.text(x + 14, y, word, 12, muted=True)
        return 14 + 7 * len(word)

    def put(self, part: Page, x: int, y: int) -> None:
        """What another page drew, at a place of this one."""
        self.parts += [f'<g transform="translate({x} {y})">', *part.parts, "</g>"]
        for link, (across, down) in part.places.items():
            self.places.setdefault(link, (x + across, y + down))

    def arc(self, link: str, other: str, width: int) -> None:
        """From one cell to another, over their text."""
        (x1, y1), (x2, y2) = self.places[link], self.places[other]
        y = min(y1, y2) - 4 - min(34, abs(x1 - x2) // 6)
        self.parts.append(
            f'<path d="M{x1} {y1}C{x1} {y} {x2} {y} {x2} {y2}" fill="none" '
            f'stroke="{STATES["computed"].tone(self.dark).line}" stroke-width="{width}"/>'
        )

    def cell(
        self, x: int, y: int, w: int, h: int, state: str, text: str = "", detail: str = ""
    ) -> None:
        look = STATES[state]
        tone = look.tone(self.dark)
        dashes = {"stroke_dasharray": "3 2"} if look.dashed else {}
        self.rect(x, y, w, h, tone.fill, 6, stroke=tone.line, **dashes)
        middle = y + h // 2
        if not text or state == "free":
            self.glyph(x + w // 2 - 5, middle - 5, look.glyph, tone.ink)
        else:
            self.glyph(x + 7, middle - 5, look.glyph, tone.ink)
            at = x + (w + 14) // 2
            line = middle - 3 if detail else middle + 5
            self.text(at, line, text, 13, tone.ink, "middle", mono=True, struck=look.struck)
            if detail:
                self.text(at, middle + 12, detail, 11, tone.ink, "middle", mono=True)

    def document(self, label: str) -> str:
        height = self.y + PAD
        surface = self.surface
        body = "\n".join(self.parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label={quoteattr(label)} '
            f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
            f'font-family="{SANS}">\n<title>{escape(label)}</title>\n'
            f'<rect x="0" y="0" width="{WIDTH}" height="{height}" rx="10" fill="{surface.page}" '
            f'stroke="{surface.line}"/>\n{body}\n</svg>'
        )
