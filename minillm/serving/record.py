"""What each of many requests got, and how things stood behind each step of an engine.

Source: the names TTFT and TPOT are those of vLLM's benchmarks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import quantiles

from minillm.serving.engine import ServingStep
from minillm.serving.workload import Asked

__all__ = ["Moment", "Record", "Served", "p95"]


def p95(times: Sequence[float]) -> float:
    """What 95 of 100 do not exceed, between neighbours in proportion.

    >>> p95([0, 100]), p95([7])
    (95.0, 7)
    """
    return quantiles(times, n=20, method="inclusive")[-1] if len(times) > 1 else times[0]


@dataclass
class Served:
    """What a request got.

    Attributes:
        asked: for what.
        tokens: the text behind the prompt.
        times: when each token was there.
    """

    asked: Asked
    tokens: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    @property
    def ttft(self) -> float:
        """Time to the first token, waiting included."""
        return self.times[0] - self.asked.at

    @property
    def tpot(self) -> float:
        """Time per output token after the first; 0 where there is no other."""
        return (self.times[-1] - self.times[0]) / max(len(self.times) - 1, 1)

    @property
    def gaps(self) -> list[float]:
        """Times between a token and the next."""
        return [later - earlier for earlier, later in pairwise(self.times)]

    @property
    def longest_gap(self) -> float:
        """The longest of the gaps; 0 where there is none."""
        return max(self.gaps, default=0.0)


@dataclass(frozen=True)
class Moment:
    """A step, and how things stood behind it; requests go by their numbers.

    Attributes:
        start: by the clock.
        end: see `start`.
        step: what was done.
        prefill: tokens that each request read of its prompt, or read again after a preemption.
        decode: requests that read the token they had written last.
        tables: blocks of each running request, in order, and how many tokens they hold.
        waiting: requests that have arrived and do not run.
        remembered: blocks that known beginnings hold.
        holders: of each block of the pool, how many it has by the ledger.
    """

    start: float
    end: float
    step: ServingStep
    prefill: dict[int, int]
    decode: frozenset[int]
    tables: dict[int, tuple[tuple[int, ...], int]]
    waiting: tuple[int, ...]
    remembered: frozenset[int]
    holders: tuple[int, ...]


@dataclass(frozen=True)
class Record:
    """What came of a workload: of each request by its number, and of each step of an engine."""

    requests: dict[int, Served]
    moments: list[Moment] = field(default_factory=list)

    @property
    def end(self) -> float:
        """When the last token was there."""
        return max(served.times[-1] for served in self.requests.values())

    @property
    def throughput(self) -> float:
        """Tokens written in a unit of the clock, from the first arrival to the end."""
        written = sum(len(served.tokens) for served in self.requests.values())
        return written / (self.end - min(served.asked.at for served in self.requests.values()))

    @property
    def ttft_p95(self) -> float:
        """The time to the first token that 95 of 100 requests do not exceed."""
        return p95([served.ttft for served in self.requests.values()])
