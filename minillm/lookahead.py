"""Keep the n-grams that Jacobi iterations throw away, and try them as guesses.

One forward pass does two things. The window goes on with its iterations: each column is a short
trajectory of tokens that were chosen one after the other, and a finished one is an n-gram for the
pool. Beside it, the pool's n-grams that begin with the newest token are verified, all at once; the
longest that agrees with what the model chooses is committed, and one more token with it.

A choice is made with the plain sampler's uniform of its place, so that the text is the plain one,
greedy or sampled, whatever the pool holds.

Dimensions: W columns of the window, N tokens of an n-gram, G guesses; a pass reads at most
(W + G)(N - 1) tokens of a row. B batch rows, T tokens of the longest row, C width, V vocabulary.

Source: arXiv 2402.02057, algorithm 2 and figure 2.
"""

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from minillm.batch import Batch, Row
from minillm.decoding import Step
from minillm.jacobi import Guess, random_tokens
from minillm.kv_cache import KVCache
from minillm.lookahead_mask import Layout, lookahead_layout
from minillm.lookahead_window import Window
from minillm.ngram_pool import NGramPool
from minillm.noise import Noise
from minillm.ragged import forward_rows
from minillm.sampling import GREEDY, Sampler
from minillm.transformer import Transformer

__all__ = ["LookaheadStep", "Looked", "decode_lookahead"]


@dataclass(frozen=True)
class Looked(Row):
    """What one pass did to one row.

    Attributes:
        window: the lines that the pass read; the first begins with the newest token.
        chosen: what it chose behind each column of the last line.
        guesses: the pool's continuations of the newest token.
        best: the guess that was committed; None where no first token agreed.
        accepted: tokens of that guess that agreed.
    """

    window: tuple[tuple[int, ...], ...]
    chosen: tuple[int, ...]
    guesses: tuple[tuple[int, ...], ...]
    best: int | None
    accepted: int


@dataclass(frozen=True)
class LookaheadStep(Step):
    """One pass over window and guesses of every row."""

    rows: tuple[Looked, ...]


def decode_lookahead(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    *,
    W: int = 5,
    N: int = 4,
    G: int = 5,
    guess: Guess = random_tokens,
    max_new_tokens: int,
    sampler: Sampler = GREEDY,
    generators: Sequence[torch.Generator] = (),
    stop: Collection[int] = (),
) -> Iterator[LookaheadStep]:
    """Up to N tokens for one pass, without a second model; the naive twin is `decode_cached`.

    The first step reads the prompts too.

    Args:
        model: what scores the next token; a plain `KVCache` is kept.
        prompts: the tokens of each row; rows may differ in length.
        W: columns of the window.
        N: tokens of an n-gram, at least 2.
        G: guesses tried at once.
        guess: what the window starts from (`minillm.jacobi.GUESSES`).
        max_new_tokens: the budget of each row; the end of the context ends a row too.
        sampler: how logits become a choice.
        generators: one per row; needed unless the sampler is greedy.
        stop: tokens that end a row once committed.

    Raises:
        ValueError: W or G below 1, N below 2; or as `decode_cached`.
    """
    if W < 1 or G < 1 or N < 2:
        raise ValueError(f"W and G must be at least 1 and N at least 2, got {W}, {G} and {N}")
    batch = Batch(model.config, prompts, max_new_tokens, sampler, generators, stop, model.device)
    capacity = max(batch.limits) + (W + G) * (N - 1)
    cache = KVCache(
        model.config, len(batch.texts), capacity, device=model.device, dtype=model.dtype
    )
    V = model.config.vocab_size
    rows = [
        _Looking(batch, b, Window(guess(text, W + N - 3, V), N), NGramPool(N, G), sampler)
        for b, text in enumerate(batch.texts)
    ]
    return _look_ahead(model, batch, cache, rows)


def _look_ahead(
    model: Transformer, batch: Batch, cache: KVCache, rows: Sequence["_Looking"]
) -> Iterator[LookaheadStep]:
    for forwards in count(1):
        start = time.perf_counter()
        with torch.inference_mode():
            if forwards == 1 and max(batch.lengths) > 1:
                forward_rows(model, [text[:-1] for text in batch.texts], cache)
            plans = [row.plan() for row in rows]
            hidden = _forward(model, batch, cache, plans)  # (B, T, C)
            logits = [model.head(hidden[b, plan.scored]) for b, plan in enumerate(plans)]
            looked = tuple(map(_Looking.settle, rows, plans, logits))
            cache.keep([plan.kept(row) for plan, row in zip(plans, looked, strict=True)])
        seconds = time.perf_counter() - start
        held = tuple(length - 1 for length in batch.lengths)  # all but the newest tokens
        yield LookaheadStep(looked, held, forwards, hidden.shape[0] * hidden.shape[1], seconds)
        if batch.all_ended:
            return


def _forward(
    model: Transformer, batch: Batch, cache: KVCache, plans: Sequence["_Plan"]
) -> Float[Tensor, "B T C"]:
    """One pass over all rows; short ones are padded with tokens that only see themselves."""
    T, context = max(len(plan.tokens) for plan in plans), model.config.max_position_embeddings
    tokens = torch.zeros(len(plans), T, dtype=torch.int64)
    positions = torch.zeros(len(plans), T, dtype=torch.int64)
    mask = torch.eye(T, dtype=torch.bool).repeat(len(plans), 1, 1)
    for b, (plan, length) in enumerate(zip(plans, batch.lengths, strict=True)):
        n = len(plan.tokens)
        tokens[b, :n] = torch.tensor(plan.tokens)
        positions[b, :n] = length - 1 + plan.layout.offset
        mask[b, :n, :n] = plan.layout.mask
    positions.clamp_(max=context - 1)  # the window may look beyond the end
    device = model.device
    return model.hidden(
        tokens.to(device), cache, positions=positions.to(device), mask=mask.to(device)
    )


class _Plan(NamedTuple):
    """What a pass reads of one row: the window's lines, then the guesses."""

    window: list[list[int]]
    guesses: list[tuple[int, ...]]
    layout: Layout

    @property
    def tokens(self) -> list[int]:
        return [token for line in (*self.window, *self.guesses) for token in line]

    @property
    def first_guess(self) -> int:
        """The place of the first guess in the pass."""
        return sum(map(len, self.window))

    @property
    def scored(self) -> list[int]:
        """The places to choose behind: the newest token, the last line, the guesses."""
        end = self.first_guess
        return [0, *range(end - len(self.window[-1]), len(self.tokens))]

    def kept(self, row: Looked) -> list[int]:
        """The places of the pass that are text now: all but the newest token of the text."""
        if not row.tokens:
            return []
        start = self.first_guess + len(self.guesses[0]) * row.best if row.best is not None else 0
        return [0, *range(start, start + len(row.tokens) - 1)]


class _Looking:
    """One row at work: its window, its pool, and the uniforms of its places."""

    def __init__(self, batch: Batch, b: int, window: Window, pool: NGramPool, sampler: Sampler):
        self._batch, self._b, self._window, self._pool = batch, b, window, pool
        self._sampler, self._noise = sampler, Noise(batch, b)
        pool.add_text(batch.texts[b])

    def plan(self) -> _Plan:
        """What the next pass reads; of an ended row, one token that is dropped again."""
        newest, room = self._batch.texts[self._b][-1], self._batch.room(self._b)
        if room == 0:
            return _Plan([[newest]], [], lookahead_layout((1,), 0, 0))
        window = self._window.read(newest)
        guesses = [guess[: room - 1] for guess in self._pool.guesses(newest) if room > 1]
        guesses = list(dict.fromkeys(guesses))
        sizes = tuple(map(len, window)), len(guesses), len(guesses[0]) if guesses else 0
        return _Plan(window, guesses, lookahead_layout(*sizes))

    def settle(self, plan: _Plan, logits: Float[Tensor, "R V"]) -> Looked:
        """Verify the guesses, commit the best, and let the window go on."""
        if self._batch.ended[self._b]:
            return Looked((), logits[:0], True, (), (), (), None, 0)
        width = len(plan.window[-1])
        newest, line, guesses = logits.split([1, width, len(logits) - 1 - width])
        length = len(plan.guesses[0]) if plan.guesses else 0
        u = self._noise.ahead(length + 1)
        first = int(self._sampler.choose(newest[0], u[0]))
        scores = guesses.unflatten(0, (len(plan.guesses), length))  # (G, N - 1, V)
        chosen = self._sampler.choose(scores, u[1:].expand(len(plan.guesses), length)).tolist()
        paths = [_follow(g, [first, *row]) for g, row in zip(plan.guesses, chosen, strict=True)]
        best = max(range(len(paths)), key=lambda index: len(paths[index]), default=None)
        path, behind = [first], newest
        if best is not None and len(paths[best]) > 1:
            path, behind = paths[best], torch.cat((newest, scores[best]))
        taken = self._batch.extend(self._b, path)
        self._noise.spend(taken)
        new = line.argmax(-1).tolist()
        for gram in self._window.advance(plan.window, new):
            self._pool.add(gram)
        return Looked(
            tuple(path[:taken]),
            behind[:taken],
            self._batch.ended[self._b],
            tuple(map(tuple, plan.window)),
            tuple(new),
            tuple(plan.guesses),
            best if len(path) > 1 else None,
            len(path) - 1,
        )


def _follow(guess: Sequence[int], chosen: Sequence[int]) -> list[int]:
    """The choices as long as the guess agrees with them, and the one behind.

    >>> _follow((5, 6, 7), [5, 6, 9, 1])
    [5, 6, 9]
    """
    pairs = enumerate(zip(guess, chosen, strict=False))
    agreed = next((place for place, (a, b) in pairs if a != b), len(guess))
    return list(chosen[: agreed + 1])
