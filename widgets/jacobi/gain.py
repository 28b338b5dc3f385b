"""What passes that try several tokens gain: counted, predicted from V(m), and measured.

A pass over m tokens takes V(m) times as long as one over a single token. A decoder that settles
more tokens a pass than its passes cost gains; bookkeeping and special masks cost on top, which is
the distance between what V predicts and what is measured. Lookahead is judged in the same way.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

import ipywidgets

from minillm.decoding import Model, Step, decode_cached
from minillm.jacobi import GUESSES, JacobiStep, decode_jacobi
from minillm.measure.noise import Measured
from minillm.measure.timing import in_turn
from minillm.whole import wholes
from widgets.common.chart import Chart, ChartExplorer, Claim, Curve
from widgets.common.stable import verbatim
from widgets.common.strings import say

__all__ = [
    "GainExplorer",
    "JacobiGainExplorer",
    "Passes",
    "cost_at",
    "measure_blocks",
    "measure_loop",
    "measure_passes",
    "pairs_elsewhere",
    "rate",
    "right_after",
]


Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Passes:
    """Passes of a decoder on single rows, those that read the prompts left out.

    Attributes:
        tokens: that they settled.
        read: how many tokens each of them read.
        seconds: all of them together.
    """

    tokens: int
    read: tuple[int, ...]
    seconds: float

    @classmethod
    def of(cls, runs: Iterable[Sequence[Step]]) -> Passes:
        """The passes of some runs.

        Raises:
            ValueError: no run has a second pass.
        """
        later = [step for steps in runs for step in list(steps)[1:]]
        if not later:
            raise ValueError("no run has a pass after the one that reads the prompt")
        spent = [step.seconds for step in later]
        return cls(
            tokens=sum(len(row.tokens) for step in later for row in step.rows),
            read=tuple(step.computed for step in later),
            seconds=Measured.of([len(spent) * seconds for seconds in spent], sum(spent)),
        )

    @property
    def a_pass(self) -> float:
        """Tokens that a pass settles: how much the run is compressed."""
        return self.tokens / len(self.read)

    @property
    def mean_read(self) -> float:
        """Tokens that a pass reads."""
        return sum(self.read) / len(self.read)

    def cost(self, V: Mapping[int, float]) -> float:
        """Mean time of a pass over that of one token, by V."""
        return sum(cost_at(V, m) for m in self.read) / len(self.read)

    def predicted(self, V: Mapping[int, float]) -> float:
        """The speed-up that V leaves."""
        return self.a_pass / self.cost(V)

    def measured(self, plain: Passes) -> float:
        """The speed-up over a run of plain decoding, per token."""
        return (plain.seconds / plain.tokens) / (self.seconds / self.tokens)


def cost_at(V: Mapping[int, float], m: float) -> float:
    """The time of m tokens together over that of one, between and beyond measured ones.

    Args:
        V: times by number of tokens, in any unit, that of one token among them.
        m: tokens.

    Raises:
        ValueError: no time of one token, or of one only.

    >>> cost_at({1: 2.0, 4: 4.0, 8: 8.0}, 6)
    3.0
    """
    counts = sorted(V)
    if len(counts) < 2 or counts[0] != 1:
        raise ValueError(f"times of 1 and of more tokens are needed, got those of {counts}")
    right = min(max(bisect_left(counts, m), 1), len(counts) - 1)
    low, high = counts[right - 1], counts[right]
    part = (m - low) / (high - low)
    return (1 - part) * (V[low] / V[1]) + part * (V[high] / V[1])


def measure_passes(
    decoders: Mapping[Key, Callable[[Sequence[Sequence[int]]], Iterator[Step]]],
    prompts: Sequence[Sequence[int]],
) -> dict[Key, Passes]:
    """Run all decoders on each prompt, in turn; of an even number of prompts no drift remains.

    Raises:
        ValueError: as `Passes.of`.
    """
    runs = [[partial(_steps, decode, prompt) for decode in decoders.values()] for prompt in prompts]
    runs[0][0]()  # warms up
    texts = zip(*in_turn(runs), strict=True)
    return {name: Passes.of(steps) for name, steps in zip(decoders, texts, strict=True)}


def _steps(
    decode: Callable[[Sequence[Sequence[int]]], Iterator[Step]], prompt: Sequence[int]
) -> list[Step]:
    return list(decode([prompt]))


def measure_blocks(
    model: Model,
    prompts: Sequence[Sequence[int]],
    blocks: Sequence[int],
    *,
    max_new_tokens: int = 32,
) -> tuple[Passes, dict[str, dict[int, Passes]]]:
    """Plain decoding, and Jacobi decoding by what blocks start from and by their size.

    Raises:
        ValueError: blocks that are no whole numbers from 1, or texts of fewer than two tokens.
    """
    blocks = wholes("blocks", blocks, least=1)
    common: dict[str, Any] = {"max_new_tokens": max_new_tokens}
    decoders: dict[Any, Any] = {"plain": partial(decode_cached, model, **common)} | {
        (name, block): partial(decode_jacobi, model, block=block, guess=guess, **common)
        for name, guess in GUESSES.items()
        for block in blocks
    }
    found = measure_passes(decoders, prompts)
    runs = {name: {block: found[name, block] for block in blocks} for name in GUESSES}
    return found["plain"], runs


def measure_loop(model: Model, prompt: Sequence[int], *, max_new_tokens: int = 32) -> Measured:
    """Seconds that the loop of Jacobi decoding adds to a pass; below 0 where noise hides them.

    A block of one reads and settles what plain decoding does. Both write the text pass by pass in
    turn: the median of the differences within these pairs is told, which no drift moves.

    Raises:
        ValueError: a text of fewer than two tokens.
    """
    decoders: list[Iterator[Step]] = [
        decode_cached(model, [prompt], max_new_tokens=max_new_tokens),
        decode_jacobi(model, [prompt], block=1, max_new_tokens=max_new_tokens),
    ]
    passes = in_turn([[partial(next, decoder) for decoder in decoders]] * max_new_tokens)
    next(passes)  # reads the prompt
    return Measured.of(jacobi.seconds - plain.seconds for plain, jacobi in passes)


def right_after(
    runs: Iterable[Sequence[JacobiStep]], most: int
) -> list[dict[bool, tuple[int, int]]]:
    """Of the choices 1 to `most` places after a changed token: how many were right, of how many.

    Counted apart by whether the token that a choice was made right after was true itself. Runs are
    of one row each; what lies after the end of a text is not counted.
    """
    counts = [{True: (0, 0), False: (0, 0)} for _ in range(most)]
    for read, unsettled, text, written in _unsettled(runs):
        for i, (token, true) in enumerate(zip(unsettled, text[written:], strict=False)):
            if i < most:
                before = read[i] == text[written + i - 1]
                right, tried = counts[i][before]
                counts[i][before] = right + (token == true), tried + 1
    return counts


def pairs_elsewhere(runs: Iterable[Sequence[JacobiStep]]) -> tuple[int, int]:
    """Of neighbours that a pass left unsettled: how many follow one another in the text."""
    found = tried = 0
    for _, unsettled, text, _ in _unsettled(runs):
        follow = set(pairwise(text))
        found += sum(pair in follow for pair in pairwise(unsettled))
        tried += max(len(unsettled) - 1, 0)
    return found, tried


def _unsettled(
    runs: Iterable[Sequence[JacobiStep]],
) -> Iterator[tuple[Sequence[int], Sequence[int], Sequence[int], int]]:
    """Of every pass: what unsettled choices were made right after, these, the text, its size."""
    for steps in runs:
        rows = [step.rows[0] for step in steps]
        text, written = [token for row in rows for token in row.tokens], 0
        for row in rows:
            count = len(row.tokens)
            written += count
            yield row.before[count - 1 :], row.after[count:], text, written


def rate(count: int, passes: int) -> str:
    """Tokens a pass, as text: a quotient of whole numbers rounds alike on every machine."""
    return verbatim(f"{count / passes:.2f}")


_SHOWN = ("tokens a pass", "speed-up, measured", "speed-up, predicted")


class GainExplorer(ChartExplorer):
    """Tokens a pass against what a pass costs, and the speed-up that is left.

    Args:
        plain: plain decoding of the same prompts.
        families: a curve each, with as many points as there are labels.
        V: the time of m tokens together, by m; see `cost_at`.
        labels: of the points of a curve.
        x: where the points stand; by default at the tokens that their passes read, on average.
        x_title: what that is.
        names: of the controls that choose a curve and a point.
        first: the curve and the point that are marked at first.

    Raises:
        ValueError: no curve, or curves of different lengths.
    """

    def __init__(
        self,
        plain: Passes,
        families: Mapping[str, Sequence[Passes]],
        V: Mapping[int, float],
        labels: Sequence[str],
        *,
        x: Sequence[float] | None = None,
        x_title: str,
        names: tuple[str, str],
        first: tuple[str, int],
    ):
        sizes = {name: len(family) for name, family in families.items()}
        if not labels or set(sizes.values()) != {len(labels)}:
            raise ValueError(f"each curve needs {len(labels)} points, got {sizes}")
        self._plain, self._families, self._V = plain, families, V
        self._x, self._x_title = x, x_title
        self._curve, self._point = names
        options = [(label, index) for index, label in enumerate(labels)]
        super().__init__(
            {
                "show": ipywidgets.Dropdown(options=_SHOWN, description="show"),
                self._curve: ipywidgets.Dropdown(
                    options=list(families), value=first[0], description=self._curve
                ),
                self._point: ipywidgets.SelectionSlider(
                    options=options, value=first[1], description=self._point
                ),
            }
        )

    @property
    def _chosen(self) -> Passes:
        return self._families[self[self._curve]][self[self._point]]

    @property
    def _counted(self) -> bool:
        """Whether tokens are shown, and not the speed-up."""
        return self["show"] == _SHOWN[0]

    def _value(self, passes: Passes) -> float:
        if self._counted:
            return passes.a_pass
        measured = self["show"] == _SHOWN[1]
        return passes.measured(self._plain) if measured else passes.predicted(self._V)

    def _xs(self, family: Sequence[Passes]) -> list[float]:
        return list(self._x) if self._x else [passes.mean_read for passes in family]

    def _costs(self) -> Curve:
        """What has to be exceeded: the cost of a pass, or 1 where it is in the speed-up."""
        if self._x:
            xs = list(self._x)
            costs = [passes.cost(self._V) for passes in next(iter(self._families.values()))]
        else:
            most = max(p.mean_read for family in self._families.values() for p in family)
            xs = [1.0, *(float(m) for m in sorted(self._V) if 1 < m < most), most]
            costs = [cost_at(self._V, m) for m in xs]
        if self._counted:
            return Curve("cost of a pass", xs, costs, baseline=True)
        return Curve("plain", xs, [1.0] * len(xs), baseline=True)

    def chart(self) -> Chart:
        curves = {
            name: (self._xs(family), [self._value(passes) for passes in family])
            for name, family in self._families.items()
        }
        ys = [y for _, family in curves.values() for y in family]
        best = max(ys)
        x, y = (side[self[self._point]] for side in curves[self[self._curve]])
        pays = Claim(
            f"The best of these is {best:.2f} times as fast as plain decoding", ((1, best),)
        )
        loses = Claim("None of these is faster than plain decoding", tuple((y, 1) for y in ys))
        return Chart(
            title="It pays where the tokens of a pass are more than its cost"
            if self._counted
            else (pays, loses),
            x_title=self._x_title,
            y_title="tokens of a pass; its cost, V" if self._counted else "speed-up (times)",
            series=(self._costs(), *(Curve(name, *curve) for name, curve in curves.items())),
            note=(x, y, f"{y:.2f}"),
        )

    def said(self) -> str:
        passes, label = self._chosen, self.controls[self._point].label
        cost = passes.cost(self._V)
        noise = f" ({say('chart.noise')})" if cost < 1 else ""
        return (
            f"{self._said_curve()}, {self._point} {label}: {passes.a_pass:.2f} tokens "
            f"a pass ({say('tag.computed')}); a pass reads {passes.mean_read:.1f} tokens and costs "
            f"{cost:.2f} times one token{noise}, so {passes.predicted(self._V):.2f} times "
            f"the speed is predicted; {passes.measured(self._plain):.2f} "
            f"({say('tag.measured')})."
        )

    def _said_curve(self) -> str:
        """Such as "start random"; a curve that names itself, such as "N = 4", says no more."""
        curve = str(self[self._curve])
        return curve if curve.startswith(self._curve) else f"{self._curve} {curve}"


class JacobiGainExplorer(GainExplorer):
    """Jacobi decoding by block size and by what a block starts from.

    Args:
        plain, runs: from `measure_blocks`.
        V: from `minillm.measure.machine.measure_tokens`.
    """

    def __init__(
        self, plain: Passes, runs: Mapping[str, Mapping[int, Passes]], V: Mapping[int, float]
    ):
        blocks = sorted(next(iter(runs.values()), {}))
        super().__init__(
            plain,
            {name: [run[block] for block in sorted(run)] for name, run in runs.items()},
            V,
            list(map(str, blocks)),
            x=blocks,
            x_title="block (places that are iterated together)",
            names=("start", "block"),
            first=(next(iter(runs), ""), len(blocks) // 2),
        )
