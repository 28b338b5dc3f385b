"""A timeline of steps: who prefills, who decodes, and how long each reader waits for a token.

Arrivals count steps, so that another machine serves them in the same order; times are the measured
seconds of the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from minillm import Transformer
from minillm.serving import Engine
from minillm.serving.record import Moment, Record
from minillm.serving.replay import one_each, serve
from minillm.serving.workload import Asked
from widgets.common.controls import choice, numbers
from widgets.common.drawing.film import Bar, Film, Lane, Lanes, Number
from widgets.common.player import FilmExplorer
from widgets.common.strings import say
from widgets.serving.tables import name_of, names, verb

__all__ = ["Timeline", "TimelineExplorer", "timeline_film"]

_MS = 1e3
_WHOLE = 512  # a budget that no prompt exceeds: the context


@dataclass(frozen=True)
class Timeline:
    """When each step of a run ended, in milliseconds, and what requests had by then.

    Attributes:
        record: of `serve`, its clock `one_each`.
    """

    record: Record

    @property
    def ends(self) -> list[float]:
        return list(accumulate(_MS * moment.step.seconds for moment in self.record.moments))

    @property
    def starts(self) -> list[float]:
        return [0.0, *self.ends[:-1]]

    def arrival(self, number: int) -> int:
        """The step that a request first waits for."""
        at = self.record.requests[number].asked.at
        return next(i for i, moment in enumerate(self.record.moments) if moment.start >= at)

    def tokens(self, number: int) -> list[float]:
        """When each token of a request was there."""
        return [
            end
            for end, moment in zip(self.ends, self.record.moments, strict=True)
            for _ in moment.step.tokens.get(number, ())
        ]

    def ttft(self, number: int) -> float:
        """Milliseconds from the arrival to the first token."""
        return self.tokens(number)[0] - self.starts[self.arrival(number)]

    def longest_gap(self, number: int) -> float:
        """The most milliseconds between two tokens of a request."""
        return max((b - a for a, b in pairwise(self.tokens(number))), default=0.0)


class TimelineExplorer(FilmExplorer):
    """Readers at work when a long prompt arrives, served anew at every change of a control.

    Args:
        model: what serves them.
        asked: from the length of the late prompt, the requests; the last of them is late.
        lengths: of the late prompt.
    """

    def __init__(
        self,
        model: Transformer,
        asked: Callable[[int], Sequence[Asked]],
        lengths: Sequence[int] = (100, 200, 400),
    ):
        self._model, self._asked = model, asked
        super().__init__(
            {
                "budget": choice(
                    "chunks", {"off": _WHOLE, "64 tokens": 64, "32 tokens": 32, "16 tokens": 16}
                ),
                "length": numbers("late prompt (tokens)", lengths, lengths[-1]),
            }
        )

    def film(self) -> Film:
        if not hasattr(self, "_timeline"):
            self._serve()  # warms up
        self._timeline = self._serve()
        return timeline_film(self._timeline)

    def summary(self) -> str:
        line = self._timeline
        *early, late = line.record.requests
        gap = max(map(line.longest_gap, early))
        return (
            f"Chunks {self.controls['budget'].label}, a prompt of {self['length']} tokens arrives "
            f"late: its first token takes {line.ttft(late):.0f} ms, the longest gap of the others "
            f"is {gap:.0f} ms, all take {line.ends[-1]:.0f} ms ({say('tag.measured')})."
        )

    def _serve(self) -> Timeline:
        asked = self._asked(self["length"])
        blocks = sum(len(one.prompt) + one.more for one in asked) // 16 + len(asked)
        engine = Engine(self._model, blocks=blocks, budget=self["budget"], share=False)
        return Timeline(serve(engine, asked, one_each))


def timeline_film(line: Timeline) -> Film:
    """What each request does while each step takes its time."""
    moments = line.record.moments
    return Film(
        title="A timeline of steps",
        hint="A bar is a step, as long as it took. Who writes gets one token at its end: a long "
        "bar is a gap that a reader sees.",
        captions=tuple(_told(line, i) for i in range(len(moments))),
        panels=(
            Lanes(
                tuple(_lane(number, line) for number in line.record.requests),
                title="Time, one axis for all",
                unit="ms",
            ),
        ),
        numbers=_numbers(line),
    )


def _lane(number: int, line: Timeline) -> Lane:
    moments, arrival = line.record.moments, line.arrival(number)
    last = max(i for i, moment in enumerate(moments) if number in moment.step.reads)
    bars = tuple(
        Bar(i, line.starts[i], line.ends[i], _doing(number, moments[i]))
        for i in range(arrival, last + 1)
    )
    notes = tuple(_note(number, line, i) for i in range(len(moments)))
    return Lane(name_of(number), bars=bars, notes=notes)


def _doing(number: int, moment: Moment) -> str:
    if number in moment.prefill:
        return "prefill"
    return "decode" if number in moment.decode else "waiting"


def _note(number: int, line: Timeline, i: int) -> str:
    """What is known of a request by the end of a step."""
    if i < line.arrival(number):
        return "not here yet"
    there = [end for end in line.tokens(number) if end <= line.ends[i]]
    if not there:
        return "waits for its first token"
    gap = max((b - a for a, b in pairwise(there)), default=0.0)
    return f"TTFT {line.ttft(number):.0f} ms, longest gap {gap:.0f} ms"


def _told(line: Timeline, i: int) -> str:
    moment = line.record.moments[i]
    parts = []
    if moment.decode:
        parts.append(f"{names(sorted(moment.decode))} {verb(moment.decode, 'decodes')}")
    parts += [f"{name_of(n)} prefills {count} tokens" for n, count in moment.prefill.items()]
    return f"{'; '.join(parts)}. The step takes {_MS * moment.step.seconds:.1f} ms."


def _numbers(line: Timeline) -> tuple[Number, ...]:
    moments, ends = line.record.moments, line.ends
    written = list(accumulate(sum(map(len, m.step.tokens.values())) for m in moments))
    longest = list(accumulate((_MS * moment.step.seconds for moment in moments), max))
    return (
        Number("so far", tuple(f"{end:,.0f} ms" for end in ends), "measured"),
        Number("longest step", tuple(f"{most:.0f} ms" for most in longest), "measured"),
        Number("tokens written", tuple(map(str, written)), "computed"),
        Number(
            "tokens a second",
            tuple(f"{_MS * n / end:,.0f}" for n, end in zip(written, ends, strict=True)),
            "measured",
        ),
    )
