"""The gain of guessing as charts: over the number of guesses, over a round's time, over a batch.

What is drawn is measured by `minillm.speedup.gain`.

Dimensions: gamma guesses of a round, B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ipywidgets

from minillm.measure.noise import apart
from minillm.speedup.formulas import break_even
from minillm.speedup.gain import Gain
from widgets.common.chart import Chart, ChartExplorer, Claim, Columns, Curve, Level
from widgets.common.controls import numbers
from widgets.common.strings import say

__all__ = ["BatchExplorer", "GainExplorer", "SplitExplorer"]

_MS = 1e3
_LEAST = 0.01  # of an acceptance that is told


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
                "gamma": numbers("gamma", self._gammas, _four(self._gammas)),
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
        gamma = self["gamma"]
        gains = [run[gamma].tried.measured for gamma in gammas]
        at, best = run[gamma].tried.measured, max(gains)
        return Chart(
            title=(
                Claim(
                    "A guess pays until it costs more than it brings",
                    ((1, best), (gains[-1], best)),
                ),
                Claim(f"Guesses pay: the speed-up is up to {best:.2f}", ((1, best),)),
                Claim("A guess costs more than it brings", tuple((gain, 1) for gain in gains)),
            ),
            x_title="gamma: guesses of a round",
            y_title="speed-up (times)",
            series=(
                Curve("measured", gammas, gains),
                Curve("predicted", gammas, [float(run[g].predicted(factor)) for g in gammas]),
                Curve("formula, V = 1", gammas, [float(run[g].formula(factor)) for g in gammas]),
            ),
            levels=(Level("break-even", 1.0),),
            note=(gamma, at, f"{at:.2f}×"),
        )

    def said(self) -> str:
        gamma, factor, run = self["gamma"], self["cost"], self["run"]
        gain: Gain = run[gamma]
        best = max(run, key=lambda gamma: run[gamma].tried.measured)
        fit, tried = gain.fitted, gain.tried
        even = break_even(gamma, factor * fit.c, fit.verification)
        if even is None:
            needed = "no acceptance would"
        elif even < _LEAST:
            needed = f"an acceptance below {_LEAST} would"
        else:
            needed = f"an acceptance of {even:.2f} would"
        if fit.verification < 1:
            noise, needed = f" ({say('chart.noise')})", "noise hides which acceptance would"
        else:
            noise = ""
        changed = "" if factor == 1 else f" with a draft of {factor:g} times the cost"
        kept = " ".join(f"{share:.2f}" for share in fit.acceptance)
        return (
            f"{self.controls['run'].label}, {gamma} guesses: kept {kept}, c = {fit.c:.2f}, "
            f"V({gamma + 1}) = {fit.verification:.2f}{noise} on the prompts that predict; "
            f"{tried.tokens:.2f} tokens a round and {tried.measured:.2f} times as fast as "
            f"plain decoding on the others; best with {best}: {run[best].tried.measured:.2f} "
            f"({say('tag.measured')}). Predicted "
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
        super().__init__({"gamma": numbers("gamma", gammas, _four(gammas))})

    def chart(self) -> Chart:
        labels = ["draft", "verify", "rest", "whole round", "as many tokens, plain"]
        return Chart(
            title="A round pays if it is shorter than its tokens one by one",
            x_title=f"parts of a round with {self['gamma']} guesses",
            y_title="time (ms)",
            series=tuple(Columns(name, labels, self._parts(name)) for name in self._runs),
        )

    def said(self) -> str:
        told = "; ".join(self._said(name) for name in self._runs)
        return f"{self['gamma']} guesses. {told} ({say('tag.measured')})."

    def _parts(self, name: str) -> list[float]:
        costs = self._runs[name][self["gamma"]].tried
        parts = costs.draft, costs.verify, costs.rest, costs.seconds, costs.tokens * costs.plain
        return [_MS * part for part in parts]

    def _said(self, name: str) -> str:
        draft, verify, rest, whole, plain = self._parts(name)
        tokens = self._runs[name][self["gamma"]].tried.tokens
        return (
            f"{name}: draft {draft:.1f}, verify {verify:.1f}, rest {rest:.1f}, together "
            f"{whole:.1f} ms for {tokens:.2f} tokens that take {plain:.1f} ms one by one: "
            f"{_verdict(whole, plain)}"
        )


def _verdict(spent: float, saved: float) -> str:
    """What a round of that cost comes to; as clear as the two intervals are."""
    if apart(spent, saved):
        return "it gains"
    if apart(saved, spent):
        return "it loses"
    return "gain or loss is not decided on this machine now"


def _gammas(runs: Mapping[str, Mapping[int, Gain]]) -> list[int]:
    every = {tuple(sorted(run)) for run in runs.values()}
    if len(every) != 1 or () in every:
        raise ValueError(f"runs must share their numbers of guesses, got {sorted(every)}")
    return list(every.pop())


def _four(gammas: Sequence[int]) -> int:
    """The one nearest to it."""
    return min(gammas, key=lambda gamma: abs(gamma - 4))


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
                "batch": numbers("batch", list(self._rates), max(self._rates)),
            }
        )

    def chart(self) -> Chart:
        rows, B = list(self._rates), self["batch"]
        plain, guessing = ([rate[k] for rate in self._rates.values()] for k in (0, 1))
        gain = [fast / slow for slow, fast in self._rates.values()]
        most = max(self._rates)
        at = self._rates[B][1] / self._rates[B][0]
        ratio = self["show"] == "speed-up"
        return Chart(
            title=(
                Claim(
                    "Many texts at once leave little for guesses to gain", ((gain[-1], gain[0]),)
                ),
                Claim(f"Guesses gain with {most} texts at once too", ((1, gain[-1]),)),
                Claim("Guesses gain nothing here", tuple((each, 1) for each in gain)),
                Claim(f"Guesses lose with {most} texts at once", ((gain[-1], 1),)),
            ),
            x_title="texts of the batch",
            y_title="speed-up (times)" if ratio else "tokens a second",
            series=(
                Curve("plain", rows, [1.0] * len(rows) if ratio else plain, baseline=True),
                Curve("with guesses", rows, gain if ratio else guessing),
            ),
            note=(B, at if ratio else self._rates[B][1], f"{at:.2f}×"),
        )

    def said(self) -> str:
        slow, fast = self._rates[self["batch"]]
        return (
            f"{self['batch']} texts at once: {slow:,.0f} tokens a second plain, {fast:,.0f} with "
            f"guesses, {fast / slow:.2f} times as many: {_verdict(slow, fast)} "
            f"({say('tag.measured')})."
        )
