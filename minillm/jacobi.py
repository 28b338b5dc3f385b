"""Guess a whole block, and iterate to the fixed point: Jacobi decoding.

A text is a fixed point: at each place stands the token that the model chooses after those before
it. Start from any block of guesses, let one forward pass choose anew at every place at once, and
repeat. The first changed token is already right, so that every pass settles at least one: at worst
this is plain decoding. There is no equation solver in it; the iteration is over whole tokens.

Sampling is a choice too, once the uniform of every place is fixed. So the same iteration yields,
token by token, what the plain sampler draws from the same generator.

Source: arXiv 2305.10427, algorithm 2 (parallel Jacobi).
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import torch
from jaxtyping import Float
from torch import Tensor

from minillm.attention import Cache
from minillm.batch import Batch, Noise, Row
from minillm.decoding import Model, NewCache, Step, contiguous
from minillm.ragged import forward_rows
from minillm.sampling import GREEDY, Sampler
from minillm.speculative.prompt_lookup import lookup
from minillm.whole import whole, wholes

__all__ = ["GUESSES", "Guess", "JacobiRow", "JacobiStep", "decode_jacobi", "initial_guess"]

Guess = Callable[[Sequence[int], int, int], list[int]]
"""From a text, a number of tokens and the size of the vocabulary: that many guesses."""


def random_tokens(text: Sequence[int], size: int, vocabulary: int) -> list[int]:
    """Any tokens, the same ones at the same length of the text."""
    generator = torch.Generator().manual_seed(len(text))
    return torch.randint(vocabulary, (size,), generator=generator).tolist()


def last_token(text: Sequence[int], size: int, vocabulary: int) -> list[int]:
    """The newest token, over and over."""
    return [text[-1]] * size


def beginning(text: Sequence[int], size: int, vocabulary: int) -> list[int]:
    """The text's own first tokens, in a circle."""
    return [text[i % len(text)] for i in range(size)]


def n_grams(text: Sequence[int], size: int, vocabulary: int) -> list[int]:
    """What followed when the newest tokens were last written; behind it, the newest token."""
    found = list(lookup(text, longest=3)[:size])
    return found + last_token(text, size - len(found), vocabulary)


GUESSES: dict[str, Guess] = {
    "random": random_tokens,
    "last token": last_token,
    "beginning": beginning,
    "n-grams": n_grams,
}


def initial_guess(guess: Guess, text: Sequence[int], size: int, vocabulary: int) -> list[int]:
    """What a guess says.

    Raises:
        ValueError: it is not `size` tokens of the vocabulary.
    """
    guessed = guess([*text], size, vocabulary)  # a copy, which the guess may change
    tokens = wholes("tokens of a guess", guessed, most=vocabulary - 1)
    if len(tokens) != size:
        raise ValueError(f"a guess must be {size} tokens, got {tokens}")
    return tokens


@dataclass(frozen=True)
class JacobiRow(Row):
    """What one pass did to one row's block.

    Attributes:
        before: the guesses that the pass read or would have read next, one for each place left.
        after: what it chose at these places; the first len(tokens) of them have settled.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(frozen=True)
class JacobiStep(Step):
    """One pass over what is left of every row's block."""

    rows: tuple[JacobiRow, ...]


def decode_jacobi(
    model: Model,
    prompts: Sequence[Sequence[int]],
    *,
    block: int = 16,
    guess: Guess = random_tokens,
    max_new_tokens: int,
    sampler: Sampler = GREEDY,
    generators: Sequence[torch.Generator] = (),
    stop: Collection[int] = (),
    cache: NewCache | None = None,
) -> Iterator[JacobiStep]:
    """Settle block after block; the naive twin is `decode_cached`, token by token.

    Args:
        model: what scores the next token.
        prompts: the tokens of each row; rows may differ in length.
        block: places that are iterated together; 1 is plain decoding.
        guess: where a block starts (`GUESSES`); it decides the number of passes, not the text.
        max_new_tokens: the budget of each row; the end of the context ends a row too.
        sampler: how logits become a choice.
        generators: one per row; needed unless the sampler is greedy.
        stop: tokens that end a row once committed.
        cache: makes the cache, as of `decode_cached`.

    Raises:
        ValueError: a block below 1 or no whole number; a guess that is none, when it is made; or
            as `decode_cached`.
    """
    block = whole("block", block, least=1)
    batch = Batch(model.config, prompts, max_new_tokens, sampler, generators, stop, model.device)
    block = min(block, max(map(batch.left, range(len(batch.texts)))))
    capacity = max(batch.limits) + block
    make = cache or contiguous(model)
    return _iterate(model, batch, make(len(batch.texts), capacity), block, guess, sampler)


def _iterate(
    model: Model, batch: Batch, cache: Cache, block: int, guess: Guess, sampler: Sampler
) -> Iterator[JacobiStep]:
    noise, V = [Noise(batch, b) for b in range(len(batch.texts))], model.config.vocab_size
    blocks: list[list[int]] = [[] for _ in batch.texts]  # of each row: guesses not yet settled
    for forwards in count(1):
        start = time.perf_counter()
        with torch.inference_mode():
            for b, text in enumerate(batch.texts):
                if not (blocks[b] or batch.ended[b]):
                    blocks[b] = initial_guess(guess, text, min(block, batch.left(b)), V)
            unread = [
                [*text[held:], *guesses[:-1]] if guesses else []
                for text, held, guesses in zip(batch.texts, cache.lengths, blocks, strict=True)
            ]
            hidden = forward_rows(model, unread, cache)  # (B, T, C)
            rows = []
            for b, guesses in enumerate(blocks):
                end = len(unread[b])
                logits = model.head(hidden[b, end - len(guesses) : end])
                rows.append(_settle(batch, b, guesses, logits, sampler, noise[b]))
                blocks[b] = [] if rows[b].ended else list(rows[b].after[len(rows[b].tokens) :])
            held = tuple(length - 1 for length in batch.lengths)  # all but the newest tokens
            cache.truncate(held)
        seconds = time.perf_counter() - start
        yield JacobiStep(tuple(rows), held, forwards, hidden.shape[0] * hidden.shape[1], seconds)
        if batch.all_ended:
            return


def _settle(
    batch: Batch,
    b: int,
    guesses: Sequence[int],
    logits: Float[Tensor, "N V"],
    sampler: Sampler,
    noise: Noise,
) -> JacobiRow:
    """Choose at every place; commit up to the first token that differs from its guess."""
    if not guesses:
        return JacobiRow((), logits, True, (), ())
    chosen = sampler.choose(logits, noise.ahead(len(guesses))).tolist()
    settled = 1  # what the first place was chosen after is final
    while settled < len(chosen) and chosen[settled - 1] == guesses[settled - 1]:
        settled += 1
    taken = batch.extend(b, chosen[:settled])
    noise.spend(taken)
    return JacobiRow(
        tuple(chosen[:taken]), logits[:taken], batch.ended[b], tuple(guesses), tuple(chosen)
    )
