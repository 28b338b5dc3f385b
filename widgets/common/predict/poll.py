"""A vote of the hall, and a gate before it: who may vote when, without a server or a clock.

A device is a random name that it was given; it votes once and may change its mind while the poll is
open. Nothing else is known of it, and nothing is written down.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from widgets.common.predict.question import Question

__all__ = ["MOST_DEVICES", "Gate", "Poll"]

MOST_DEVICES = 2000
_MOST_ADDRESSES = 10_000


@dataclass
class Poll:
    """The votes on one question: for each device the number of a bin."""

    question: Question
    open: bool = True
    votes: dict[str, int] = field(default_factory=dict)

    def vote(self, device: str, choice: int) -> bool:
        """Count a device's vote in place of its earlier one; False where closed or full.

        Raises:
            ValueError: there is no such bin.
        """
        if not 0 <= choice < len(self.question.bins()):
            raise ValueError(f"{self.question.key}: there is no bin {choice}")
        if not self.open or (device not in self.votes and len(self.votes) >= MOST_DEVICES):
            return False
        self.votes[device] = choice
        return True

    @property
    def counts(self) -> list[int]:
        """Votes for each bin."""
        counts = [0] * len(self.question.bins())
        for choice in self.votes.values():
            counts[choice] += 1
        return counts


@dataclass
class Gate:
    """Lets an address through `burst` times at once, and `rate` times a second after that."""

    rate: float = 4.0
    burst: float = 60.0
    _seen: dict[str, tuple[float, float]] = field(default_factory=dict)  # tokens left, and when

    def lets(self, address: str, now: float) -> bool:
        """Whether this request may pass; `now` in seconds of any clock that only rises.

        >>> gate = Gate(rate=1, burst=2)
        >>> [gate.lets("a", now) for now in (0.0, 0.0, 0.0, 1.0)], gate.lets("b", 0.0)
        ([True, True, False, True], True)
        """
        if address not in self._seen and len(self._seen) >= _MOST_ADDRESSES:
            self._seen = {a: s for a, s in self._seen.items() if self._left(a, now) < self.burst}
            if len(self._seen) >= _MOST_ADDRESSES:
                return False
        left = self._left(address, now)
        self._seen[address] = (left - 1 if left >= 1 else left, now)
        return left >= 1

    def _left(self, address: str, now: float) -> float:
        left, then = self._seen.get(address, (self.burst, now))
        return min(self.burst, left + (now - then) * self.rate)
