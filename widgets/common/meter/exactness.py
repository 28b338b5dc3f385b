"""Two runs of a decoder compared: what is equal, to which bound, and what excuses a difference.

Tokens must be equal. Logits must agree within a bound wherever both runs have the same text behind
them. Where tokens differ although the logits agree, rounding is an excuse only if the two best
tokens score alike, within the same bound.

Dimensions: T tokens of one row, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from minillm.decoding import Step
from widgets.common.card import CLOSE, OPEN, RIGHT, WRONG, Note, Statement
from widgets.common.stable import verbatim
from widgets.common.strings import say

__all__ = ["BOUNDS", "Verdict", "compare", "largest", "texts"]

BOUNDS = {torch.float64: 1e-10, torch.float32: 1e-4}  # of logits and cache, by precision


@dataclass(frozen=True)
class Verdict:
    """What two runs have in common.

    Attributes:
        tokens: compared, over all rows; with a difference, those before it.
        rows: of the batch.
        bound: within which logits and caches count as equal.
        difference: the largest between logits of the same text.
        first: (row, index) of the first token that differs; None if all are equal.
        margin: between the two best logits there; None where one run ended before the other.
        cache: the largest difference from a fresh prefill; None if no cache was compared.
        cached: tokens whose keys and values were compared.
    """

    tokens: int
    rows: int
    bound: float
    difference: float
    first: tuple[int, int] | None = None
    margin: float | None = None
    cache: float | None = None
    cached: int = 0

    @property
    def close(self) -> bool:
        """Whether the logits agree within the bound; NaN agrees with nothing."""
        return self.difference <= self.bound

    @property
    def grade(self) -> Literal["identical", "rounding", "different", "empty"]:
        """Rounding excuses another token only where both choices score alike, within the bounds."""
        if self.tokens == 0 and self.first is None:
            return "empty"
        if not self.close or (self.cache is not None and not self.cache <= self.bound):
            return "different"
        if self.first is None:
            return "identical"
        tie = self.margin is not None and self.margin <= 2 * self.bound
        return "rounding" if tie else "different"

    def note(self) -> Note:
        """The verdict in words; what differs between machines is kept for the live view."""
        if self.grade == "empty":
            said = [Statement(OPEN, say("meter.empty"))]
        else:
            said = [self._tokens(), self._logits(), *self._cache()]
        return Note(say("meter.heading"), tuple(said), tag="computed")

    def _tokens(self) -> Statement:
        if self.first is None:
            return Statement(RIGHT, say("meter.tokens", tokens=self.tokens))
        row = say("meter.row", row=self.first[0]) if self.rows > 1 else ""
        if self.margin is None:
            return Statement(WRONG, say("meter.lengths", first=self.first[1], row=row))
        where, live = self.first[1] + 1, say("meter.live_margin", margin=f"{self.margin:.1e}")
        if self.grade == "rounding":
            detail = say("meter.margin", margin=_power(2 * self.bound))
            return Statement(CLOSE, say("meter.rounding", first=where), detail, live)
        return Statement(WRONG, say("meter.different", first=where, row=row), live=live)

    def _logits(self) -> Statement:
        live = say("meter.live", difference=f"{self.difference:.1e}")
        key, mark = ("meter.logits", RIGHT) if self.close else ("meter.logits_off", WRONG)
        return Statement(mark, say(key, bound=_power(self.bound)), live=live)

    def _cache(self) -> Iterator[Statement]:
        if self.cache is None:
            return
        live = say("meter.live", difference=f"{self.cache:.1e}")
        if self.cached == 0:
            yield Statement(OPEN, say("meter.cache_none"))
        elif self.cache <= self.bound:
            text = say("meter.cache", bound=_power(self.bound), tokens=self.cached)
            yield Statement(RIGHT, text, live=live)
        else:
            yield Statement(WRONG, say("meter.cache_off", bound=_power(self.bound)), live=live)


def compare(a: Iterable[Step], b: Iterable[Step], *, bound: float | None = None) -> Verdict:
    """Compare two runs token by token, and the logits as long as both texts are the same.

    Args:
        a: the steps of the naive run.
        b: the steps of the other; it may commit more or fewer tokens in a step.
        bound: what counts as equal; by default the looser of the two precisions' in `BOUNDS`.

    Raises:
        ValueError: another number of rows, or no bound for this precision.
    """
    left, right = texts(a), texts(b)
    if len(left) != len(right):
        raise ValueError(f"the runs must have equally many rows, got {len(left)} and {len(right)}")
    if bound is None:
        bound = max((_bound(logits) for _, logits in left + right), default=BOUNDS[torch.float64])
    verdict = Verdict(0, len(left), bound, 0.0)
    for row, ((tokens, p), (others, q)) in enumerate(zip(left, right, strict=True)):
        both = min(len(tokens), len(others))
        same = next((i for i in range(both) if tokens[i] != others[i]), both)
        seen = slice(0, same + 1)  # the first different token still comes from the same text
        gap = (p[:both][seen].double() - q[:both][seen].double()).abs()
        verdict = replace(
            verdict, tokens=verdict.tokens + same, difference=largest(verdict.difference, gap)
        )
        if same < max(len(tokens), len(others)) and verdict.first is None:
            margin = None if same == both else min(_margin(p[same]), _margin(q[same]))
            verdict = replace(verdict, first=(row, same), margin=margin)
    return verdict


def _power(bound: float) -> str:
    return verbatim(f"{bound:.0e}".replace("e-0", "e-"))


def texts(steps: Iterable[Step]) -> list[tuple[list[int], Tensor]]:
    """The committed tokens of each row, with the logits (T, V) each was picked from."""
    tokens: list[list[int]] = []
    logits: list[list[Tensor]] = []
    for step in steps:
        tokens = tokens or [[] for _ in step.rows]
        logits = logits or [[] for _ in step.rows]
        for b, row in enumerate(step.rows):
            tokens[b] += row.tokens
            logits[b].append(row.logits)
    return [(t, torch.cat(p)) for t, p in zip(tokens, logits, strict=True)]


def _bound(logits: Tensor) -> float:
    if logits.dtype not in BOUNDS:
        raise ValueError(f"no bound is known for {logits.dtype}: give one as bound=...")
    return BOUNDS[logits.dtype]


def largest(so_far: float, gap: Tensor) -> float:
    """The larger one; NaN stays."""
    return float(torch.cat((gap.flatten(), gap.new_tensor([so_far]))).max())


def _margin(logits: Tensor) -> float:
    best = logits.double().topk(2).values
    return float(best[0] - best[1])
