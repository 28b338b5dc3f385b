"""The checks of lesson 07: passes and their price, what becomes text, laws of 16, 9, 2 passes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from operator import index
from typing import Any

from minillm.decoding import collect, decode_cached
from minillm.jacobi import decode_jacobi
from widgets.common.exercises import Verdict, check, exercise, hint, right, run, wrong
from widgets.jacobi.laws import Law, LawModel

__all__ = [
    "A_PASS",
    "BLOCK",
    "COST",
    "STOP",
    "TOKENS",
    "VOCABULARY",
    "check",
    "guarded",
    "hint",
    "passes_of",
]

TOKENS, BLOCK, A_PASS, COST = 96, 16, 1.2, 1.5  # of exercise 07.1
STOP = 0  # of exercise 07.2
VOCABULARY = 100  # of exercise 07.3


@exercise(
    "07.1",
    hints=[
        "At best every guess is right. How many passes does it take to know that, for one block?",
        "At worst every guess is wrong, and stays wrong until its turn comes.",
        "The speed-up is what a pass yields over what it costs, both in units of plain decoding.",
    ],
)
def counted(answer: Any) -> Verdict:
    """Fewest and most passes of TOKENS tokens in blocks of BLOCK; the speed-up at A_PASS, COST."""
    if not isinstance(answer, tuple | list) or len(answer) != 3:
        return wrong("Expected three numbers: fewest passes, most passes, speed-up.")
    fewest, most, speedup = map(float, answer)
    blocks = TOKENS // BLOCK
    if fewest != blocks:
        why = {
            2 * blocks: "Does a second pass have to confirm the first? Where the choices equal "
            "the guesses that were read, every choice was made after right text.",
            1: "Only one block is iterated at a time; the next starts after it.",
            TOKENS: "That is at worst. At best a pass settles a whole block.",
            BLOCK: "That is how many tokens a block has, not how many blocks there are.",
        }
        look = why.get(int(fewest), "How many blocks are there, and how often is each read?")
        return wrong(f"At best: {fewest:g} passes is not it.", look)
    if most != TOKENS:
        why = {
            TOKENS + blocks: "The pass that settles the last token of a block is its last: nothing "
            "is left that could change.",
            BLOCK: "That is one block; there are others.",
            blocks: "That is at best.",
        }
        look = why.get(int(most), "How many tokens does a pass settle at the very least?")
        return wrong(f"At worst: {most:g} passes is not it.", look)
    true = A_PASS / COST
    if abs(speedup / true - 1) > 0.01:
        mistakes = {
            "Upside down: that is how much longer it takes.": 1 / true,
            "The passes got longer, too: each takes 1.5 times as long.": A_PASS,
            "A longer pass costs; it does not gain.": A_PASS * COST,
        }
        near = (said for said, number in mistakes.items() if abs(speedup / number - 1) < 0.01)
        look = next(near, "Tokens a pass over the cost of a pass.")
        return wrong(f"Speed-up: {speedup:.3g} is not it.", look)
    return right(
        f"{blocks} passes at best, {TOKENS} at worst, as in plain decoding.",
        f"And {A_PASS} tokens a pass at {COST} times the price are {true:.2f} times the speed: "
        "fewer passes, and slower.",
    )


_CASES: dict[str, tuple[list[int], list[int]]] = {  # guesses, choices; the stop token is STOP
    "the first choice differs": ([7, 8, 9, 4], [5, 8, 9, 4]),
    "two guesses are right": ([5, 6, 9, 4, 1], [5, 6, 7, 4, 2]),
    "all are right": ([5, 6, 7], [5, 6, 7]),
    "a stop among right guesses": ([5, 0, 7, 8], [5, 0, 7, 8]),
    "the first choice that differs is the stop": ([5, 6, 7], [5, 0, 7]),
    "a stop chosen after a wrong guess": ([5, 6, 0, 8], [5, 9, 0, 8]),
    "only a guess is the stop": ([5, 0, 7], [5, 6, 7]),
    "a block of one": ([3], [0]),
}


@exercise(
    "07.2",
    hints=[
        "Without a stop token it is the loop of section 3: the guesses that are right from the "
        "start, and one choice more.",
        "The loop goes on while a choice equals its guess. When must it end although they agree?",
        "Plain decoding writes the stop token and ends. So must you: the stop is the last token.",
    ],
)
def commit(answer: Any) -> Verdict:
    """A function (guesses, choices, stop) -> (choices that become text, guesses still to read)."""
    for name, (guesses, chosen) in _CASES.items():
        got = run(answer, list(guesses), list(chosen), STOP)
        if got is None:
            return wrong("Expected two lists of tokens, got nothing.", "Is there a return?")
        if not isinstance(got, tuple | list) or len(got) != 2 or isinstance(got[0], int):
            return wrong("Expected two lists: what becomes text, and the guesses for the rest.")
        tokens, rest = ([index(token) for token in part] for part in got)
        true = _committed(guesses, chosen)
        call = f"committed({guesses}, {chosen}, {STOP}), {name}"
        if tokens != true:
            told = f"{call}: expected {true} as text, got {tokens}."
            return wrong(told, _why_committed(tokens, guesses, chosen))
        left = [] if true[-1] == STOP else chosen[len(true) :]
        if rest != left:
            told = f"{call}: expected {left} as the next guesses, got {rest}."
            return wrong(told, _why_rest(rest, true, guesses))
    return right(
        "The settled choices, up to the stop token, and what is left of the block: decode_jacobi "
        "does the same.",
        "Two public decoders ran past a stop among accepted guesses: lesson 04, section 6.",
    )


def _settled(guesses: Sequence[int], chosen: Sequence[int]) -> int:
    agree = accumulate((a == b for a, b in zip(guesses, chosen, strict=True)), min)
    return min(1 + sum(agree), len(chosen))


def _until_stop(tokens: list[int]) -> list[int]:
    return tokens[: tokens.index(STOP) + 1] if STOP in tokens else tokens


def _committed(guesses: Sequence[int], chosen: list[int]) -> list[int]:
    return _until_stop(chosen[: _settled(guesses, chosen)])


def _why_committed(got: list[int], guesses: list[int], chosen: list[int]) -> str:
    true, settled = _committed(guesses, chosen), chosen[: _settled(guesses, chosen)]
    if true[-1] == STOP and got == settled:
        return "The text ends at the stop token: what was chosen after it is never read."
    if true[-1] == STOP and got == true[:-1]:
        return "The stop token is written, too: plain decoding writes it and ends."
    if got != chosen[: len(got)]:
        return "Only choices become text, from the first one on and without a gap."
    return _why_settled(len(got), guesses, chosen)


def _why_rest(got: list[int], true: list[int], guesses: list[int]) -> str:
    if true[-1] == STOP:
        return "The text has ended: no pass reads anything after the stop."
    if got == guesses[len(true) :]:
        return "These were read already. What the pass chose there is the better guess."
    return "The choices behind the settled ones, as long as the block."


def _why_settled(got: int, guesses: list[int], chosen: list[int]) -> str:
    agreed = sum(accumulate((a == b for a, b in zip(guesses, chosen, strict=True)), min))
    anywhere = sum(a == b for a, b in zip(guesses, chosen, strict=True))
    if got in (anywhere, anywhere + 1) and anywhere > agreed:
        return (
            "A guess that is right after a wrong one does not count: what stands there was chosen "
            "after a wrong text. Count from the start, up to the first that differs."
        )
    if got == agreed:
        return "The first choice that differs is right as well: all tokens before it are."
    if got > agreed + 1:
        return "What was chosen after the first changed token saw the wrong one."
    return "Count the guesses that are right from the start, and one more."


@exercise(
    "07.3",
    hints=[
        "What does a choice need? If it needs the token right before it, it is wrong until that "
        "one has settled.",
        "If it needs nothing of the block, the first pass gets all right. Why does it take one "
        "more?",
        "If it needs only the token two places before it, two chains run side by side.",
    ],
)
def laws(answer: Any) -> Verdict:
    """Three functions text -> next token: 16, 9 and 2 passes for 16 tokens, all guesses wrong."""
    if not isinstance(answer, tuple | list) or len(answer) != 3:
        return wrong("Expected three functions: (sixteen, nine, two).")
    for law, wanted in zip(answer, (16, 9, 2), strict=True):
        for away in (1, 37):
            got = passes_of(law, away)
            if isinstance(got, Verdict):
                return got
            if got != wanted:
                said = f"The one for {wanted} passes: from guesses that are {away} too large it "
                return wrong(f"{said}takes {got}.", _why_passes(wanted, got))
    return right(
        "16, 9 and 2 passes: what counts is how far back a token looks inside of its block.",
        "A language model looks at the token right before it most of all, so it is close to the "
        "first.",
    )


def guarded(law: Law) -> Law:
    """A reader's law that is asked safely; TypeError where it returns no whole number."""

    def ask(text: list[int]) -> int:
        token = run(law, list(text))
        if isinstance(token, bool) or not isinstance(token, int):
            raise TypeError(f"a token is a whole number, not {type(token).__name__}")
        return token

    return ask


def passes_of(law: Law, away: int) -> int | Verdict:
    """Passes for 16 tokens in a block of 16 from guesses that are wrong by `away`."""
    model, prompt = LawModel(guarded(law), VOCABULARY), [3, 1, 4, 1, 5]
    try:
        [text] = collect(decode_cached(model, [prompt], max_new_tokens=16))
        guesses = [(token + away) % VOCABULARY for token in text]
        steps = list(
            decode_jacobi(
                model, [prompt], block=16, guess=lambda *_: list(guesses), max_new_tokens=16
            )
        )
    except (TypeError, ValueError) as error:
        return wrong(f"That names no token: {error}.", "Return a number from 0 to 99.")
    if collect(iter(steps)) != [text]:
        return wrong(
            "The same text had different next tokens.", "The function must depend on nothing else."
        )
    return len(steps)


def _why_passes(wanted: int, got: int) -> str:
    if wanted == 16:
        if got < 16:
            return (
                "Some token came right although the one before it was wrong. Make every token "
                "depend on the one before, so that a wrong one makes the next wrong."
            )
    elif wanted == 9:
        if got == 16:
            return "Each token waits for the one before it. Which one may it look at instead?"
        return "Tokens come right too soon: each should need one that is two places before it."
    elif got == 1:
        return "The guesses were to be wrong everywhere."
    return "No token may look at another one of the block."
