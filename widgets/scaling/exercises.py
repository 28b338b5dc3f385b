"""The checks of lesson 12: half the bits of twice the model, a frontier, means that mislead."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from minillm.measure.ranks import page
from minillm.scaling import kbit
from widgets.common.exercises import Verdict, check, exercise, hint, right, run, wrong

__all__ = ["check", "hint"]

# Billions of weights in matrices and in the embedding, and bits of a weight in a matrix
_MODELS = {"small": (1.0, 0.10, 8), "large": (2.0, 0.15, 4)}
_SCALE, _GROUP = 16, 32  # bits of a scale, and weights that share it
_FOUND = 0.05


@exercise(
    "12.1",
    hints=[
        "Each weight of a matrix costs its bits and 1/32 of a scale of 16 bits.",
        "GB = billions of weights times bits a weight, over 8; the embedding has 16 bits a weight.",
        "Third: take the large one's embedding off the small one's GB. How many weights fit?",
    ],
)
def sizes(answer: Any) -> Verdict:
    """GB of the small model and of the large one; billions of weights in the same memory."""
    if not isinstance(answer, tuple | list) or len(answer) != 3:
        return wrong("Expected three numbers: GB small, GB large, billions of weights.")
    said = dict(zip((*_MODELS, "same"), map(float, answer), strict=True))
    for name, (weights, embedding, bits) in _MODELS.items():
        true = _gigabytes(weights, embedding, bits)
        if not _near(said[name], true):
            why = {
                weights * bits / 8 + embedding * 2: "Scales are stored as well.",
                (weights + embedding) * _stored(bits) / 8: "The embedding stays in 16 bits.",
                weights * _stored(bits) / 8: "And the embedding?",
                weights * bits / 8: "Scales and the embedding are stored as well.",
                weights * (bits + _SCALE) / 8 + embedding * 2: "32 weights share one scale.",
                8 * true: "Eight bits are one byte.",
            }
            return wrong(f"{name}: {said[name]:g} GB is not it.", _why(why, said[name]))
    (few, head, eight), (_, embedding, four) = _MODELS.values()
    room = _gigabytes(few, head, eight) - 2 * embedding
    fits = 8 * room / _stored(four)
    if not _near(said["same"], fits):
        why = {
            2
            * few: "That is twice the weights, which takes more memory than the small model does.",
            few * _stored(eight) / _stored(four): "The two embeddings are not of one size.",
            8 * (room + 2 * embedding) / _stored(four): "Its embedding needs room as well.",
            8 * room / four: "Scales are stored as well.",
            fits + embedding: "Those of its matrices alone; the embedding is not counted.",
        }
        return wrong(f"In the same memory: {said['same']:g} is not it.", _why(why, said["same"]))
    return right(
        f"{said['small']:.4g} GB, {said['large']:.4g} GB; {fits:.3g} billion instead of 2.",
        "Half the bits buy less than twice the weights: scales and embedding do not halve. A law "
        "of bits must count all that is stored.",
    )


def _stored(bits: float) -> float:
    return bits + _SCALE / _GROUP


def _gigabytes(weights: float, embedding: float, bits: float) -> float:
    return (weights * _stored(bits) + 16 * embedding) / 8


def _near(value: float, true: float) -> bool:
    return math.isclose(value, true, rel_tol=2e-3)


def _why(reasons: dict[float, str], value: float) -> str:
    return next((text for wanted, text in reasons.items() if _near(value, wanted)), "Count again.")


_Points = list[tuple[int, float]]


@exercise(
    "12.2",
    hints=[
        "Sort the points by bits; of equal bits the lowest loss comes first.",
        "Walk from the smallest on, and remember the lowest loss so far.",
        "Keep a point only if its loss is below all that came before it.",
    ],
)
def frontier(answer: Any) -> Verdict:
    """A function of (bits, loss) pairs -> those that no other beats, from the fewest bits on."""
    family = [point for point in kbit.read() if point.embedding]
    cases: list[_Points] = [
        [(1, 5), (2, 4), (3, 3)],
        [(3, 3), (1, 5), (2, 4)],
        [(1, 3), (2, 4), (3, 2)],
        [(1, 5), (2, 3), (2, 4)],
        [(1, 5), (2, 4), (2, 3)],
        [(1, 3), (2, 3)],
        [(4, 1)],
        [(1, 4), (2, 5), (3, 4.5), (4, 3.9), (5, 6), (6, 1)],
        [(point.stored, point.loss) for point in family],
    ]
    for case in cases:
        given = list(case)
        got = run(answer, given)
        if got is None:
            return wrong("Expected a list of points, got nothing.", "Is there a return?")
        if given != case:
            return wrong("The list that was passed in has changed.", "sorted(points) is a new one.")
        kept = [(bits, loss) for bits, loss in got]
        true = _frontier(case)
        if kept != true:
            return wrong(
                f"{_shown(case)}: expected {_shown(true)}, got {_shown(kept)}.",
                _mistake(case, kept, true),
            )
    bits = [point.bits for point in kbit.frontier(family)]
    return right(
        f"Of the family's {len(family)} points {len(bits)} are worth having; their bits a weight, "
        f"from the smallest on: {', '.join(map(str, bits))}.",
        "No interpolation, and no winner: just models that none beats with as few bits.",
    )


def _frontier(points: _Points) -> _Points:
    family = [kbit.KBit("", 4, True, bits, loss) for bits, loss in points]
    return [(point.stored, point.loss) for point in kbit.frontier(family)]


def _mistake(points: _Points, kept: _Points, true: _Points) -> str:
    if sorted(kept) == true:
        return "Right, but not from the fewest bits on."
    extra = [point for point in kept if point not in true]
    if any(point[0] == other[0] for point in extra for other in points if other[1] < point[1]):
        return "Of points with equal bits the lowest loss beats the others."
    if any(point[1] == other[1] for point in extra for other in points if other[0] < point[0]):
        return "A loss that fewer bits reach as well is no gain."
    if len(kept) == len(points):
        return "Every point is there. Which are beaten by one with as few bits?"
    if extra:
        return "Compare with the lowest loss of all before it, not with the last point alone."
    return "A point is missing that no other beats."


def _shown(points: _Points) -> str:
    few = ", ".join(f"({bits:g}, {loss:g})" for bits, loss in points[:6])
    return f"[{few}{', ...' if len(points) > 6 else ''}]"


@exercise(
    "12.3",
    hints=[
        "Page's test sees only the order within a row, not by how much a value is larger.",
        "What does one row with very large numbers do to the mean of five?",
        "Up: one row rises by hundreds, the others fall by ones. Down: the other way round.",
    ],
)
def means(answer: Any) -> Verdict:
    """Two tables of five seeds by four numbers of tokens, on which mean and test disagree."""
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        return wrong("Expected two tables: (up, down), each five rows of four numbers.")
    found = []
    for name, table in zip(("up", "down"), answer, strict=True):
        rows = [[float(x) for x in row] for row in table]
        if len(rows) != 5 or any(len(row) != 4 for row in rows):
            return wrong(f"{name}: expected five rows (seeds) of four numbers (tokens).")
        if not all(math.isfinite(x) for row in rows for x in row):
            return wrong(f"{name}: all numbers must be finite.")
        mean = [sum(column) / 5 for column in zip(*rows, strict=True)]
        steps = [b - a for a, b in pairwise(mean)]
        p = float(page(rows).p)
        found.append(p)
        shown = "[" + ", ".join(f"{x:g}" for x in mean) + "]"
        if name == "up" and not all(step > 0 for step in steps):
            return wrong(f"up: the means are {shown}.", "They have to rise at every step.")
        if name == "down" and not all(step < 0 for step in steps):
            return wrong(f"down: the means are {shown}.", "They have to fall at every step.")
        if name == "up" and p <= _FOUND:
            return wrong(
                f"up: the means rise, and the test finds it too, p = {p:.2g}.",
                "It has to find nothing, p above 0.05. Let one seed alone make the means.",
            )
        if name == "down" and p > _FOUND:
            return wrong(
                f"down: the means fall, and the test finds no growth, p = {p:.2g}.",
                "It has to find growth, p up to 0.05. How many of five rows may rise?",
            )
    return right(
        f"Up: p = {found[0]:.2g}, though the means rise. Down: p = {found[1]:.2g}, though they "
        "fall.",
        "A curve of means can be the work of one seed. Look at each of them, as the explorer lets "
        "you, before you believe a mean, or a test.",
    )
