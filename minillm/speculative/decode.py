"""Guess and verify: a cheap guesser writes ahead, the target checks all its guesses in one pass.

A round: the drafter proposes some tokens; one forward pass of the target gives its distribution at
each of them and behind the last; `minillm.speculative.verification.verify` keeps some and adds one
token. Both caches then forget what was not kept. A pass over a few tokens takes little more time
than over one, so that every kept guess is a token almost for free.

Dimensions: gamma guesses of a round, R distributions that a round needs, C width, V vocabulary.

Sources: arXiv 2211.17192, algorithm 1; arXiv 2302.01318, algorithm 2.
"""

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from minillm.attention import Cache
from minillm.batch import Batch, Row
from minillm.decoding import Model, NewCache, Step, contiguous
from minillm.measure.timing import now
from minillm.ragged import forward_rows
from minillm.sampling import GREEDY, Sampler
from minillm.speculative.drafters import Drafter, Drafting, Proposal
from minillm.speculative.verification import verify, verify_greedy
from minillm.whole import whole

__all__ = ["GammaRule", "SpeculativeRow", "SpeculativeStep", "decode_speculative", "judge"]


@runtime_checkable
class GammaRule(Protocol):
    """How many guesses each round has; `minillm.speedup.AdaptiveGamma` is one."""

    @property
    def largest(self) -> int: ...  # the most guesses of a round

    def choose(self, accepted: int, tried: int) -> int: ...  # of a row so far


@dataclass(frozen=True)
class _Fixed:
    largest: int

    def choose(self, accepted: int, tried: int) -> int:
        return self.largest


@dataclass(frozen=True)
class SpeculativeRow(Row):
    """What one round did to one row.

    Attributes:
        guesses: what was proposed.
        q: (gamma, V), what each guess was drawn from.
        target_logits: (gamma + 1, V), at each guess and behind the last.
        u: (gamma + 1,), the uniforms of `verify`.
        accepted: guesses that it kept; a stop token among them may end the row before the last.
        sampler: what made distributions of logits.
    """

    guesses: tuple[int, ...]
    q: Tensor
    target_logits: Tensor
    u: Tensor
    accepted: int
    sampler: Sampler

    @property
    def p(self) -> Float[Tensor, "gamma1 V"]:
        """The target's distribution at each guess and behind the last."""
        return self.sampler.probabilities(self.target_logits)

    @property
    def judged(self) -> int:
        """Guesses that were accepted or rejected; those behind a rejection are neither."""
        return min(self.accepted + 1, len(self.guesses))


@dataclass(frozen=True)
class SpeculativeStep(Step):
    """A step of guess and verify.

    Attributes:
        draft_seconds: of the drafter.
        verify_seconds: of the target's pass; the rest of `seconds` is neither.
    """

    rows: tuple[SpeculativeRow, ...]
    draft_seconds: float
    verify_seconds: float


def decode_speculative(
    model: Model,
    prompts: Sequence[Sequence[int]],
    *,
    drafter: Drafter,
    gamma: int | GammaRule = 4,
    max_new_tokens: int,
    sampler: Sampler = GREEDY,
    generators: Sequence[torch.Generator] = (),
    stop: Collection[int] = (),
    cache: NewCache | None = None,
) -> Iterator[SpeculativeStep]:
    """Several tokens for one pass of the model; the naive twin is `decode_cached`.

    Greedy, the tokens are the twin's. Sampled, they have its law, but other numbers draw them. The
    first round reads the prompts too.

    Args:
        model: the target.
        prompts: the tokens of each row; rows may differ in length.
        drafter: where guesses come from (`minillm.speculative.drafters`).
        gamma: guesses of a round, or a rule that sets them.
        max_new_tokens: the budget of each row; the end of the context ends a row too.
        sampler: shapes the distributions of target and drafter alike.
        generators: one per row; needed unless the sampler is greedy.
        stop: tokens that end a row once committed.
        cache: makes the target's cache, as of `decode_cached`.

    Raises:
        ValueError: gamma below 1 or no whole number, a drafter of another vocabulary, or one that
            guesses more than it may; or as `decode_cached`.
    """
    rule = gamma if isinstance(gamma, GammaRule) else _Fixed(whole("gamma", gamma, least=1))
    batch = Batch(model.config, prompts, max_new_tokens, sampler, generators, stop, model.device)
    rows, capacity = len(batch.texts), max(batch.limits) + rule.largest
    make = cache or contiguous(model)
    drafting = drafter.start(model.config, rows, capacity)
    return _speculate(model, batch, make(rows, capacity), drafting, rule, sampler)


def _speculate(
    model: Model,
    batch: Batch,
    cache: Cache,
    drafting: Drafting,
    rule: GammaRule,
    sampler: Sampler,
) -> Iterator[SpeculativeStep]:
    tallies = [(0, 0)] * len(batch.texts)  # of each row: guesses accepted, guesses judged
    held = (0,) * len(batch.texts)  # of each row: tokens in the target's cache
    for forwards in count(1):
        start = time.perf_counter()
        with torch.inference_mode():
            counts = [_guesses(rule, batch.left(b), *tally) for b, tally in enumerate(tallies)]
            needed = [0 if batch.ended[b] else 2 * n + 1 for b, n in enumerate(counts)]
            u = [batch.uniforms(b, n) for b, n in enumerate(needed)]
            proposals = drafting.propose(batch.texts, counts, sampler, u)
            made = [len(proposal.guesses) for proposal in proposals]
            if any(n > most for n, most in zip(made, counts, strict=True)):
                raise ValueError(f"the drafter may make {counts} guesses, it made {made}")
            drafted = now(model.device)
            computed, logits = _score(model, batch, cache, held, proposals)
            scored = now(model.device)
            rows = tuple(
                judge(batch, b, proposals[b], logits[b], u[b][n:], sampler)
                for b, n in enumerate(counts)
            )
            held = tuple(length - 1 for length in batch.lengths)  # all but the newest tokens
            cache.truncate(held)
            drafting.settle(batch.texts)
        seconds = time.perf_counter() - start
        yield SpeculativeStep(
            rows, held, forwards, computed, seconds, drafted - start, scored - drafted
        )
        if batch.all_ended:
            return
        tallies = [(a + r.accepted, n + r.judged) for (a, n), r in zip(tallies, rows, strict=True)]


def _guesses(rule: GammaRule, room: int, accepted: int, judged: int) -> int:
    """Guesses of a row's next round: the token behind them needs room as well."""
    return max(min(rule.choose(accepted, judged), room - 1), 0)


def _score(
    model: Model,
    batch: Batch,
    cache: Cache,
    held: Sequence[int],
    proposals: Sequence[Proposal],
) -> tuple[int, tuple[Tensor, ...]]:
    """One pass over what the cache lacks and the guesses; how many tokens that was, padding too.

    Of each row the logits (gamma + 1, V) at its guesses and behind the last; none of an ended one.
    """
    unread = [
        [] if ended else [*text[n:], *proposal.guesses]
        for text, n, ended, proposal in zip(batch.texts, held, batch.ended, proposals, strict=True)
    ]
    hidden = forward_rows(model, unread, cache)  # (B, T, C)
    wanted = [
        hidden[b, max(len(tokens) - len(proposals[b].guesses) - 1, 0) : len(tokens)]
        for b, tokens in enumerate(unread)
    ]
    logits = model.head(torch.cat(wanted))  # (R, V)
    return hidden.shape[0] * hidden.shape[1], logits.split([len(rows) for rows in wanted])


def judge(
    batch: Batch, b: int, proposal: Proposal, logits: Tensor, u: Tensor, sampler: Sampler
) -> SpeculativeRow:
    """Verify row b's guesses and commit what comes out."""
    guesses, q = proposal.guesses, proposal.q
    if batch.ended[b]:
        return SpeculativeRow((), logits, True, (), q, logits, u[:0], 0, sampler)
    u = u[: len(guesses) + 1]
    if sampler.temperature == 0:
        accepted, token = verify_greedy(sampler.choose(logits, u).tolist(), guesses)
    else:
        at = torch.tensor(guesses, dtype=torch.int64, device="cpu")
        accepted, token = verify(sampler.probabilities(logits), q, at, u)
    tokens = (*guesses[:accepted], token)
    taken = batch.extend(b, tokens)
    ended = batch.ended[b]
    return SpeculativeRow(
        tokens[:taken], logits[:taken], ended, guesses, q, logits, u, accepted, sampler
    )
