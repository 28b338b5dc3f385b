"""Exercises that judge what the reader wrote, and say which mistake it is."""

from widgets.common.exercises.exercise import (
    Answer,
    Verdict,
    check,
    exercise,
    hint,
    judge,
    right,
    run,
    wrong,
)

__all__ = ["Answer", "Verdict", "check", "exercise", "hint", "judge", "right", "run", "wrong"]
