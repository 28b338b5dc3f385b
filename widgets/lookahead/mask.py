"""The film of one pass of lookahead decoding: every token, whom it sees, and why.

Who sees whom is `minillm.lookahead.mask.lookahead_layout`; here it is only put into words.

Dimensions: T tokens of the pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from minillm.lookahead.decode import LookaheadRow
from minillm.lookahead.mask import Layout, lookahead_layout
from widgets.common.drawing.film import Cell, Change, Film, Grid, Heat, Number, Patch, Rect
from widgets.common.drawing.page import bare, visible

__all__ = ["SENTENCES", "Place", "mask_film", "places", "reason"]

_WIDEST = 6  # characters of a token in the grid

SENTENCES = {
    "cache": "What is in the cache is text: everyone sees it.",
    "self": "A token sees itself.",
    "text": "Line 0 is read as text: it sees what stands before it in the line.",
    "future": "It stands later in line 0.",
    "start": "Line 0 up to the column's own beginning is the text that the column continues.",
    "beside": "It stands in line 0 after the beginning of this column.",
    "column": "Its own column: it was chosen after this token.",
    "below": "Chosen later in the same column: its future.",
    "other": "Another column continues another beginning.",
    "lines": "The lines below continue line 0; line 0 is read as if they were not there.",
    "window": "The window never sees a guess: it goes on as if there were none.",
    "newest": "A guess continues the newest token.",
    "guess": "It stands before it in its own guess.",
    "ahead": "It stands later in its own guess.",
    "unseen": "A guess never sees the window: it gets the logits of plain decoding.",
    "rival": "Another guess for the same places: only one of them can become text.",
}


@dataclass(frozen=True)
class Place:
    """Where a token stands in the pass."""

    guess: bool
    line: int
    column: int


def places(layout: Layout) -> list[Place]:
    """Those of all tokens, in the order of the pass."""
    columns = layout.guess.tolist(), layout.line.tolist(), layout.column.tolist()
    return [Place(*place) for place in zip(*columns, strict=True)]


def reason(me: Place, other: Place) -> str:
    """The key among `SENTENCES` that tells why `me` sees `other`, or why it does not."""
    if me == other:
        return "self"
    if me.guess:
        if other.guess:
            if other.line != me.line:
                return "rival"
            return "guess" if other.column < me.column else "ahead"
        return "newest" if (other.line, other.column) == (0, 0) else "unseen"
    if other.guess:
        return "window"
    if me.line == 0:
        if other.line > 0:
            return "lines"
        return "text" if other.column < me.column else "future"
    if other.line == 0:
        return "start" if other.column <= me.column else "beside"
    if other.column != me.column:
        return "other"
    return "column" if other.line < me.line else "below"


def mask_film(row: LookaheadRow, number: int, position: int, name: Callable[[int], str]) -> Film:
    """One pass, token by token.

    Args:
        row: what the pass did.
        number: of the pass in its run, from 1.
        position: of the newest token in the text.
        name: the text of a token.

    Raises:
        ValueError: a pass that read no window.
    """
    if not row.window:
        raise ValueError("a row that has ended reads nothing")
    length = len(row.guesses[0]) if row.guesses else 0
    layout = lookahead_layout(tuple(map(len, row.window)), len(row.guesses), length)
    tokens = [token for line in (*row.window, *row.guesses) for token in line]
    read = _Read(row, number, position, layout, tokens, name)
    return Film(
        title="One pass of lookahead decoding: who sees whom",
        hint="Step from token to token: what it sees is bright. Hover a cell of the matrix, or "
        "walk over it with the arrow keys: why it is seen, or not.",
        captions=tuple(read.told(t) for t in range(len(tokens))),
        panels=(read.grid(), read.matrix()),
        numbers=(
            Number("tokens in the pass", str(len(tokens)), "computed"),
            Number(
                "of them seen, itself included",
                tuple(str(int(n)) for n in layout.mask.sum(1)),
                "computed",
            ),
            Number("open cells of the mask", f"{int(layout.mask.sum())} of "
                   f"{len(tokens) ** 2}", "computed"),
        ),
        unit="token",
        aside=5,
    )  # fmt: skip


@dataclass(frozen=True)
class _Read:
    """A pass, and how to speak of its tokens."""

    row: LookaheadRow
    number: int
    position: int
    layout: Layout
    tokens: Sequence[int]
    name: Callable[[int], str]

    @cached_property
    def places(self) -> list[Place]:
        return places(self.layout)

    def text(self, t: int) -> str:
        return visible(self.name(self.tokens[t]))

    def label(self, t: int) -> str:
        """Such as "2,1 was": line 2, column 1."""
        place = self.places[t]
        line = f"g{place.line + 1}" if place.guess else f"{place.line}"
        return f"{line},{place.column} {bare(self.text(t))}"

    def born(self, line: int) -> str:
        """When the tokens of a line of the window were chosen."""
        ago = len(self.row.window) - line
        if ago == self.number:
            return "from the initial guess"
        return f"chosen in pass {self.number - ago}, {ago} pass{'es' * (ago > 1)} ago"

    def told(self, t: int) -> str:
        place, offset = self.places[t], int(self.layout.offset[t])
        where = f"position {self.position + offset}, {offset} after the newest token"
        if place == Place(False, 0, 0):
            return (
                f"“{self.text(t)}” is the newest token of the text, at position {self.position}. "
                "It sees the cache and itself: the choice after it is plain decoding's."
            )
        if place.guess:
            sees = "the cache and the newest token"
            if place.column:
                sees = "the cache, the newest token and what stands before it in its guess"
            return (
                f"“{self.text(t)}” of guess {place.line + 1}: an n-gram of the pool that begins "
                f"with the newest token. It stands at {where}, and sees {sees}. It is right if "
                "the model chooses it after these."
            )
        if place.line == 0:
            return (
                f"“{self.text(t)}” in line 0, column {place.column}, {self.born(0)}: a guess at "
                f"{where}. It sees the cache and line 0 before it, as in any text."
            )
        lines = "line 1" if place.line == 2 else f"lines 1 to {place.line - 1}"
        own = "" if place.line == 1 else f", {lines} of its column"
        born = f"{self.born(place.line)} {self._after(place)}"
        return (
            f"“{self.text(t)}” in line {place.line}, column {place.column}, {born}. It stands at "
            f"{where}, and sees the cache, line 0 up to its column{own}, and itself."
        )

    def _after(self, place: Place) -> str:
        """What a token of a lower line was chosen after."""
        if (place.line, place.column) == (1, 0):
            return "after what stood above it then; now the newest token does"
        above = self.places.index(Place(False, place.line - 1, place.column))
        return f"after “{self.text(above)}”"

    def grid(self) -> Grid:
        """Window and guesses; at each step, as the token of that step sees them."""
        lines = [(False, line, len(tokens)) for line, tokens in enumerate(self.row.window)]
        lines += [(True, line, len(tokens)) for line, tokens in enumerate(self.row.guesses)]
        columns = max(length + guess for guess, _, length in lines)
        rows = []
        for guess, line, length in lines:
            start = self.places.index(Place(guess, line, 0))
            cells = [self._cell(start + j) for j in range(length)]
            before = [Cell("", ())] * guess  # a guess begins after the newest token
            rows.append((*before, *cells, *[Cell("", ())] * (columns - guess - length)))
        return Grid(
            tuple(rows),
            row_labels=tuple(f"{'guess' if g else 'line'} {line + g}" for g, line, _ in lines),
            column_labels=tuple(map(str, range(columns))),
            title="What the pass reads, by line and column",
            share=5,
            most=_WIDEST,
        )

    def _cell(self, t: int) -> Cell:
        history: list[Change] = []
        for step, seen in enumerate(self.layout.mask[:, t].tolist()):
            state = "looking" if step == t else "visible" if seen else "masked"
            if not history or history[-1].state != state:
                history.append(Change(step, state))
        return Cell(bare(self.name(self.tokens[t])), tuple(history), link=f"token {t}")

    def matrix(self) -> Heat:
        """A row for each token that asks, a column for the cache and each that may be seen."""
        T = len(self.tokens)
        keys = list(SENTENCES)
        tips = [
            keys.index("cache" if c == 0 else reason(self.places[r], self.places[c - 1]))
            for r in range(T)
            for c in range(T + 1)
        ]
        seen = [[True, *row] for row in self.layout.mask.tolist()]
        return Heat(
            rows=T,
            columns=T + 1,
            patches=(
                Patch(0, Rect(0, 0, T, T + 1), bytes(int(not x) for row in seen for x in row)),
            ),
            states=("visible", "masked"),
            marks=tuple((t, Rect(t, 0, 1, T + 1)) for t in range(T)),
            row_labels=tuple(self.label(t) for t in range(T)),
            column_labels=("cache", *(self.label(t) for t in range(T))),
            row_title="who looks (line,column; g: guess)",
            column_title="at whom",
            row_links=tuple(f"token {t}" for t in range(T)),
            title="The mask: rows look at columns",
            share=7,
            stack=2,
            sentences=tuple(SENTENCES.values()),
            tips=bytes(tips),
        )
