"""The films of guess and verify: a round is a row, told token by token; two models that take turns.

They read the Steps of a run, and compute nothing but sums of what those hold.

Dimensions: gamma guesses of a round, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from minillm.decoding import Step
from minillm.speculative.decode import SpeculativeRow, SpeculativeStep
from minillm.speculative.verification import residual
from widgets.common.drawing.film import Bar, Bars, BarsAt, Cell, Change, Film, Lane, Lanes, Number
from widgets.common.drawing.page import readable, visible

__all__ = ["rounds_film", "turns_film"]

SHOWN = 4  # tokens that have bars of their own; the others are added up
_RECENT = 4  # rounds that are shown, the last of them; the text holds what earlier ones wrote
_BEFORE = 24  # tokens of the prompt that stand before the text
_MS = 1e3
_ZERO = 5e-5  # bars are rounded to four digits


@dataclass(frozen=True)
class _Frame:
    """A step of the film: the guesses are written, one is judged, or a token is added.

    Attributes:
        r: the round.
        i: the guess that is judged; -1 while they are written, gamma for the added token.
    """

    r: int
    i: int


def rounds_film(
    plain: Sequence[Step],
    rounds: Sequence[SpeculativeStep],
    name: Callable[[int], str],
    prompt: Sequence[int] = (),
) -> Film:
    """A run of `decode_speculative` beside one of `decode_cached` from the same prompt.

    Args:
        plain: the Steps of `decode_cached`, one row.
        rounds: those of `decode_speculative`, one row with as many tokens.
        name: the text of a token.
        prompt: whose last tokens begin the text that is written.

    Raises:
        ValueError: not one row each, or not as many tokens.
    """
    rows = [step.rows[0] for step in rounds if len(step.rows) == 1]
    written = sum(len(row.tokens) for row in rows)
    if not rounds or len(rows) != len(rounds) or _tokens(plain) != written:
        raise ValueError(
            f"{len(plain)} plain steps and {len(rounds)} rounds are not one row with as many tokens"
        )
    frames = [_Frame(r, i) for r, row in enumerate(rows) for i in _places(row)]
    starts = [frames.index(_Frame(r, -1)) for r in range(len(rows))]
    captions = [_caption(rounds[f.r], f, name) for f in frames]
    lanes = tuple(_lane(r, row, starts[r], len(frames), name) for r, row in enumerate(rows))
    born = [f for f, frame in enumerate(frames) if _commits(rows[frame.r], frame.i)]
    return Film(
        title="Speculative acceptance",
        hint="The draft guesses, the target checks all guesses of a row in one pass. "
        "Hover a token: its p, its q, and the number that was drawn.",
        captions=tuple(captions),
        panels=(
            Lanes((_text(prompt, rows, starts, name),)),
            Lanes(lanes, recent=_RECENT, share=7, stack=2),
            Bars(
                ("target", "proposal", "overlap", "residual"),
                tuple(_bars(rows[f.r], f, step, name) for step, f in enumerate(frames)),
                share=5,
            ),
            Lanes(
                (
                    Lane("plain", bars=_plain_bars(plain, born), baseline=True),
                    Lane("speculative", bars=_round_bars(rounds, starts, frames)),
                ),
                title="Time for as many tokens",
                unit="ms",
                share=5,
            ),
        ),
        numbers=_numbers(plain, rounds, frames),
    )


def _tokens(steps: Sequence[Step]) -> int:
    """Tokens of a run of one row; -1 for any other."""
    one = all(len(step.rows) == 1 for step in steps)
    return sum(len(step.rows[0].tokens) for step in steps) if one else -1


def _shown(row: SpeculativeRow) -> int:
    """Guesses whose judgement is shown: those after the end of the text do not count any more."""
    return min(row.judged, len(row.tokens))


def _places(row: SpeculativeRow) -> list[int]:
    """The frames of a round: writing, each judged guess, the added token unless the text ended."""
    added = [len(row.guesses)] if len(row.tokens) > row.accepted else []
    return [-1, *range(_shown(row)), *added]


def _commits(row: SpeculativeRow, i: int) -> bool:
    return 0 <= i < min(row.accepted, len(row.tokens)) or i == len(row.guesses)


def _lane(r: int, row: SpeculativeRow, start: int, steps: int, name: Callable[[int], str]) -> Lane:
    """One round: its guesses and their fates, an arrow, and the token that the target adds."""
    judged = start + _shown(row)  # the step of the last judgement
    cells = []
    for i, token in enumerate(row.guesses):
        if i < _shown(row):
            state, at = "accepted" if i < row.accepted else "rejected", start + 1 + i
        else:
            state, at = "wasted" if i < row.accepted else "unchecked", max(judged, start + 1)
        history = (Change(start, "guess"), Change(at, state))
        link = f"round {r} guess {i}"
        cells.append(Cell(name(token), history, link=link, tip=_tip(row, i, state)))
    if len(row.tokens) > row.accepted:
        resampled = row.accepted < len(row.guesses)
        added = Change(
            judged + 1,
            "resampled" if resampled else "bonus",
            name(row.tokens[-1]),
            origin=f"round {r} guess {row.accepted}" if resampled else None,
        )
        tip = f"p = {float(row.p[row.accepted, row.tokens[-1]]):.2g}"
        history = (Change(start, "free", ""), added)
        link = f"round {r} added"
        cells.append(Cell(added.text or "", history, link, tip=tip, arrow=bool(row.guesses)))
    made = f"{len(row.guesses)} guesses" if row.guesses else "no guess"
    notes = tuple(
        f"{min(step - start, row.accepted, _shown(row))} of {len(row.guesses)} accepted"
        if step > start and row.guesses
        else made
        for step in range(steps)
    )
    return Lane(f"round {r + 1}", tuple(cells), notes=notes, start=start)


def _text(
    prompt: Sequence[int],
    rows: Sequence[SpeculativeRow],
    starts: Sequence[int],
    name: Callable[[int], str],
) -> Lane:
    """What is written so far, as one text; each token comes from its round."""
    cells = [Cell(readable(name(t)), (Change(0, "settled"),)) for t in prompt[-_BEFORE:]]
    for r, (row, start) in enumerate(zip(rows, starts, strict=True)):
        kept = min(row.accepted, len(row.tokens))
        for i, token in enumerate(row.tokens):
            if i < kept:
                now = Change(start + 1 + i, "accepted", origin=f"round {r} guess {i}")
            else:
                state = "resampled" if row.accepted < len(row.guesses) else "bonus"
                at = start + _shown(row) + 1
                now = Change(at, state, origin=f"round {r} added")
            cells.append(Cell(name(token), (now,), tip=f"round {r + 1}"))
    return Lane("text", tuple(cells), prose=True)


def _tip(row: SpeculativeRow, i: int, state: str) -> str:
    if state == "wasted":
        return "after the end of the text"
    if state == "unchecked":
        return "after a rejection: drawn for a text that is not written"
    p, q = _guess(row, i)
    return f"p = {p:.2g}, q = {q:.2g}, drawn {float(row.u[i]):.2g}"


def _guess(row: SpeculativeRow, i: int) -> tuple[float, float]:
    """The probability of guess i, for the target and for the drafter."""
    token = row.guesses[i]
    return float(row.p[i, token]), float(row.q[i, token])


def _caption(step: SpeculativeStep, frame: _Frame, name: Callable[[int], str]) -> str:
    row, i = step.rows[0], frame.i
    gamma = len(row.guesses)
    if i == -1:
        return _written(step, frame.r)
    token = f"“{visible(name(row.guesses[i] if i < gamma else row.tokens[-1]))}”"
    if i == gamma:
        return _added(row, token)
    (p, q), u = _guess(row, i), float(row.u[i])
    if p in (0, 1) and q == 1:  # greedy
        said = f"{token}: the target's own choice is “{visible(name(int(row.p[i].argmax())))}”"
        return f"{said} too: accepted." if p else f"{said}: rejected.{_after(row, i)}"
    if p >= q:
        return f"{token}: p = {p:.2g} is no less than q = {q:.2g}, so it is kept in any case."
    said = f"{token}: kept with the probability p / q = {p:.2g} / {q:.2g} = {p / q:.2g}"
    if i < row.accepted:
        return f"{said}. The number drawn is {u:.2g}, below it: accepted."
    return f"{said}. The number drawn is {u:.2g}, not below it: rejected.{_after(row, i)}"


def _after(row: SpeculativeRow, i: int) -> str:
    left = len(row.guesses) - i - 1
    after = "one after it was" if left == 1 else f"{left} after it were"
    return f" The {after} drawn for another text: never checked." if left else ""


def _written(step: SpeculativeStep, r: int) -> str:
    row, ms = step.rows[0], _MS * step.verify_seconds
    gamma = len(row.guesses)
    read = "The target reads all of them in one pass" if gamma else "The target reads one token"
    first = ", and the prompt with them" if r == 0 else ""
    if gamma == 0:
        return f"Round {r + 1}: no guess. {read}{first}: {ms:.1f} ms."
    return (
        f"Round {r + 1}: {gamma} guesses, one after the other, in "
        f"{_MS * step.draft_seconds:.1f} ms. {read}{first}: {ms:.1f} ms."
    )


def _added(row: SpeculativeRow, token: str) -> str:
    if row.accepted == len(row.guesses):
        kept = "All guesses are kept" if row.guesses else "There was no guess"
        return (
            f"{kept}. {token} is drawn from the target's p after the last guess, at no more cost."
        )
    return (
        f"{token} replaces the rejected guess. It is drawn from what p has more than q, so that "
        "both ways together give every token exactly its p."
    )


def _bars(row: SpeculativeRow, frame: _Frame, step: int, name: Callable[[int], str]) -> BarsAt:
    """The distributions at one place, over the tokens that matter there and all others together."""
    if frame.i == -1:
        waiting = "the target has not read these guesses yet" if row.guesses else "no guess"
        return BarsAt(step, f"Round {frame.r + 1}: {waiting}", (), ())
    i = min(frame.i, row.accepted)  # the added token is drawn where the first guess was not kept
    p = row.p[i]
    judged = i < len(row.guesses)
    q = row.q[i] if judged else torch.zeros_like(p)
    overlap = torch.minimum(p, q)
    rest = residual(p, q) if judged else torch.zeros_like(p)
    series = torch.stack((p, q, overlap, rest))  # (4, V)
    added = frame.i == len(row.guesses)
    now = row.tokens[-1] if added else row.guesses[frame.i]
    tokens = _likeliest(row, i, p, q)
    others = series.sum(1) - series[:, tokens].sum(1)
    values = torch.cat((series[:, tokens], others.clamp(min=0)[:, None]), 1).T
    groups = [tuple(round(v, 4) for v in group) for group in values.tolist()]
    shown = len(groups) if any(groups[-1]) else len(tokens)  # greedy: there are no others
    title = f"Round {frame.r + 1}, " + (
        f"guess {i + 1}: the overlaps min(p, q) of all tokens add up to {float(overlap.sum()):.2f}"
        if judged
        else "after the last guess: the target's p alone"
    )
    return BarsAt(
        step,
        title,
        (*(name(token) for token in tokens), "others")[:shown],
        tuple(groups[:shown]),
        tokens.index(now),
    )


def _likeliest(row: SpeculativeRow, i: int, p: Tensor, q: Tensor) -> list[int]:
    """The guess and the added token first, if they stand here; then the most probable ones."""
    here = [row.guesses[i]] if i < len(row.guesses) else []
    if i == row.accepted and len(row.tokens) > row.accepted:
        here.append(row.tokens[-1])
    likely = torch.maximum(p, q)
    ranked = likely.topk(min(SHOWN, int((likely > _ZERO).sum()))).indices.tolist()
    return list(dict.fromkeys([*here, *ranked]))[:SHOWN]


def _plain_bars(plain: Sequence[Step], born: Sequence[int]) -> tuple[Bar, ...]:
    """Each token of the plain run, shown when the other has written as many."""
    ends = [_MS * seconds for seconds in accumulate(step.seconds for step in plain)]
    return tuple(
        Bar(at, start, end, "baseline")
        for at, start, end in zip(born, [0.0, *ends], ends, strict=False)
    )


def _round_bars(
    rounds: Sequence[SpeculativeStep], starts: Sequence[int], frames: Sequence[_Frame]
) -> tuple[Bar, ...]:
    """What a round spent on guessing, on the target's pass, and on all else."""
    bars, now = [], 0.0
    ends = [*starts[1:], len(frames)]
    for step, start, end in zip(rounds, starts, ends, strict=True):
        drafted = now + _MS * step.draft_seconds
        verified = drafted + _MS * step.verify_seconds
        over = max(now + _MS * step.seconds, verified)
        checked = min(start + 1, end - 1)
        bars += [
            Bar(start, now, drafted, "draft"),
            Bar(checked, drafted, verified, "verify"),
            Bar(end - 1, verified, over, "rest"),
        ]
        now = over
    return tuple(bars)


def _numbers(
    plain: Sequence[Step], rounds: Sequence[SpeculativeStep], frames: Sequence[_Frame]
) -> tuple[Number, ...]:
    """What can be counted so far, step by step."""
    most = max(len(step.rows[0].guesses) for step in rounds)
    kept, judged = [0] * most, [0] * most
    committed, texts = 0, []
    slow = [0.0, *accumulate(step.seconds for step in plain)]
    fast = [0.0, *accumulate(step.seconds for step in rounds)]
    for f, frame in enumerate(frames):
        row = rounds[frame.r].rows[0]
        if 0 <= frame.i < len(row.guesses):
            judged[frame.i] += 1
            kept[frame.i] += frame.i < row.accepted
        committed += _commits(row, frame.i)
        over = f + 1 == len(frames) or frames[f + 1].r > frame.r
        faster = f"{slow[committed] / fast[frame.r + 1]:.2f}×" if over else None
        texts.append(
            (
                f"{sum(kept)} of {sum(judged)}",
                "  ".join(f"{k}/{n}" for k, n in zip(kept, judged, strict=True) if n) or "–",
                f"{committed / (frame.r + 1):.2f}" if over else None,
                faster,
            )
        )
    accepted, places, tokens, speed = (tuple(column) for column in zip(*texts, strict=True))
    return (
        Number("kept", accepted, "computed"),
        Number("kept at guess 1, 2, …", places, "computed"),
        Number("tokens a pass", _held(tokens), "computed"),
        Number("faster so far", _held(speed), "measured"),
    )


def _held(texts: Sequence[str | None]) -> tuple[str, ...]:
    """What is known at the end of a round, kept during the next one."""
    known = "–"
    return tuple(known := known if text is None else text for text in texts)


def turns_film(rounds: Sequence[SpeculativeStep]) -> Film:
    """Which of the two models works when, in a run of `decode_speculative`.

    Raises:
        ValueError: no round.
    """
    if not rounds:
        raise ValueError("there is no round to show")
    drafting, verifying, now = [], [], 0.0
    for r, step in enumerate(rounds):
        drafted = now + _MS * step.draft_seconds
        verified = drafted + _MS * step.verify_seconds
        drafting.append(Bar(r, now, drafted, "draft"))
        verifying.append(Bar(r, drafted, verified, "verify"))
        now = max(now + _MS * step.seconds, verified)
    total = list(accumulate(step.seconds for step in rounds))
    small, large = (
        tuple(f"{busy / all_:.0%}" for busy, all_ in zip(accumulate(part), total, strict=True))
        for part in (
            [step.draft_seconds for step in rounds],
            [step.verify_seconds for step in rounds],
        )
    )
    return Film(
        title="The two models take turns",
        hint="While one works, the other waits: the draft cannot go on before it knows which of "
        "its guesses were kept.",
        captions=tuple(_turn(step, r) for r, step in enumerate(rounds)),
        panels=(
            Lanes(
                (
                    Lane("draft", bars=tuple(drafting), notes="token by token"),
                    Lane("target", bars=tuple(verifying), notes="all tokens at once"),
                ),
                title="Time, both on one axis",
                unit="ms",
            ),
        ),
        numbers=(
            Number("of the time the draft works", small, "measured"),
            Number("of the time the target works", large, "measured"),
            Number("both at once", "never", "computed"),
        ),
        unit="round",
    )


def _turn(step: SpeculativeStep, r: int) -> str:
    guesses = max(len(row.guesses) for row in step.rows)
    passes = "no pass" if guesses == 0 else "one pass" if guesses == 1 else f"{guesses} passes"
    read = f"{guesses + 1} tokens" if guesses else "one token"
    prompt = " and the prompt" if r == 0 else ""
    return (
        f"Round {r + 1}: the draft goes through {passes}, one for each guess, in "
        f"{_MS * step.draft_seconds:.1f} ms, and the target waits. Then the target reads {read}"
        f"{prompt} in one pass of {_MS * step.verify_seconds:.1f} ms, and the draft waits."
    )
