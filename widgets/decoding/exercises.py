"""The checks of lesson 01: rows without a cache, top-p, and a temperature to find."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor

from minillm.checkpoint import load
from minillm.decoding import decode_recomputed
from minillm.sampling import Sampler
from minillm.tokens import encode
from widgets.common.exercises import Verdict, check, exercise, hint, right, run, wrong
from widgets.common.stable import digits

__all__ = ["BITS", "NEW", "OPENING", "PROMPT", "check", "entropy_bits", "hint"]

PROMPT, NEW = 8, 48  # 01.1: tokens of the prompt, tokens to write
OPENING, BITS = "Once upon a time", 4.0  # 01.3: the text, and the entropy of the token after it


@exercise(
    "01.1",
    hints=[
        "Write the first three forward passes down: how many tokens does each one see?",
        "The first token comes out of a pass over the prompt alone; the last token written is "
        "never forwarded.",
        "The passes see p, p + 1, ..., p + n - 1 tokens: n of them. Sum them up.",
    ],
)
def rows_recomputed(answer: Any) -> Verdict:
    """How many rows go through the layers to write NEW tokens after a prompt of PROMPT?"""
    p, n = PROMPT, NEW
    true = n * p + n * (n - 1) // 2
    mistakes = {
        n * p: "That forwards the prompt every time, but not the tokens already written.",
        n * (n - 1) // 2: "That forwards the new tokens only; every pass sees the prompt as well.",
        n * p + n * (n + 1) // 2: "Nearly: the last token is written, but no pass has to see it.",
        n * (p + n): "That charges every pass for the full text; early passes see a shorter one.",
        (p + n) * (p + n + 1) // 2: "That writes the prompt token by token too; it is forwarded "
        "as a whole by the first pass.",
        p + n: "That is one a token. Without a cache, each pass sees all of the text again.",
        p + n - 1: "That is the work with a cache, the next lesson. Here each pass sees all text.",
    }
    if answer == true:
        steps = _rows_of_a_real_run()
        return right(
            f"{true:,} tokens, and a run of decode_recomputed counts {steps:,}.",
            f"n·p + n(n - 1)/2: the second part grows with the square of n. "
            f"With a cache: {p + n - 1}.",
        )
    return wrong(
        f"Expected the number of tokens over all {n} passes, got {answer:,}.",
        mistakes.get(answer, "Try 3 new tokens after a prompt of 2 by hand: 2 + 3 + 4 = 9 tokens."),
    )


@cache
def _rows_of_a_real_run() -> int:
    model, _ = load("stories")
    steps = decode_recomputed(model, [list(range(1, PROMPT + 1))], max_new_tokens=NEW)
    return sum(step.computed for step in steps)


@exercise(
    "01.2",
    hints=[
        "Sort the probabilities, add them up from the largest, and see where the sum reaches p.",
        "A token stays if what the more probable ones hold together is still below p; so the "
        "one that crosses p stays.",
        "Set the others to zero in their own places, and divide by what is left.",
    ],
)
def top_p(answer: Any) -> Verdict:
    """A function (probabilities of shape (V,), p) -> probabilities, the fewest that reach p."""
    # Eighths and quarters are exact in binary, so that sums reach p exactly where they should.
    cases = [
        ([0.125, 0.5, 0.25, 0.125], 0.6),
        ([0.125, 0.5, 0.25, 0.125], 0.75),
        ([0.0625, 0.9375], 0.5),
        ([0.25, 0.25, 0.25, 0.25], 1.0),
    ]
    for values, p in cases:
        given = torch.tensor(values, dtype=torch.float64)
        got = run(answer, given.clone(), p)
        if not isinstance(got, Tensor):
            return wrong(f"Expected a tensor, got {type(got).__name__}.", "Is there a return?")
        true = Sampler(top_p=p).probabilities(given.log())
        if got.shape != true.shape:
            shape = tuple(got.shape)
            return wrong(
                f"Expected shape ({len(values)},), got {shape}.",
                "Dropped tokens keep their place, with probability 0.",
            )
        if not torch.allclose(got.double(), true, atol=1e-6):
            told = f"top_p({values}, {p}): expected {_shown(true)}, got {_shown(got)}."
            return wrong(told, _why_top_p(given, p, true, got.double()))
    return right(
        "The fewest tokens that reach p, renormalised, each in its place.",
        "It agrees with minillm.Sampler on four distributions, ties and exact sums among them.",
    )


def _why_top_p(given: Tensor, p: float, true: Tensor, got: Tensor) -> str:
    kept, wanted = got > 0, true > 0
    if not bool(torch.isfinite(got).all()) or not bool(kept.any()):
        return "Nothing is left: the most probable token always stays, even if it alone exceeds p."
    if torch.allclose(got.sort().values, true.sort().values, atol=1e-6):
        return "The numbers are right, the order is that of the sorted list: put them back."
    if torch.equal(kept, wanted):
        return f"The right tokens stay, but they sum to {float(got.sum()):.3g}: divide by the sum."
    if int(kept.sum()) == int(wanted.sum()) - 1:
        return "One token too few: the one that makes the sum cross p stays."
    if int(kept.sum()) == int(wanted.sum()) + 1:
        return "One token too many: once the sum has reached p, no further token is needed."
    return "Add up from the most probable token on, and stop when the sum has reached p."


def _shown(p: Tensor) -> str:
    return "[" + ", ".join(f"{value:.3g}" for value in p.tolist()) + "]"


@exercise(
    "01.3",
    hints=[
        "Plot or print the entropy for a few temperatures: it rises with the temperature.",
        "Since it only rises, halve the interval: too flat, go lower; too sharp, go higher.",
        "An entropy in bits uses log2.",
    ],
)
def temperature(answer: Any) -> Verdict:
    """The temperature at which the next token after OPENING has an entropy of BITS."""
    answer = float(answer)
    if not 0 < answer < math.inf:
        return wrong(f"Expected a temperature above 0, got {answer:g}.")
    bits = entropy_bits(answer)
    if abs(bits - BITS) <= 0.05:
        return right(
            f"At temperature {answer:.3g} the entropy is {digits(bits)} bits: as uncertain as a "
            f"fair choice among {2**BITS:.0f} tokens.",
            f"At temperature 1, the model's own, it is {digits(entropy_bits(1.0))} bits.",
        )
    nats = bits * math.log(2)
    if abs(nats - BITS) <= 0.05:
        return wrong(
            f"At {answer:.3g} the entropy is {BITS:g} nats.",
            "Bits were asked for: use log2, or divide nats by ln 2.",
        )
    way = ("flat", "lower") if bits > BITS else ("sharp", "higher")
    return wrong(
        f"At {answer:.3g} the entropy is {digits(bits)} bits, expected {BITS:g}.",
        f"The distribution is too {way[0]}: try a {way[1]} temperature.",
    )


def entropy_bits(temperature: float) -> float:
    """Entropy of the token after OPENING, in bits, at a temperature."""
    p = Sampler(temperature).probabilities(_logits())
    return float(-(p * p.clamp_min(1e-300).log2()).sum())


@cache
def _logits() -> Tensor:
    model, tokenizer = load("stories", dtype=torch.float64)
    return model(torch.tensor([encode(tokenizer, OPENING)]))[0, -1]
