"""Exercises that check what the reader wrote, and say in words what is wrong with it.

A lesson registers a checker for each of its exercises:

    @exercise("02.2", hints=["Row 0 is the oldest of the new tokens."])
    def _(mask: Answer) -> Verdict:
        got = run(mask, 2, 3)
        return right("...") if ... else wrong("With 2 new tokens over 3 cached ones ...")

and the notebook calls `check("02.2", causal_mask)`. The checker gets the reader's own function. It
calls it with `run`, which turns whatever may happen inside into a verdict: an exception is told in
one line with the reader's line, an endless loop is stopped, an empty body counts as unanswered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from widgets.common.card import OPEN, RIGHT, WRONG, Card, Note, Statement
from widgets.common.exercises.attempt import (
    Answer,
    Stopped,
    Verdict,
    empty,
    right,
    run,
    told,
    unanswered,
    wrong,
)
from widgets.common.stable import verbatim
from widgets.common.strings import say

__all__ = ["Answer", "Verdict", "check", "exercise", "hint", "judge", "right", "run", "wrong"]

_MARKS = {"right": RIGHT, "wrong": WRONG, "open": OPEN}


@dataclass(frozen=True)
class Exercise:
    """A checker with the hints for its exercise."""

    key: str
    checker: Callable[[Answer], Verdict]
    hints: tuple[str, ...]


_exercises: dict[str, Exercise] = {}


def exercise(
    key: str, *, hints: Sequence[str] = ()
) -> Callable[[Callable[[Answer], Verdict]], Callable[[Answer], Verdict]]:
    """Register the decorated checker under `key`, such as "02.1"."""

    def register(checker: Callable[[Answer], Verdict]) -> Callable[[Answer], Verdict]:
        _exercises[key] = Exercise(key, checker, tuple(hints))
        return checker

    return register


def find(key: str) -> Exercise:
    """The exercise of that key.

    Raises:
        ValueError: there is none; the message lists those of the imported lessons.
    """
    if key not in _exercises:
        known = ", ".join(sorted(_exercises)) or "none"
        raise ValueError(f"no exercise {key!r}: the lessons imported so far have {known}")
    return _exercises[key]


def judge(key: str, answer: Answer) -> Verdict:
    """The verdict on an answer; whatever the answer does, this raises nothing."""
    checker = find(key).checker
    if empty(answer):
        return unanswered()
    try:
        return checker(answer)
    except Stopped as stopped:
        return stopped.verdict
    except Exception as error:  # what came back is of a kind that cannot even be compared
        return wrong(say("exercise.kind", error=told(error)))


def check(key: str, answer: Answer) -> Card:
    """Show the verdict on an answer, and hints as long as it is not right."""
    verdict = judge(key, answer)
    hints = () if verdict.grade == "right" else _folds(find(key))
    said = Statement(_MARKS[verdict.grade], verbatim(verdict.says), verbatim(verdict.look))
    return Note(say("exercise.heading", exercise=key), (said,), hints).card()


def hint(key: str) -> Card:
    """Show the hints for an exercise, each folded."""
    hints = _folds(find(key))
    heading = f"{say('exercise.heading', exercise=key)}: {say('exercise.hints')}"
    return Note(heading, (), hints).card()


def _folds(of: Exercise) -> tuple[tuple[str, str], ...]:
    n = len(of.hints)
    return tuple((say("exercise.hint", i=i, n=n), text) for i, text in enumerate(of.hints, 1))
