"""What guessing gains on this machine: both decoders run, their Steps added up.

One half of the prompts gives acceptance and costs, from which the speed-up of the other half is
predicted; that half is measured too.

Dimensions: G guesses of a round, B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

from minillm.acceptance import acceptance_by_position
from minillm.decoding import Model, Step, decode_cached, generators
from minillm.drafters import Drafter
from minillm.sampling import GREEDY, Sampler
from minillm.speculative import Round, decode_speculative
from minillm.speedup import speedup

__all__ = ["Costs", "Gain", "measure_batches", "measure_gain"]


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
        max_new_tokens: of each text; two rounds of the most guesses must fit into it.
        sampler: of both decoders.

    Raises:
        ValueError: fewer than two prompts, no number of guesses or one below 1, or too few tokens;
            before anything is decoded. As `Costs.of`, where the context ends a text too early.
    """
    if len(prompts) < 2 or not gammas:
        raise ValueError(f"{len(prompts)} prompts and {len(gammas)} gammas: 2 and 1 are needed")
    if min(gammas) < 1:
        raise ValueError(f"gammas must be at least 1, got {gammas}")
    most = max(gammas)
    if max_new_tokens < (needed := 2 * (most + 1)):
        raise ValueError(
            f"rounds of {most} guesses need at least {needed} new tokens, got {max_new_tokens}"
        )
    decode = partial(_decode, model, drafter, max_new_tokens=max_new_tokens, sampler=sampler)
    list(decode(prompts[0], 0)), list(decode(prompts[0], most))  # warm up
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


def measure_batches(
    model: Model,
    drafter: Drafter,
    prompts: Sequence[Sequence[int]],
    batches: Iterable[int],
    *,
    gamma: int = 4,
    max_new_tokens: int = 32,
) -> dict[int, tuple[float, float]]:
    """Tokens a second of the first B prompts together, plain and with guesses, by B; greedy.

    The step that reads the prompts is left out. Rows end at different rounds, and the last one
    decides when the batch is done.

    Raises:
        ValueError: a batch of no rows, or of more than there are prompts; or one that ends in the
            step that reads the prompts.
    """
    batches = list(batches)
    if not all(1 <= B <= len(prompts) for B in batches):
        raise ValueError(f"batches must be from 1 to {len(prompts)} rows, got {batches}")
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
    _, *later = steps
    if not later:
        raise ValueError("all rows ended in the step that reads the prompts: too few new tokens")
    tokens = sum(len(row.tokens) for step in later for row in step.rows)
    return tokens / sum(step.seconds for step in later)
