"""What guessing gains on this machine: measured, predicted, and where the time of a round goes.

`measure_gain` runs both decoders and adds up their Steps. One half of the prompts gives acceptance
and costs, from which the speed-up of the other half is predicted; that half is measured too.

Dimensions: G guesses of a round, B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import ipywidgets

from minillm.acceptance import acceptance_by_position
from minillm.decoding import Model, Step, decode_cached, generators
from minillm.drafters import Drafter
from minillm.sampling import GREEDY, Sampler
from minillm.speculative import Round, decode_speculative
from minillm.speedup import break_even, speedup
from widgets.common.chart import Chart, ChartExplorer, Columns, Curve, Level
from widgets.common.strings import say

__all__ = [
    "BatchExplorer",
    "Costs",
    "GainExplorer",
    "SplitExplorer",
    "measure_batches",
    "measure_gain",
]

_MS = 1e3


@dataclass(frozen=True)
class Costs:
    """Rounds of G guesses, summed up; those that read a prompt, or had less room, left out.

    Attributes:
        G: guesses of each.
        tokens: of a round, on average.
        draft, verify, rest: seconds of a round, medians.
        plain: seconds of a token without guessing, median.
        acceptance: of guess 1, 2, ..., where all before it were kept.
        share: of all judged guesses, those that were kept.
    """

    G: int
    tokens: float
    draft: float
    verify: float
    rest: float
    plain: float
    acceptance: tuple[float, ...]
    share: float

    @classmethod
    def of(cls, rounds: Sequence[Round], plain: Sequence[Step], G: int) -> Costs:
        """Add up.

        Raises:
            ValueError: no round of G guesses, or no plain step.
        """
        full = [step for step in rounds if all(len(row.guesses) == G for row in step.rows)]
        if not full or not plain:
            raise ValueError(f"{len(rounds)} rounds hold none of {G} guesses to add up")
        rows = [row for step in full for row in step.rows]
        rest = (step.seconds - step.draft_seconds - step.verify_seconds for step in full)
        found = acceptance_by_position(full)
        return cls(
            G=G,
            tokens=sum(len(row.tokens) for row in rows) / len(rows),
            draft=median(step.draft_seconds for step in full),
            verify=median(step.verify_seconds for step in full),
            rest=median(rest),
            plain=median(step.seconds for step in plain),
            acceptance=(*found, *[0.0] * (G - len(found))),
            share=sum(row.accepted for row in rows) / sum(row.judged for row in rows),
        )

    @property
    def seconds(self) -> float:
        """Of a round."""
        return self.draft + self.verify + self.rest

    @property
    def c(self) -> float:
        """A step of the drafter, in plain steps."""
        return self.draft / self.G / self.plain

    @property
    def verification(self) -> float:
        """What follows the guesses, in plain steps."""
        return (self.verify + self.rest) / self.plain

    @property
    def measured(self) -> float:
        """How many times faster than without guessing."""
        return self.tokens * self.plain / self.seconds


@dataclass(frozen=True)
class Gain:
    """Costs of the prompts that a prediction is made from, and of those that it is made for."""

    fitted: Costs
    tried: Costs

    def predicted(self, factor: float = 1.0) -> float:
        """The speed-up, by acceptance and costs of other prompts, at `factor` times the draft's."""
        fit = self.fitted
        return speedup(fit.acceptance, factor * fit.c, fit.verification)

    def formula(self, factor: float = 1.0) -> float:
        """The paper's: every guess alike, and a pass over G + 1 tokens as cheap as over one."""
        fit = self.fitted
        return speedup([fit.share] * fit.G, factor * fit.c, 1.0)


def measure_gain(
    model: Model,
    drafter: Drafter,
    prompts: Sequence[Sequence[int]],
    gammas: Sequence[int],
    *,
    max_new_tokens: int = 48,
    sampler: Sampler = GREEDY,
) -> dict[int, Gain]:
    """Decode every prompt plainly and with each number of guesses, in turn.

    Args:
        model: the target.
        drafter: makes as many guesses as it is asked for.
        prompts: every second one, from the first, gives what the prediction is made of.
        gammas: numbers of guesses.
        max_new_tokens: of each text.
        sampler: of both decoders.

    Raises:
        ValueError: fewer than two prompts, or no number of guesses.
    """
    if len(prompts) < 2 or not gammas:
        raise ValueError(f"{len(prompts)} prompts and {len(gammas)} gammas: 2 and 1 are needed")
    decode = partial(_decode, model, drafter, max_new_tokens=max_new_tokens, sampler=sampler)
    list(decode(prompts[0], 0)), list(decode(prompts[0], max(gammas)))  # warm up
    plain: tuple[list[Step], list[Step]] = [], []
    rounds: tuple[dict[int, list[Round]], ...] = tuple({G: [] for G in gammas} for _ in range(2))
    for index, prompt in enumerate(prompts):
        half = index % 2  # in turn, so that a drift of the machine hits both alike
        for G in (0, *gammas, 0):
            steps = list(decode(prompt, G))[1:]  # the first one reads the prompt
            (rounds[half][G] if G else plain[half]).extend(steps)
    fitted, tried = (
        {G: Costs.of(rounds[half][G], plain[half], G) for G in gammas} for half in range(2)
    )
    return {G: Gain(fitted[G], tried[G]) for G in gammas}


def _decode(
    model: Model,
    drafter: Drafter,
    prompt: Sequence[int],
    G: int,
    *,
    max_new_tokens: int,
    sampler: Sampler,
) -> Iterator[Any]:
    common: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "sampler": sampler,
        "generators": generators(0, 1),
    }
    if G == 0:
        return decode_cached(model, [prompt], **common)
    return decode_speculative(model, [prompt], drafter=drafter, gamma=G, **common)


class GainExplorer(ChartExplorer):
    """The speed-up over the number of guesses, measured and predicted, with the break-even line.

    Args:
        runs: by name, what `measure_gain` found.

    Raises:
        ValueError: no run, or runs of different numbers of guesses.
    """

    def __init__(self, runs: Mapping[str, Mapping[int, Gain]]):
        self._gammas = _gammas(runs)
        super().__init__(
            {
                "run": ipywidgets.Dropdown(options=list(runs.items()), description="run"),
                "gamma": _slider("gamma", self._gammas, _four(self._gammas)),
                "cost": ipywidgets.SelectionSlider(
                    options=[("0", 0.0), ("¼", 0.25), ("½", 0.5), ("as it is", 1.0), ("2×", 2.0),
                             ("4×", 4.0)],
                    value=1.0,
                    description="draft's cost",
                ),
            }
        )  # fmt: skip

    def chart(self) -> Chart:
        run, gammas, factor = self["run"], self._gammas, self["cost"]
        G = self["gamma"]
        at = run[G].tried.measured
        return Chart(
            title="A guess pays until it costs more than it brings",
            x_title="gamma: guesses of a round",
            y_title="speed-up (times)",
            series=(
                Curve("measured", gammas, [run[G].tried.measured for G in gammas]),
                Curve("predicted", gammas, [run[G].predicted(factor) for G in gammas]),
                Curve("formula, V = 1", gammas, [run[G].formula(factor) for G in gammas]),
            ),
            levels=(Level("break-even", 1.0),),
            note=(G, at, f"{at:.2f}×"),
        )

    def summary(self) -> str:
        G, factor, run = self["gamma"], self["cost"], self["run"]
        gain: Gain = run[G]
        best = max(run, key=lambda G: run[G].tried.measured)
        fit, tried = gain.fitted, gain.tried
        even = break_even(G, factor * fit.c, fit.verification)
        needed = "no acceptance would" if even is None else f"an acceptance of {even:.2f} would"
        changed = "" if factor == 1 else f" with a draft of {factor:g} times the cost"
        kept = " ".join(f"{share:.2f}" for share in fit.acceptance)
        return (
            f"{self.controls['run'].label}, {G} guesses: kept {kept} ({tried.tokens:.2f} tokens a "
            f"round), c = {fit.c:.2f}, V = {fit.verification:.2f} with the rest of the round, "
            f"{tried.measured:.2f} times as fast as plain decoding; best with {best}: "
            f"{run[best].tried.measured:.2f} ({say('tag.measured')}). Predicted from other prompts "
            f"{gain.predicted(factor):.2f}, by the formula {gain.formula(factor):.2f}{changed}; "
            f"{needed} break even ({say('tag.computed')})."
        )


class SplitExplorer(ChartExplorer):
    """Where a round's time goes, beside the plain loop's for as many tokens: "why is mine slower?"

    Args:
        runs: by name, what `measure_gain` found; as many as differ in what is to be compared.

    Raises:
        ValueError: no run, or runs of different numbers of guesses.
    """

    def __init__(self, runs: Mapping[str, Mapping[int, Gain]]):
        self._runs, gammas = runs, _gammas(runs)
        super().__init__({"gamma": _slider("gamma", gammas, _four(gammas))})

    def chart(self) -> Chart:
        labels = ["draft", "verify", "rest", "whole round", "as many tokens, plain"]
        return Chart(
            title="A round pays if it is shorter than its tokens one by one",
            x_title=f"parts of a round with {self['gamma']} guesses",
            y_title="time (ms)",
            series=tuple(Columns(name, labels, self._parts(name)) for name in self._runs),
        )

    def summary(self) -> str:
        told = "; ".join(self._said(name) for name in self._runs)
        return f"{self['gamma']} guesses. {told}. {say('tag.measured').capitalize()}."

    def _parts(self, name: str) -> list[float]:
        costs = self._runs[name][self["gamma"]].tried
        parts = costs.draft, costs.verify, costs.rest, costs.seconds, costs.tokens * costs.plain
        return [_MS * part for part in parts]

    def _said(self, name: str) -> str:
        draft, verify, rest, whole, plain = self._parts(name)
        tokens = self._runs[name][self["gamma"]].tried.tokens
        verdict = "it gains" if whole < plain else "it loses"
        return (
            f"{name}: draft {draft:.1f}, verify {verify:.1f}, rest {rest:.1f}, together "
            f"{whole:.1f} ms for {tokens:.2f} tokens that take {plain:.1f} ms one by one: {verdict}"
        )


def _gammas(runs: Mapping[str, Mapping[int, Gain]]) -> list[int]:
    every = {tuple(sorted(run)) for run in runs.values()}
    if len(every) != 1 or () in every:
        raise ValueError(f"runs must share their numbers of guesses, got {sorted(every)}")
    return list(every.pop())


def _four(gammas: Sequence[int]) -> int:
    """The one nearest to it."""
    return min(gammas, key=lambda G: abs(G - 4))


def _slider(name: str, options: Sequence[int], first: int) -> ipywidgets.SelectionSlider:
    return ipywidgets.SelectionSlider(options=list(options), value=first, description=name)


def measure_batches(
    model: Model,
    drafter: Drafter,
    prompts: Sequence[Sequence[int]],
    batches: Sequence[int],
    *,
    gamma: int = 4,
    max_new_tokens: int = 32,
) -> dict[int, tuple[float, float]]:
    """Tokens a second of the first B prompts together, plain and with guesses, by B; greedy.

    The step that reads the prompts is left out. Rows end at different rounds, and the last one
    decides when the batch is done.

    Raises:
        ValueError: a batch larger than the number of prompts.
    """
    if max(batches, default=0) > len(prompts):
        raise ValueError(f"{max(batches)} rows need as many prompts, got {len(prompts)}")
    decode = partial(_decode_rows, model, drafter, gamma=gamma, max_new_tokens=max_new_tokens)
    rates = {}
    for B in batches:
        rows = prompts[:B]
        list(decode(rows[:1], guessing=True))  # after a change of shape
        rates[B] = _rate(decode(rows, guessing=False)), _rate(decode(rows, guessing=True))
    return rates


def _decode_rows(
    model: Model,
    drafter: Drafter,
    rows: Sequence[Sequence[int]],
    *,
    gamma: int,
    max_new_tokens: int,
    guessing: bool,
) -> Iterator[Any]:
    if not guessing:
        return decode_cached(model, rows, max_new_tokens=max_new_tokens)
    return decode_speculative(
        model, rows, drafter=drafter, gamma=gamma, max_new_tokens=max_new_tokens
    )


def _rate(steps: Iterator[Step]) -> float:
    next(steps)
    later = list(steps)
    tokens = sum(len(row.tokens) for step in later for row in step.rows)
    return tokens / sum(step.seconds for step in later)


class BatchExplorer(ChartExplorer):
    """What guessing gains where many texts are written at once.

    Args:
        rates: tokens a second, plain and with guesses, by the rows of the batch.
    """

    def __init__(self, rates: Mapping[int, tuple[float, float]]):
        self._rates = dict(sorted(rates.items()))
        super().__init__(
            {
                "show": ipywidgets.Dropdown(
                    options=["speed-up", "tokens a second"], description="show"
                ),
                "batch": _slider("batch", list(self._rates), max(self._rates)),
            }
        )

    def chart(self) -> Chart:
        rows, B = list(self._rates), self["batch"]
        plain, guessing = ([rate[k] for rate in self._rates.values()] for k in (0, 1))
        gain = [fast / slow for slow, fast in self._rates.values()]
        at = self._rates[B][1] / self._rates[B][0]
        ratio = self["show"] == "speed-up"
        return Chart(
            title="The more texts at once, the less is left for guesses",
            x_title="texts of the batch",
            y_title="speed-up (times)" if ratio else "tokens a second",
            series=(
                Curve("plain", rows, [1.0] * len(rows) if ratio else plain, baseline=True),
                Curve("with guesses", rows, gain if ratio else guessing),
            ),
            note=(B, at if ratio else self._rates[B][1], f"{at:.2f}×"),
        )

    def summary(self) -> str:
        slow, fast = self._rates[self["batch"]]
        return (
            f"{self['batch']} texts at once: {slow:,.0f} tokens a second plain, {fast:,.0f} with "
            f"guesses, {fast / slow:.2f} times as many ({say('tag.measured')})."
        )
