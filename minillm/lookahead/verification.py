"""Verify several guesses at once: which of them goes furthest with what the model chooses?

All guesses continue the same token. The model's choice after it judges the first token of each;
the choice after a guessed token judges the next, and counts only if all before it were right. So
what comes out is what the model alone would have chosen, whatever the guesses are, and one token
more than agreed: a guess of N - 1 tokens that is right to its end gives N.

Source: arXiv 2402.02057, algorithm 3; the authors' program cuts a full match by one.
"""

from collections.abc import Sequence
from typing import NamedTuple

from minillm.speculative.verification import verify_greedy

__all__ = ["Agreement", "agree"]


class Agreement(NamedTuple):
    """How far the choices go along the best guess.

    Attributes:
        best: the guess that goes furthest, the first of equals; None where none has a right token.
        tokens: the choices: those that the guess foresaw, and the one after them.
        places: where among the choices they are.
    """

    best: int | None
    tokens: list[int]
    places: list[int]


def agree(guesses: Sequence[Sequence[int]], chosen: Sequence[int]) -> Agreement:
    """Judge guesses of one length.

    Args:
        guesses: continuations of one token.
        chosen: what the model chooses after that token, then after each token of each guess.

    >>> agree([(5, 6), (7, 8)], [7, 1, 2, 8, 9])
    Agreement(best=1, tokens=[7, 8, 9], places=[0, 3, 4])
    """
    best, places = None, [0]
    for index, guess in enumerate(guesses):
        start = 1 + index * len(guess)
        chain = [0, *range(start, start + len(guess))]  # the choice after each of its tokens
        agreed, _ = verify_greedy([chosen[place] for place in chain], guess)
        if agreed >= len(places):
            best, places = index, chain[: agreed + 1]
    return Agreement(best, [chosen[place] for place in places], places)
