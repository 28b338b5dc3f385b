"""The film of Jacobi decoding: a block of guesses, pass by pass on its way to the fixed point.

It reads the Steps of a run; what a pass would have settled is decided there, not here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from minillm.jacobi import JacobiRow, JacobiStep
from widgets.common.drawing.film import Cell, Change, Film, Grid, Number
from widgets.common.drawing.page import bare, visible
from widgets.jacobi.gain import rate

__all__ = ["settling_film"]

_WIDEST = 6  # characters of a token in the grid

_MOST = 63  # places and passes that it holds, the starting row apart


@dataclass(frozen=True)
class _Line:
    """The iterate after some passes: one row of the grid.

    Attributes:
        settled: places that had settled before.
        settling: places that settle in this pass.
        tokens: of these, and of the places after them that are guessed so far.
    """

    settled: int
    settling: int
    tokens: tuple[int, ...]


def settling_film(steps: Sequence[JacobiStep], name: Callable[[int], str]) -> Film:
    """A run of `decode_jacobi` on one row: every pass a line, every place a column.

    Args:
        steps: at least one, at most 63, with as many places at most.
        name: the text of a token.

    Raises:
        ValueError: no step, more than one row, or too much for one picture.
    """
    rows = [step.rows[0] for step in steps if len(step.rows) == 1]
    lines = _lines(rows) if rows else []
    places = max((len(line.tokens) for line in lines), default=0)
    if not rows or len(rows) != len(steps) or max(places, len(rows)) > _MOST:
        raise ValueError(
            f"{len(steps)} steps and {places} places are not a run of one row, up to {_MOST} each"
        )
    text = [token for row in rows for token in row.tokens]
    return Film(
        title="Jacobi decoding: all places are chosen anew in every pass",
        hint="Each line is what one pass chose. The outline marks the newest token that plain "
        "decoding would have after as many passes.",
        captions=(_start(rows[0], text), *(_told(rows, k, name) for k in range(len(rows)))),
        panels=(
            Grid(
                tuple(
                    tuple(_cell(line, k, i, text, name) for i in range(places))
                    for k, line in enumerate(lines)
                ),
                row_labels=("start", *(f"pass {k}" for k in range(1, len(lines)))),
                column_labels=tuple(str(i + 1) for i in range(places)),
                title="Columns: places of the new text. Lines: passes.",
                most=_WIDEST,
                share=9,
            ),
        ),
        numbers=_numbers(rows),
        unit="pass",
        first=0,
        aside=3,
    )


def _lines(rows: Sequence[JacobiRow]) -> list[_Line]:
    """The start, then the state after every pass; a new block's guesses count from its start on."""
    lines, text = [_Line(0, 0, rows[0].before)], list[int]()
    for k, row in enumerate(rows):
        settled = len(text)
        text += row.tokens
        unsettled = () if row.ended else row.after[len(row.tokens) :]
        if not (unsettled or row.ended):
            unsettled = rows[k + 1].before  # the next block
        lines.append(_Line(settled, len(row.tokens), (*text, *unsettled)))
    return lines


def _cell(line: _Line, k: int, i: int, text: Sequence[int], name: Callable[[int], str]) -> Cell:
    """Place i after pass k; it appears with its pass, and stays as it was then."""
    if i >= len(line.tokens):
        return Cell("", ())
    token, certain = line.tokens[i], line.settled + line.settling
    if i < line.settled:
        state, tip = "settled", ""
    elif i == line.settled and line.settling:
        state, tip = "settling", "Chosen after settled text, so it is right."
    elif i < certain:
        state, tip = "settling", "All guesses before it had proved right, so it is right as well."
    elif i < len(text) and token == text[i]:
        state, tip = "early", "Right by luck: a token before it was wrong."
    else:
        state, tip = "guess", _misplaced(line.tokens, i, text, name)
    ghost = k > 0 and i == k - 1
    history = (Change(k, state, ghost=ghost),)
    return Cell(bare(name(token)), history, link=f"place {i}", tip=tip)


def _misplaced(
    tokens: Sequence[int], i: int, text: Sequence[int], name: Callable[[int], str]
) -> str:
    """What there is to say of a wrong token: with the one before, it may be right elsewhere."""
    pair = tuple(tokens[max(i - 1, 0) : i + 1])
    where = [at for at in range(1, len(text)) if tuple(text[at - 1 : at + 1]) == pair]
    if not where:
        return "A guess, or chosen after a wrong token."
    at = min(where, key=lambda at: abs(at - i))
    both = visible("".join(map(name, pair)))
    away = f"{abs(at - i)} place{'s' * (abs(at - i) > 1)} {'earlier' if at < i else 'later'}"
    return f"Right words at the wrong place: the text has “{both}” {away}."


def _start(row: JacobiRow, text: Sequence[int]) -> str:
    lucky = sum(a == b for a, b in zip(row.before, text, strict=False))
    return (
        f"A block of {len(row.before)} guesses, {lucky} of them right by luck. "
        "The first pass reads the prompt and all of them at once."
    )


def _told(rows: Sequence[JacobiRow], k: int, name: Callable[[int], str]) -> str:
    """What the pass after k others did."""
    row, count = rows[k], len(rows[k].tokens)
    first, last = (f"“{visible(name(token))}”" for token in (row.tokens[0], row.tokens[-1]))
    said = [f"{first} was chosen after settled text, so it is right."]
    if count == 2:
        said.append(f"It equals its guess, so {last} was chosen after right text too.")
    elif count > 2:
        others = "the one" if count == 3 else f"the {count - 2}"
        said.append(f"It and {others} after it equal their guesses: all up to {last} settle.")
    left = len(row.after) - count
    if row.ended:
        said.append("The text is done.")
    elif left == 0:
        said.append(
            f"The block is done; the next one starts with {len(rows[k + 1].before)} guesses."
        )
    else:
        wrong = f"“{visible(name(row.before[count - 1]))}”"
        said.append(f"{last} takes the place of {wrong}: what comes after it saw a wrong token.")
    so_far = sum(len(r.tokens) for r in rows[: k + 1])
    said.append(f"Plain decoding would have {k + 1}, this has {so_far}.")
    return " ".join(said)


def _numbers(rows: Sequence[JacobiRow]) -> tuple[Number, ...]:
    settled = [0, *accumulate(len(row.tokens) for row in rows)]
    read = [0, *accumulate(len(row.before) for row in rows)]
    a_pass = [rate(n, k) for k, n in enumerate(settled) if k]
    return (
        Number("tokens settled", tuple(f"{n} of {settled[-1]}" for n in settled), "computed"),
        Number("tokens a pass", ("–", *a_pass), "computed"),
        Number(
            "choices made, plain → Jacobi",
            tuple(f"{k} → {n}" for k, n in enumerate(read)),
            "computed",
        ),
    )
