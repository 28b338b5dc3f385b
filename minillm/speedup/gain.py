"""What guessing gains on this machine: both decoders run, their Steps added up.

One half of the prompts gives acceptance and costs, from which the speed-up of the other half is
predicted; that half is measured too.

Dimension: gamma guesses of a round.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from minillm.decoding import Model, Step, decode_cached, generators
from minillm.measure.noise import Measured
from minillm.sampling import GREEDY, Sampler
from minillm.speculative.decode import SpeculativeStep, decode_speculative
from minillm.speculative.drafters import Drafter
from minillm.speedup.acceptance import acceptance_by_position
from minillm.speedup.formulas import speedup
from minillm.whole import wholes

__all__ = ["Costs", "Gain", "measure_gain"]


@dataclass(frozen=True)
class Costs:
    """Rounds of gamma guesses, summed up; those that had room for fewer are left out.

    Attributes:
        gamma: guesses of each.
        tokens: of a round, on average.
        draft, verify, rest: seconds of a round, medians.
        plain: seconds of a token without guessing, median.
        acceptance: of guess 1, 2, ..., where all before it were kept.
        share: of all judged guesses, those that were kept.
    """

    gamma: int
    tokens: float
    draft: float
    verify: float
    rest: float
    plain: float
    acceptance: tuple[float, ...]
    share: float

    @classmethod
    def of(cls, rounds: Sequence[SpeculativeStep], plain: Sequence[Step], gamma: int) -> Costs:
        """Add up.

        Raises:
            ValueError: no round of gamma guesses, or no plain step.
        """
        full = [step for step in rounds if all(len(row.guesses) == gamma for row in step.rows)]
        if not full or not plain:
            raise ValueError(f"{len(rounds)} rounds hold none of {gamma} guesses to add up")
        rows = [row for step in full for row in step.rows]
        rest = (step.seconds - step.draft_seconds - step.verify_seconds for step in full)
        found = acceptance_by_position(full)
        return cls(
            gamma=gamma,
            tokens=sum(len(row.tokens) for row in rows) / len(rows),
            draft=Measured.of(step.draft_seconds for step in full),
            verify=Measured.of(step.verify_seconds for step in full),
            rest=Measured.of(rest),
            plain=Measured.of(step.seconds for step in plain),
            acceptance=(*found, *[0.0] * (gamma - len(found))),
            share=sum(row.accepted for row in rows) / sum(row.judged for row in rows),
        )

    @property
    def seconds(self) -> float:
        """Of a round."""
        return self.draft + self.verify + self.rest

    @property
    def c(self) -> float:
        """A step of the drafter, in plain steps."""
        return self.draft / self.gamma / self.plain

    @property
    def verification(self) -> float:
        """What follows the guesses, in plain steps."""
        return (self.verify + self.rest) / self.plain

    @property
    def measured(self) -> float:
        """The speed-up of these rounds: how many times faster than without guessing."""
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
        """The paper's: every guess alike, and a pass over gamma + 1 tokens as cheap as over one."""
        fit = self.fitted
        return speedup([fit.share] * fit.gamma, factor * fit.c, 1.0)


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
        max_new_tokens: of each text; two rounds of the most guesses must fit into it.
        sampler: of both decoders.

    Raises:
        ValueError: fewer than two prompts, no number of guesses or one below 1, or too few tokens;
            before anything is decoded. As `Costs.of`, where the context ends a text too early.
    """
    if len(prompts) < 2 or not gammas:
        raise ValueError(f"{len(prompts)} prompts and {len(gammas)} gammas: 2 and 1 are needed")
    most = max(wholes("gammas", gammas, least=1))
    if max_new_tokens < (needed := 2 * (most + 1)):
        raise ValueError(
            f"rounds of {most} guesses need at least {needed} new tokens, got {max_new_tokens}"
        )
    decode = partial(_decode, model, drafter, max_new_tokens=max_new_tokens, sampler=sampler)
    list(decode(prompts[0], 0)), list(decode(prompts[0], most))  # warm up
    plain: tuple[list[Step], list[Step]] = [], []
    rounds: tuple[dict[int, list[SpeculativeStep]], ...] = tuple(
        {gamma: [] for gamma in gammas} for _ in range(2)
    )
    for index, prompt in enumerate(prompts):
        half = index % 2  # in turn, so that a drift of the machine hits both alike
        for gamma in (0, *gammas, 0):
            steps = list(decode(prompt, gamma))[1:]  # the first one reads the prompt
            (rounds[half][gamma] if gamma else plain[half]).extend(steps)
    fitted, tried = (
        {gamma: Costs.of(rounds[half][gamma], plain[half], gamma) for gamma in gammas}
        for half in range(2)
    )
    return {gamma: Gain(fitted[gamma], tried[gamma]) for gamma in gammas}


def _decode(
    model: Model,
    drafter: Drafter,
    prompt: Sequence[int],
    gamma: int,
    *,
    max_new_tokens: int,
    sampler: Sampler,
) -> Iterator[Any]:
    common: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "sampler": sampler,
        "generators": generators(0, 1),
    }
    if gamma == 0:
        return decode_cached(model, [prompt], **common)
    return decode_speculative(model, [prompt], drafter=drafter, gamma=gamma, **common)
