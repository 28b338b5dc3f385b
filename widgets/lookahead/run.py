"""The film of a run of lookahead decoding: text, window and guesses, pass by pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

from minillm.lookahead.decode import LookaheadRow, LookaheadStep
from widgets.common.drawing.film import Cell, Change, Film, Grid, Lane, Lanes, Number
from widgets.common.drawing.page import bare, visible
from widgets.jacobi.gain import rate

__all__ = ["agreed", "found_in_text", "run_film"]

Name = Callable[[int], str]

_WIDEST = 7  # characters of a token in the grids


def run_film(steps: Sequence[LookaheadStep], W: int, N: int, G: int, name: Name) -> Film:
    """A run of `decode_lookahead` on one row.

    Args:
        steps: at least one.
        W, N, G: what it was run with.
        name: the text of a token.

    Raises:
        ValueError: no step, more than one row, or another W, N or G.
    """
    rows = [step.rows[0] for step in steps if len(step.rows) == 1]
    fits = all(len(row.window) < N and len(row.guesses) <= G for row in rows)
    if not rows or len(rows) != len(steps) or not fits:
        raise ValueError(f"{len(steps)} steps are no run of one row with N = {N} and G = {G}")
    return Film(
        title="Lookahead decoding: window, guesses and text",
        hint="A column of the window, read downwards, is a short text of its own: when it is "
        "complete, it goes to the pool. Hover it.",
        captions=tuple(_told(rows, k, N, name) for k in range(len(rows))),
        panels=(
            Grid(
                tuple(_window_row(rows, up, W, N, name) for up in range(N - 1, -1, -1)),
                row_labels=(*(f"{up} ago" for up in range(N - 1, 0, -1)), "now"),
                column_labels=tuple(map(str, range(W))),
                title="Window: lines of so many passes ago, and now",
                share=6,
                most=_WIDEST,
            ),
            Grid(
                tuple(_guess_row(rows, g, N, name) for g in range(G)),
                row_labels=tuple(f"guess {g + 1}" for g in range(G)),
                column_labels=tuple(f"+{i}" for i in range(1, N)),
                title="Guesses after the newest token",
                share=6,
                most=_WIDEST,
            ),
            Lanes((_text_lane(rows, name),)),
        ),
        numbers=_numbers(steps, rows),
        unit="pass",
    )


def agreed(guess: Sequence[int], tokens: Sequence[int]) -> int:
    """Tokens of a guess that equal what was committed, up to the first that does not."""
    pairs = zip(guess, tokens, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(guess), len(tokens)))


def found_in_text(steps: Sequence[LookaheadStep], prompt: Sequence[int]) -> tuple[int, int]:
    """Guesses of which at least one token was right, and how many of them stood in the text.

    Those could have been copied, without any window. What counts is the newest token and the
    guessed ones that were right, anywhere in the text so far.
    """
    text, right, copied = list(prompt), 0, 0
    for step in steps:
        [row] = step.rows
        if row.best is not None:
            gram = [text[-1], *row.guesses[row.best][: row.accepted]]
            right += 1
            copied += any(text[i : i + len(gram)] == gram for i in range(len(text)))
        text += row.tokens
    return right, copied


def _text_lane(rows: Sequence[LookaheadRow], name: Name) -> Lane:
    cells = []
    for k, row in enumerate(rows):
        for i, token in enumerate(row.tokens):
            guessed = i < row.accepted
            tip = "guessed, and right" if guessed else "chosen by the model"
            history = [Change(k, "accepted" if guessed else "computed")]
            if not guessed and k + 1 < len(rows):
                history.append(Change(k + 1, "settled"))
            cells.append(Cell(name(token), tuple(history), tip=tip))
    written = list(accumulate(len(row.tokens) for row in rows))
    notes = tuple(
        f"{n} token{'s' * (n > 1)}, {k} pass{'es' * (k > 1)}" for k, n in enumerate(written, 1)
    )
    return Lane("text", tuple(cells), notes=notes)


def _window_row(
    rows: Sequence[LookaheadRow], up: int, W: int, N: int, name: Name
) -> tuple[Cell, ...]:
    """The line that was chosen `up` passes before each, 0 being the one that is chosen now."""
    return tuple(
        _changing(
            [_window_entry(row, k, up, j, name) for k, row in enumerate(rows)],
            link=f"column {j}",
            tip=f"column {j}",
        )
        for j in range(W)
    )


def _window_entry(row: LookaheadRow, k: int, up: int, j: int, name: Name) -> tuple[str, str]:
    """State and text of a place of the window, in pass k from 0."""
    line = len(row.window) - up
    tokens = row.chosen if up == 0 else row.window[line] if line >= 0 else ()
    if j >= len(tokens):
        return "free", ""
    if up == 0:
        return "computed", name(tokens[j])
    if (line, j) == (0, 0):
        return "settled", name(tokens[0])
    return "guess" if up == k + 1 else "kept", name(tokens[j])  # from before the first pass


def _guess_row(rows: Sequence[LookaheadRow], g: int, N: int, name: Name) -> tuple[Cell, ...]:
    entries: list[list[tuple[str, str]]] = []
    for row in rows:
        guess = row.guesses[g] if g < len(row.guesses) else ()
        states = ["accepted"] * agreed(guess, row.tokens) + ["rejected"] + ["unchecked"] * N
        entries.append(
            [(states[i], name(guess[i])) if i < len(guess) else ("free", "") for i in range(N - 1)]
        )
    return tuple(_changing([entry[i] for entry in entries]) for i in range(N - 1))


def _changing(entries: Sequence[tuple[str, str]], link: str | None = None, tip: str = "") -> Cell:
    """A cell whose state and text are given for every step."""
    history = tuple(
        Change(k, state, bare(text))
        for k, (state, text) in enumerate(entries)
        if k == 0 or entries[k - 1] != (state, text) or state == "computed"
    )
    return Cell("", history, link=link, tip=tip)


def _told(rows: Sequence[LookaheadRow], k: int, N: int, name: Name) -> str:
    row = rows[k]
    said = [f"“{visible(name(row.window[0][0]))}” is the newest token."]
    if not row.guesses:
        said.append("The pool has no guess for what follows.")
    elif row.best is None:
        known = "one continuation" if len(row.guesses) == 1 else f"{len(row.guesses)} continuations"
        said.append(f"The pool knows {known} of it; none has its first token right.")
    else:
        count = row.accepted
        said.append(
            f"Guess {row.best + 1} has {count} token{'s' * (count > 1)} right, and "
            f"{'it is' if count == 1 else 'they are'} taken."
        )
    last = f"“{visible(name(row.tokens[-1]))}”"
    if len(row.tokens) > row.accepted:
        said.append(f"{last} is the model's own choice after that.")
    if len(row.window) < N - 1:
        said.append("The window gets one more line.")
    else:
        said.append(f"{len(row.chosen)} n-grams of {N} tokens go to the pool.")
    return " ".join(said)


def _numbers(steps: Sequence[LookaheadStep], rows: Sequence[LookaheadRow]) -> tuple[Number, ...]:
    written = list(accumulate(len(row.tokens) for row in rows))
    taken = accumulate(min(row.accepted, len(row.tokens)) for row in rows)
    read = [sum(map(len, (*row.window, *row.guesses))) for row in rows]
    return (
        Number("tokens a pass", tuple(rate(n, k) for k, n in enumerate(written, 1)), "computed"),
        Number("tokens guessed right", tuple(map(str, taken)), "computed"),
        Number("tokens read in this pass", tuple(map(str, read)), "computed"),
    )
