"""The checks of lesson 08: what a pass costs, who sees whom in it, what lookahead lives on."""

from __future__ import annotations

from typing import Any

from minillm.decoding import collect, decode_cached
from minillm.jacobi import decode_jacobi
from minillm.lookahead.decode import decode_lookahead
from minillm.lookahead.mask import lookahead_layout
from widgets.common.exercises import Verdict, check, exercise, hint, right, run, wrong
from widgets.jacobi import LawModel
from widgets.jacobi.exercises import guarded
from widgets.jacobi.laws import Law
from widgets.lookahead.mask import SENTENCES, Place, places, reason

__all__ = ["FREE", "SIZES", "VOCABULARY", "Place", "check", "hint", "tokens_a_pass"]

SIZES = {"W": 15, "N": 5, "G": 15}  # the authors' own, for a model of 7 billion parameters
FREE = 40  # tokens that the machine of exercise 08.1 evaluates in the time of one
VOCABULARY = 1000  # of exercise 08.3


@exercise(
    "08.1",
    hints=[
        "The window has N - 1 lines of W tokens, a guess has N - 1 tokens.",
        "At most a whole guess is right. What does the model add after it?",
        "Up to FREE tokens a pass takes as long as one; twice as many take twice as long.",
    ],
)
def price(answer: Any) -> Verdict:
    """Tokens read, most tokens settled, and tokens a pass at which it breaks even."""
    if not isinstance(answer, tuple | list) or len(answer) != 3:
        return wrong("Expected three numbers: tokens read, most tokens settled, break-even.")
    read, most, even = map(float, answer)
    W, N, G = SIZES.values()
    true = (W + G) * (N - 1)
    if read != true:
        why = {
            (W + G) * N: "The token that completes an n-gram is chosen, not read.",
            W * (N - 1): "The guesses are read in the same pass.",
            G * (N - 1): "The window is read in the same pass.",
            W * G * (N - 1): "Window and guesses stand side by side: their tokens add up.",
            W + G: "Each column of the window and each guess has N - 1 tokens.",
        }
        look = why.get(int(read), "Count the window's tokens, and those of the guesses.")
        return wrong(f"Read: {read:g} tokens is not it.", look)
    if most != N:
        why = {
            N - 1: "And the model's own choice after the guess: it is there anyway. Exactly this "
            "token was lost in the authors' program.",
            N + 1: "One too many: a guess has N - 1 tokens, since the newest token begins the "
            "n-gram.",
            G * (N - 1): "All guesses continue the same token: only one of them can become text.",
        }
        look = why.get(int(most), "How long is a guess, and what comes after it?")
        return wrong(f"At most: {most:g} tokens is not it.", look)
    if abs(even - true / FREE) > 0.01:
        mistakes = {
            1.0: "That would do if the pass were as short as one token's.",
            float(true): "That would be needed if no token were free.",
            FREE / true: "Upside down.",
            float(FREE): "That is how many tokens are free.",
        }
        look = mistakes.get(even, "How many times as long as one token does the pass take?")
        return wrong(f"Break-even: {even:g} tokens a pass is not it.", look)
    return right(
        f"{true} tokens are read for at most {N}, and {true / FREE:g} a pass are needed.",
        "Five tokens would be the rarest of passes: on such a machine a smaller window is better.",
    )


_LAYOUTS = (((4,), 0, 0), ((1,), 2, 3), ((4, 4), 1, 2), ((3, 3, 3), 2, 3), ((5, 4), 3, 1))


@exercise(
    "08.2",
    hints=[
        "Take guesses first: what does a guess continue, and what may it see of itself?",
        "Line 0 is a text: each of its tokens sees those before it and itself, nothing else.",
        "A token of a lower line sees line 0 up to its own column, and its column down to itself.",
    ],
)
def mask(answer: Any) -> Verdict:
    """A function (me, other) -> bool of two `Place`s: whether me sees other."""
    for window, guesses, length in _LAYOUTS:
        layout = lookahead_layout(window, guesses, length)
        stand = places(layout)
        for r, me in enumerate(stand):
            for c, other in enumerate(stand):
                got = run(answer, me, other)
                if got is None:
                    return wrong("Expected True or False, got nothing.", "Is there a return?")
                true = bool(layout.mask[r, c])
                if bool(got) != true:
                    told = f"{_said(me)} and {_said(other)}: expected {true}, got {bool(got)}."
                    return wrong(told, SENTENCES[reason(me, other)])
    return right(
        "The same as lookahead_layout, for windows and guesses of all kinds.",
        "One mask does both branches in one pass; that is all that lookahead asks of the model.",
    )


def _said(place: Place) -> str:
    line = f"guess {place.line}" if place.guess else f"line {place.line}"
    return f"{line}, column {place.column}"


@exercise(
    "08.3",
    hints=[
        "An n-gram from the window helps if it is right wherever its first token appears.",
        "So let a token depend on the one before it only: Jacobi's worst case.",
        "And when does its first token appear again? Compare a counter that starts anew after 10 "
        "with one that never does.",
    ],
)
def lives_on(answer: Any) -> Verdict:
    """Two laws on which Jacobi settles one token a pass: lookahead gains on one, not on the other.

    Both are functions text -> next token.
    """
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        return wrong("Expected two functions: (gains, fails).")
    found = []
    for name, law in zip(("gains", "fails"), answer, strict=True):
        got = tokens_a_pass(law)
        if isinstance(got, Verdict):
            return got
        jacobi, lookahead = got
        if jacobi > 1.05:
            return wrong(
                f"{name}: Jacobi settles {jacobi:.2f} tokens a pass.",
                "It is to settle one: let every token depend on the one before it.",
            )
        found.append(lookahead)
    gains, fails = found
    if gains < 2.5:
        return wrong(
            f"gains: lookahead settles {gains:.2f} tokens a pass; at least 2.5 are asked for.",
            "Are its n-grams right, and does the text come back to where they begin?",
        )
    if fails > 1.1:
        return wrong(
            f"fails: lookahead settles {fails:.2f} tokens a pass; at most 1.1 are asked for.",
            "The text still comes back to where an n-gram of the pool begins.",
        )
    return right(
        f"Jacobi: one token a pass, twice. Lookahead: {gains:.2f} and {fails:.2f}.",
        "An n-gram has to be right away from its place, and its place has to come: lookahead lives "
        "on texts that repeat themselves.",
    )


def tokens_a_pass(law: Law) -> tuple[float, float] | Verdict:
    """Of Jacobi (blocks of 16) and of lookahead (W, N, G = 5, 4, 5) on 64 tokens of a law."""
    model, prompt, new = LawModel(guarded(law), VOCABULARY), [3, 1, 4, 1, 5], 64
    try:
        truth = collect(decode_cached(model, [prompt], max_new_tokens=new))
        runs = (
            list(decode_jacobi(model, [prompt], max_new_tokens=new)),
            list(decode_lookahead(model, [prompt], max_new_tokens=new)),
        )
    except (TypeError, ValueError) as error:
        return wrong(f"That names no token: {error}.", "Return a number from 0 to 999.")
    if any(collect(iter(steps)) != truth for steps in runs):
        return wrong(
            "The same text had different next tokens.", "The function must depend on nothing else."
        )
    jacobi, lookahead = (new / len(steps) for steps in runs)
    return jacobi, lookahead
