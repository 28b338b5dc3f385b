"""The checks of lesson 15: an even share, what counts as no effect, outliers that decide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from minillm.public_model.findings import read
from minillm.public_model.inside import FIRST, rounding_error
from minillm.public_model.rule import NEAR, verdict
from minillm.public_model.subject import TOKENS
from widgets.common.exercises import Verdict, check, exercise, hint, right, run, wrong
from widgets.common.exercises.attempt import Stopped
from widgets.common.stable import digits

__all__ = ["FIRST", "TOKENS", "check", "errors", "hint"]

# 15.1

_MISTAKEN: dict[str, Callable[[int, int], float]] = {
    "That is the share of the last query alone. Earlier queries see fewer tokens.": (
        lambda tokens, first: 1 / tokens
    ),
    "The mean of 1/n is not 1 over the mean of n: queries that see few tokens weigh more.": (
        lambda tokens, first: 2 / (tokens + first + 1)
    ),
    "The first queries are left out: begin with the one at place `first`.": (
        lambda tokens, first: _even(tokens, 0)
    ),
    "A query sees itself, too: the one at place t sees t + 1 tokens.": (
        lambda tokens, first: sum(1 / max(t, 1) for t in range(first, tokens)) / (tokens - first)
    ),
    "Divide by the number of queries that count, not by that of all tokens.": (
        lambda tokens, first: _even(tokens, first) * (tokens - first) / tokens
    ),
    "As a share, not in per cent.": lambda tokens, first: 100 * _even(tokens, first),
}


@exercise(
    "15.1",
    hints=[
        "The query at place t, counted from 0, sees t + 1 tokens. What does each of them get?",
        "`sinks` takes the mean over the queries from place `first` to the last.",
        "Add up 1 / (t + 1) from t = first to tokens - 1, and divide by how many these are.",
    ],
)
def even(answer: Any) -> Verdict:
    """A function (tokens, first) -> the first token's mean share of evenly spread attention."""
    cases = ((4, 2), (1, 0), (TOKENS, FIRST), (7, 0), (9, 8))
    got = {case: run(answer, *case) for case in cases}
    for (tokens, first), said in got.items():
        if said is None:
            return wrong("Expected a share, got nothing.", "Is there a return?")
        if not _near(float(said), _even(tokens, first)):
            whys = (
                why
                for why, mistaken in _MISTAKEN.items()
                if all(_near(float(value), mistaken(*case)) for case, value in got.items())
            )
            told = f"even(tokens={tokens}, first={first}): expected "
            told += f"{_even(tokens, first):.4g}, got {float(said):.4g}."
            return wrong(told, next(whys, "What does each query give the first token?"))
    share = _even(TOKENS, FIRST)
    times = {name: _sinks(name) / share for name in ("stories", "smollm2")}
    return right(
        f"Spread evenly, the first token gets {digits(100 * share)} %. It gets "
        f"{digits(times['stories'])} times that in stories, {digits(times['smollm2'])} times in "
        "SmolLM2.",
        "Without such a baseline a share says little: on short texts every first token looks "
        "like a sink.",
    )


def _even(tokens: int, first: int) -> float:
    return sum(1 / (t + 1) for t in range(first, tokens)) / (tokens - first)


def _sinks(model: str) -> float:
    shares = read()["sinks", model].values
    return sum(shares) / len(shares)


def _near(said: float, true: float) -> bool:
    return abs(said - true) <= 1e-6 * abs(true)


# 15.2

_PAIRS = ((30.2, 15.0), (15.0, 30.2), (1.06, 1.02), (-2.0, 3.0), (0.0, 1.0), (1000.0, 2.0))


@exercise(
    "15.2",
    hints=[
        "Draw the two numbers on a line. Where does `nothing` lie if the effects have one sign?",
        "Which value of `nothing` makes the two effects nearly equal?",
        f"The effects differ by predicted - measured. From how far away is that within {NEAR}?",
    ],
)
def choose(answer: Any) -> Verdict:
    """A function (predicted, measured) -> two values of `nothing`: it holds, it does not hold."""
    chosen = {pair: run(answer, *pair) for pair in _PAIRS}
    for pair, got in chosen.items():
        if not isinstance(got, tuple | list) or len(got) != 2:
            return wrong("Expected two values of `nothing`: one that holds, one that does not.")
        found = [verdict(*pair, nothing=float(nothing)) for nothing in got]
        if found != ["holds", "does not hold"]:
            one, two = (f"{float(nothing):.4g}" for nothing in got)
            told = f"choose{pair} gave {one}: {found[0]}, and {two}: {found[1]}."
            return wrong(told, _why_choose(found, chosen.values()))
    there, here = (read()["recomputed", name].values[-1] for name in ("stories", "smollm2"))
    return right(
        "Any two different numbers hold, and do not hold, as `nothing` is chosen.",
        f"A token without a cache: with {TOKENS} passes as no effect, the models save "
        f"{TOKENS - there:.0f} and {TOKENS - here:.0f} of them, and the verdict is "
        f"“{verdict(there, here, nothing=TOKENS)}”. So say what no effect is before you measure.",
    )


def _why_choose(found: list[str], chosen: Any) -> str:
    if found == ["does not hold", "holds"]:
        return "The other way round: first the one with which it holds."
    if len({tuple(map(float, pair)) for pair in chosen}) == 1:
        return "These are the same for every pair: make them depend on the two numbers."
    if found[0] == "in direction":
        return f"Both effects have one sign, but they differ by more than {NEAR}: go further away."
    if found[0] == "does not hold":
        return "For the first, both numbers have to lie on the same side of `nothing`."
    return "For the second, the two effects must have different signs: where is that?"


# 15.3

SIZE, MORE, LARGE = 32, 5, 100  # tokens and channels; times the error; medians
ALIKE = 2  # times the other error, at most


@exercise(
    "15.3",
    hints=[
        "Begin with random numbers, torch.randn(32, 32), and make one of them 100. Whose scale "
        "does it spoil?",
        "A whole channel of large numbers spoils the scale of every token. But what about its own "
        "scale?",
        "A scale and a zero point follow the least and the largest number. A channel that is far "
        "from zero, but hardly changes, rounds well.",
    ],
)
def outliers(answer: Any) -> Verdict:
    """Two (32, 32) matrices: one better by channel, one with an outlier and alike in both."""
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        return wrong("Expected two matrices: (by_channel, alike).")
    by_channel, alike = (
        _matrix(name, x) for name, x in zip(("by_channel", "alike"), answer, strict=True)
    )
    token, channel = errors(by_channel)
    if token < MORE * channel or token == 0:
        told = f"by_channel: {digits(100 * token)} % along tokens, "
        return wrong(f"{told}{digits(100 * channel)} % along channels.", _why_outliers(by_channel))
    size = alike.abs()
    medians = float(size.max() / size.median())
    if not medians > LARGE:
        return wrong(f"alike: the largest number has {medians:.3g} medians.", "Make one larger.")
    least, most = sorted(errors(alike))
    if most > ALIKE * least:
        told = f"alike: one error is {most / least:.3g} times the other."
        return wrong(told, "Let outliers spoil as many tokens as channels, such as one in each.")
    return right(
        f"An outlier alone decides nothing: {medians:.3g} medians, and the errors are alike.",
        "A channel decides if it is far from zero in all tokens, and hardly changes. Then its own "
        "scale is fine, and no other number has to share it.",
    )


def errors(x: Tensor) -> tuple[float, float]:
    """The error of a matrix of tokens by channels in 4 bits: a scale along a token, a channel."""
    return rounding_error(x.contiguous()), rounding_error(x.T.contiguous())


def _matrix(name: str, given: Any) -> Tensor:
    """(SIZE, SIZE) finite numbers, not all zero; anything else ends the check."""
    x = torch.as_tensor(given, dtype=torch.float32)
    if x.shape != (SIZE, SIZE):
        raise Stopped(wrong(f"{name}: expected ({SIZE}, {SIZE}) numbers, got {tuple(x.shape)}."))
    if not (bool(x.isfinite().all()) and bool(x.any())):
        raise Stopped(wrong(f"{name}: expected finite numbers, not all of them 0."))
    return x


def _why_outliers(x: Tensor) -> str:
    token, channel = errors(x)
    if channel > MORE * token:
        return "Turned: rows are tokens, columns are channels."
    large = x.abs() > 10 * x.abs().median()
    if not large.any():
        return "No number is much larger than the others: nothing spoils a scale."
    if not large.sum(0).max() > SIZE / 2:
        return "The large numbers spoil the scales of few tokens. Which would spoil all of them?"
    return "The large channel is hard to round by itself: its own numbers differ too much."
