"""The checks of lesson 01: rows in a window, min-p, and a temperature to find."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor

from minillm.checkpoint import load
from minillm.sampling import Sampler
from minillm.tokens import encode
from widgets.common.exercises import Verdict, check, exercise, hint, right, run, wrong
from widgets.common.stable import digits

__all__ = ["BITS", "NEW", "OPENING", "PROMPT", "WINDOW", "check", "entropy_bits", "hint"]

PROMPT, NEW, WINDOW = 8, 48, 16  # 01.1: tokens of the prompt, to write, that a pass sees at most
OPENING, BITS = "Once upon a time", 4.0  # 01.3: the text, and the entropy of the token after it


@exercise(
    "01.1",
    hints=[
        "Write the first passes down: how many tokens does each one see? From which on is it cut?",
        "The first token comes out of a pass over the prompt alone; the last token written is "
        "never forwarded.",
        "Pass i, from 0, sees the smaller of p + i and w tokens. Sum that up over n passes.",
    ],
)
def rows_in_a_window(answer: Any) -> Verdict:
    """How many rows write NEW tokens after a prompt of PROMPT, by the newest WINDOW alone?"""
    p, n, w = PROMPT, NEW, WINDOW
    seen = [min(p + i, w) for i in range(n)]
    mistakes = {
        n * p + n * (n - 1) // 2: f"That forwards the whole text; the loop cuts it to {w} tokens.",
        n * w: "That charges every pass for a full window; early passes see a shorter text.",
        sum(seen) + w: "Nearly: the last token is written, but no pass has to see it.",
        sum(seen) - w: "Nearly: one pass is missing. Each token that is written takes one.",
        p + n - 1: "That is the work with a cache, the next lesson. Here a pass sees its window.",
    }
    if answer == sum(seen):
        return right(
            f"{answer:,} tokens, and a run of such a loop counts {_rows_of_a_real_run():,}.",
            f"Once the window is full, each token costs {w}: the work grows in proportion to n. "
            f"The price: the model forgets what is more than {w} tokens away.",
        )
    return wrong(
        f"Expected the number of tokens over all {n} passes, got {answer:,}.",
        mistakes.get(answer, "Try 4 new tokens, a prompt of 2, a window of 3: 2 + 3 + 3 + 3 = 11."),
    )


@cache
@torch.inference_mode()
def _rows_of_a_real_run() -> int:
    model, _ = load("stories")
    text, rows = list(range(1, PROMPT + 1)), 0
    for _ in range(NEW):
        window = torch.tensor([text[-WINDOW:]])
        text.append(int(model(window)[0, -1].argmax()))
        rows += window.numel()
    return rows


@exercise(
    "01.2",
    hints=[
        "The largest probability of each row: p.amax(-1, keepdim=True), of shape (B, 1).",
        "p.where(condition, 0.0) keeps what fulfils the condition, each token in its own place.",
        "Divide each row by its own sum, with keepdim=True.",
    ],
)
def min_p(answer: Any) -> Verdict:
    """A function ((B, V) probabilities, share) -> what has `share` of the row's largest, scaled."""
    cases = [
        ([[0.5, 0.3, 0.15, 0.05], [0.16, 0.3, 0.29, 0.25]], 0.4),
        ([[0.97, 0.02, 0.01], [0.34, 0.33, 0.33]], 0.05),
        ([[0.2, 0.2, 0.2, 0.2, 0.2]], 0.9),
    ]
    for rows, share in cases:
        given = torch.tensor(rows, dtype=torch.float64)
        got = run(answer, given.clone(), share)
        if not isinstance(got, Tensor):
            return wrong(f"Expected a tensor, got {type(got).__name__}.", "Is there a return?")
        if got.shape != given.shape:
            return wrong(
                f"Expected shape {tuple(given.shape)}, got {tuple(got.shape)}.",
                "Dropped tokens keep their place, with probability 0.",
            )
        true = _normalised(given.where(given >= share * given.amax(-1, keepdim=True), 0.0))
        differs = ~((got.double() - true).abs().amax(-1) <= 1e-6)  # nan differs
        if bool(differs.any()):
            row = int(differs.nonzero()[0])
            told = f"min_p of {_shown(given[row])} in row {row}, share {share}: expected "
            told += f"{_shown(true[row])}, got {_shown(got[row])}."
            return wrong(told, _why_min_p(given, share, got.double()))
    return right(
        "Every row keeps what has its share of the row's own largest probability.",
        "A sure row keeps one token and an unsure row many, as with top-p, without sorting.",
    )


def _normalised(p: Tensor) -> Tensor:
    return p / p.sum(-1, keepdim=True)


def _why_min_p(given: Tensor, share: float, got: Tensor) -> str:
    largest = given.amax(-1, keepdim=True)
    kept = given.where(given >= share * largest, 0.0)
    ordered = given.sort(-1, descending=True).values
    top_p = ordered.where(ordered.cumsum(-1) - ordered < share, 0.0)
    mistakes = [
        (kept, "The right tokens stay, but a row does not sum to 1: divide it by its sum."),
        (kept / kept.sum(), "Each row sums to 1, not the whole batch: sum(-1, keepdim=True)."),
        (given.where(given >= share * given.max(), 0.0), "The largest of the whole batch decides: "
         "take each row's own, amax(-1, keepdim=True)."),
        (given.where(given >= share, 0.0), "That is a fixed threshold: multiply it by the row's "
         "largest probability."),
        (given.where(given < share * largest, 0.0), "The wrong way round: the likely ones stay."),
        (top_p.gather(-1, given.argsort(-1, descending=True).argsort(-1)), "That is top-p: min-p "
         "adds nothing up."),
    ]  # fmt: skip
    for mistake, why in mistakes:
        if torch.allclose(got, mistake) or torch.allclose(
            got, _normalised(mistake), equal_nan=True
        ):
            return why
    return "Compare each probability with share times the largest of its row."


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
