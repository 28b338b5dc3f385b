"""The checks of lesson 08: what a pass costs, guesses that begin alike, what lookahead lives on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from minillm.checkpoint import opened
from minillm.data.heldout import stories
from minillm.decoding import collect, decode_cached
from minillm.jacobi import decode_jacobi
from minillm.lookahead.decode import decode_lookahead
from minillm.lookahead.pool import NGramPool
from minillm.tokens import encode
from widgets.common.exercises import Verdict, check, exercise, hint, right, run, wrong
from widgets.jacobi import LawModel
from widgets.jacobi.exercises import guarded
from widgets.jacobi.laws import Law

__all__ = ["FREE", "SIZES", "VOCABULARY", "check", "hint", "tokens_a_pass"]

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


@exercise(
    "08.2",
    hints=[
        "When is what the model computes for two tokens the same? They are equal, and so is all "
        "that they see.",
        "So one token stands for each distinct beginning of a guess: {g[:n]}.",
        "One beginning sees another if it starts with it.",
    ],
)
def merged(answer: Any) -> Verdict:
    """A function (guesses) -> (tokens, sees): each distinct beginning of a guess read once."""
    for guesses in _ALIKE:
        got = run(answer, [list(guess) for guess in guesses])
        if not isinstance(got, tuple | list) or len(got) != 2:
            return wrong("Expected two things: the tokens, and who sees whom.")
        tokens = [int(token) for token in got[0]]
        sees = [[bool(seen) for seen in row] for row in got[1]]
        if {len(sees), *map(len, sees)} != {len(tokens)}:
            return wrong(f"{len(tokens)} tokens, but the table is not so wide and so high.")
        found = _why_merged(guesses, tokens, sees)
        if found:
            said, look = found
            return wrong(f"merged({_shown(guesses)}): {said}", look)
    apart, together = _read_in_stories()
    return right(
        f"Each beginning is read once. The guesses for ten stories (N = 4, G = 5) have {apart:,} "
        f"tokens, merged {together:,}.",
        f"That spares {1 - together / apart:.0%}: n-grams of a pool rarely begin alike. Guesses of "
        "a draft model do so more often: SpecInfer verifies such a tree (arXiv 2305.09781).",
    )


Guesses = Sequence[tuple[int, ...]]

_ALIKE: tuple[Guesses, ...] = (
    [(1, 2), (3, 2)],  # the same token after another past
    [(1, 2, 3), (1, 2, 4)],  # the same beginning
    [(1, 2, 3), (2, 3, 1)],  # at another place
    [(7, 7, 7)],
    [(1, 2), (1, 2)],
    [(1, 2, 3), (1, 4, 3), (1, 2, 5), (6, 2, 3)],
    [],
)


def _beginnings(guesses: Guesses) -> set[tuple[int, ...]]:
    return {guess[: n + 1] for guess in guesses for n in range(len(guess))}


def _seen(tokens: Sequence[int], sees: Sequence[Sequence[bool]]) -> list[tuple[int, ...]]:
    """What each token sees, in the order of their places: who sees fewer stands earlier."""
    order = sorted(range(len(tokens)), key=lambda r: sum(sees[r]))
    return [tuple(tokens[c] for c in order if row[c]) for row in sees]


def _why_merged(
    guesses: Guesses, tokens: list[int], sees: list[list[bool]]
) -> tuple[str, str] | None:
    """What is wrong with it, and where to look; None if nothing is."""
    true, seen = _beginnings(guesses), _seen(tokens, sees)
    if sorted(seen) == sorted(true) and all(sees[i][i] for i in range(len(tokens))):
        return None
    told = f"{len(tokens)} tokens for {len(true)} different beginnings."
    if len(tokens) < len(true):
        return told, (
            "Equal tokens that see different ones are not the same: their keys and logits differ."
        )
    if len(tokens) > len(true):
        return told, "What begins alike is to be read once, with all its tokens so far."
    row = next((i for i in range(len(tokens)) if not sees[i][i]), None)
    if row is not None:
        return f"row {row} does not see its own token {tokens[row]}.", "A token sees itself."
    if sorted(_seen(tokens, [*map(list, zip(*sees, strict=True))])) == sorted(true):
        return "the table is turned.", "The row looks, the column is looked at."
    row = next((i for i, text in enumerate(seen) if text not in true), None)
    if row is None:
        twice = next(text for text in seen if seen.count(text) > 1)
        return f"{list(twice)} is read twice.", "Read each beginning once, and leave none out."
    told = f"the token {tokens[row]} in row {row} sees {list(seen[row])}, no beginning of a guess."
    if sum(map(sum, sees)) > sum(map(len, true)):
        return told, "Only what stands before it in its own guess: another guess is a rival."
    return told, "It sees all that stands before it in its guess, as if the guess stood alone."


def _shown(guesses: Guesses) -> str:
    return str([list(guess) for guess in guesses])


@cache
def _read_in_stories() -> tuple[int, int]:
    """Tokens of all guesses that a pool has while a text is written: as they are, and merged."""
    N, G = 4, 5
    tokenizer, pool = opened("stories-draft").tokenizer, NGramPool(N, G)
    text = [token for story in stories()[:10] for token in encode(tokenizer, story)]
    apart = together = 0
    for end, token in enumerate(text, start=1):
        pool.add_text(text[max(0, end - N) : end])
        guesses = pool.guesses(token)
        apart += sum(map(len, guesses))
        together += len(_beginnings(guesses))
    return apart, together


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
