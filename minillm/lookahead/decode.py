"""Keep the n-grams that Jacobi iterations throw away, and try them as guesses.

One forward pass does two things. The window goes on with its iterations: each column is a short
trajectory of tokens that were chosen one after the other, and a finished one is an n-gram for the
pool. Beside it, the pool's n-grams that begin with the newest token are verified, all at once; the
longest that agrees with what the model chooses is committed, and one more token with it.

A choice is made with the plain sampler's uniform of its place, so that the text is the plain one,
greedy or sampled, whatever the pool holds.

Dimensions: W columns of the window, N tokens of an n-gram, G guesses; once the window is complete,
a pass reads at most (W + G)(N - 1) tokens of a row. R places of a pass to choose behind, V
vocabulary.

Source: arXiv 2402.02057, algorithm 2 and figure 2.
"""

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import torch
from jaxtyping import Float
from torch import Tensor

from minillm.attention import Cache
from minillm.batch import Batch, Noise, Row
from minillm.decoding import Model, NewCache, Step, contiguous
from minillm.jacobi import Guess, initial_guess, random_tokens
from minillm.lookahead.pool import NGramPool
from minillm.lookahead.reads import Pass, forward_passes
from minillm.lookahead.verification import agree
from minillm.lookahead.window import Window
from minillm.sampling import GREEDY, Sampler
from minillm.whole import whole

__all__ = ["LookaheadRow", "LookaheadStep", "decode_lookahead"]


@dataclass(frozen=True)
class LookaheadRow(Row):
    """What one pass did to one row.

    Attributes:
        window: the lines that the pass read; the first begins with the newest token.
        chosen: what it chose behind each column of the last line.
        guesses: the pool's continuations of the newest token.
        best: the guess that was committed; None where no first token agreed.
        accepted: tokens of that guess that agreed; a stop token among them may end the row.
    """

    window: tuple[tuple[int, ...], ...]
    chosen: tuple[int, ...]
    guesses: tuple[tuple[int, ...], ...]
    best: int | None
    accepted: int


@dataclass(frozen=True)
class LookaheadStep(Step):
    """One pass over window and guesses of every row."""

    rows: tuple[LookaheadRow, ...]


def decode_lookahead(
    model: Model,
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
    cache: NewCache | None = None,
) -> Iterator[LookaheadStep]:
    """Up to N tokens for one pass, without a second model; the naive twin is `decode_cached`.

    The first pass reads the prompts too.

    Args:
        model: what scores the next token.
        prompts: the tokens of each row; rows may differ in length.
        W: columns of the window.
        N: tokens of an n-gram, at least 2.
        G: guesses tried at once.
        guess: what the window starts from (`minillm.jacobi.GUESSES`).
        max_new_tokens: the budget of each row; the end of the context ends a row too.
        sampler: how logits become a choice.
        generators: one per row; needed unless the sampler is greedy.
        stop: tokens that end a row once committed.
        cache: makes the cache, as of `decode_cached`.

    Raises:
        ValueError: W or G below 1, N below 2, or no whole numbers; a guess that is none; or as
            `decode_cached`.
    """
    W, N, G = whole("W", W, least=1), whole("N", N, least=2), whole("G", G, least=1)
    batch = Batch(model.config, prompts, max_new_tokens, sampler, generators, stop, model.device)
    capacity = max(batch.limits) + Window.most(W, N) + G * (N - 1)
    V = model.config.vocab_size
    rows = [
        _Looking(batch, b, Window(initial_guess(guess, text, W + N - 3, V), N), NGramPool(N, G))
        for b, text in enumerate(batch.texts)
    ]
    make = cache or contiguous(model)
    return _look_ahead(model, batch, make(len(rows), capacity), rows, sampler)


def _look_ahead(
    model: Model,
    batch: Batch,
    cache: Cache,
    rows: Sequence["_Looking"],
    sampler: Sampler,
) -> Iterator[LookaheadStep]:
    for forwards in count(1):
        start = time.perf_counter()
        with torch.inference_mode():
            passes = [row.plan(held) for row, held in zip(rows, cache.lengths, strict=True)]
            hidden = forward_passes(model, passes, cache)  # (B, T, C)
            wanted = [hidden[b, row.scored] for b, row in enumerate(passes)]
            logits = model.head(torch.cat(wanted)).split([len(part) for part in wanted])
            looked = tuple(
                row.settle(read, scores, sampler)
                for row, read, scores in zip(rows, passes, logits, strict=True)
            )
            held = tuple(length - 1 for length in batch.lengths)  # all but the newest tokens
            if any(row.accepted for row in looked):
                cache.keep(
                    [
                        read.kept(row.best, len(row.tokens) - 1) if row.tokens else []
                        for read, row in zip(passes, looked, strict=True)
                    ]
                )
            else:  # the text stands together already
                cache.truncate(held)
        seconds = time.perf_counter() - start
        yield LookaheadStep(looked, held, forwards, hidden.shape[0] * hidden.shape[1], seconds)
        if batch.all_ended:
            return


class _Looking:
    """One row at work: its window, its pool, and the uniforms of its places."""

    def __init__(self, batch: Batch, b: int, window: Window, pool: NGramPool):
        self._batch, self._b, self._window, self._pool = batch, b, window, pool
        self._noise = Noise(batch, b)
        pool.add_text(batch.texts[b])

    def plan(self, held: int) -> Pass:
        """What the next pass reads; guesses leave room for the token behind them."""
        text, room = self._batch.texts[self._b], self._batch.left(self._b)
        if room == 0:
            return Pass()
        guesses = [guess[: room - 1] for guess in self._pool.guesses(text[-1]) if room > 1]
        return Pass(text[held:-1], self._window.read(text[-1]), list(dict.fromkeys(guesses)))

    def settle(self, read: Pass, logits: Float[Tensor, "R V"], sampler: Sampler) -> LookaheadRow:
        """Verify the guesses, commit the best, and let window and pool go on."""
        if not read.window:
            return LookaheadRow((), logits, True, (), (), (), None, 0)
        guesses, length = read.guesses, read.length
        judged = 1 + len(guesses) * length
        depth = [0, *[*range(1, 1 + length)] * len(guesses)]  # of each place: tokens behind newest
        chosen = sampler.choose(logits[:judged], self._noise.ahead(1 + length)[depth])
        best, path, places = agree(guesses, chosen.tolist())
        taken = self._batch.extend(self._b, path)
        self._noise.spend(taken)
        new = logits[judged:].argmax(-1).tolist()
        for gram in self._window.advance(read.window, new):
            self._pool.add(gram)
        self._pool.add_text(self._batch.texts[self._b][-(taken + self._pool.n - 1) :])
        return LookaheadRow(
            tuple(path[:taken]),
            logits[places[:taken]],
            self._batch.ended[self._b],
            tuple(map(tuple, read.window)),
            tuple(new),
            tuple(map(tuple, guesses)),
            best,
            len(path) - 1,
        )
