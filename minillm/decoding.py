"""One token at a time: the loop that turns a model of the next token into text.

Forward the text, pick a token from the last logits, append it, repeat. `decode_recomputed` does
just that and pays for the whole text at every token. `decode_cached` forwards the prompt once
(prefill) and then only the newest token (decode); it commits the same tokens. Both yield a
`Step` per forward pass, which is all that tests, benchmarks and explorers look at.

Dimensions: B batch rows, T tokens of the longest row, V vocabulary.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Protocol

import torch
from torch import Tensor

from minillm.attention import Cache
from minillm.batch import Batch, Row
from minillm.config import ModelConfig
from minillm.kv_cache import KVCache
from minillm.sampling import GREEDY, Sampler
from minillm.whole import whole

__all__ = [
    "Model",
    "NewCache",
    "Step",
    "collect",
    "contiguous",
    "decode_cached",
    "decode_recomputed",
    "generators",
]


NewCache = Callable[[int, int], Cache]  # of so many rows, with room for so many tokens each


class Model(Protocol):
    """What a decoder asks of a model; `minillm.transformer.Transformer` is one."""

    config: ModelConfig

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def hidden(
        self,
        tokens: Tensor,
        cache: Cache | None = None,
        *,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor: ...

    def head(self, hidden: Tensor) -> Tensor: ...


def contiguous(model: Model) -> NewCache:
    """`KVCache`s of a model, on its device and in its dtype."""
    return lambda rows, capacity: KVCache(
        model.config, rows, capacity, device=model.device, dtype=model.dtype
    )


@dataclass(frozen=True)
class Step:
    """One round of a decoder.

    Attributes:
        rows: one record per row of the batch.
        cached: tokens of each row in the cache.
        forwards: forward passes of the model so far.
        computed: tokens that went through the layers in this step, padding and ended rows too.
        seconds: wall-clock time of this step.
    """

    rows: tuple[Row, ...]
    cached: tuple[int, ...]
    forwards: int
    computed: int
    seconds: float


def collect(steps: Iterator[Step]) -> list[list[int]]:
    """Run a decoder to its end; the new tokens of each row."""
    texts: list[list[int]] = []
    for step in steps:
        texts = texts or [[] for _ in step.rows]
        for text, row in zip(texts, step.rows, strict=True):
            text.extend(row.tokens)
    return texts


def generators(seed: int, rows: int) -> list[torch.Generator]:
    """One source of randomness per row, seeded seed, seed + 1, ...

    Raises:
        ValueError: seed or rows is no whole number, or rows is below 0.
    """
    seed, rows = whole("seed", seed, least=-(2**63)), whole("rows", rows)
    return [torch.Generator().manual_seed(seed + row) for row in range(rows)]


def decode_recomputed(
    model: Model,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    sampler: Sampler = GREEDY,
    generators: Sequence[torch.Generator] = (),
    stop: Collection[int] = (),
) -> Iterator[Step]:
    """Forward the whole text for every token: the naive twin of `decode_cached`.

    Args:
        model: what scores the next token.
        prompts: the tokens of each row; rows may differ in length.
        max_new_tokens: the budget of each row; the end of the context ends a row too.
        sampler: how logits become a distribution.
        generators: one per row (see `generators`); needed unless the sampler is greedy.
        stop: tokens that end a row once committed.

    Raises:
        ValueError: an empty prompt, one that fills the context, a token outside the vocabulary,
            max_new_tokens below 1, not one generator per row, or an argument of a wrong type; at
            the call, not later.
    """
    batch = Batch(model.config, prompts, max_new_tokens, sampler, generators, stop, model.device)
    return _recompute(model, batch)


def _recompute(model: Model, batch: Batch) -> Iterator[Step]:
    for forwards in count(1):
        start = time.perf_counter()
        tokens = batch.padded()  # (B, T)
        with torch.inference_mode():
            rows = batch.commit(_next_logits(model, tokens, batch.lengths))
        cached = (0,) * len(rows)
        yield Step(rows, cached, forwards, tokens.numel(), time.perf_counter() - start)
        if batch.all_ended:
            return


def decode_cached(
    model: Model,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    sampler: Sampler = GREEDY,
    generators: Sequence[torch.Generator] = (),
    stop: Collection[int] = (),
    cache: NewCache | None = None,
) -> Iterator[Step]:
    """Forward the prompts once, then one token a row; arguments as of `decode_recomputed`.

    A row that has ended keeps its place in the batch: it is computed and rolled back.

    Args:
        cache: makes the cache; by default a `contiguous` one.
    """
    batch = Batch(model.config, prompts, max_new_tokens, sampler, generators, stop, model.device)
    make = cache or contiguous(model)
    return _cache(model, batch, make(len(batch.texts), max(batch.limits)))


def _cache(model: Model, batch: Batch, cache: Cache) -> Iterator[Step]:
    tokens, counts = batch.padded(), batch.lengths  # prefill: all tokens of the prompts
    for forwards in count(1):
        start = time.perf_counter()
        with torch.inference_mode():
            rows = batch.commit(_next_logits(model, tokens, counts, cache))
        held = [length - 1 for length in batch.lengths]  # all but the newest token of each text
        cache.truncate(held)  # drops padding, and what ended rows have computed
        yield Step(rows, tuple(held), forwards, tokens.numel(), time.perf_counter() - start)
        if batch.all_ended:
            return
        tokens = batch.newest()  # decode: (B, 1)
        counts = [1] * len(batch.texts)


def _next_logits(
    model: Model, tokens: Tensor, counts: Sequence[int], cache: Cache | None = None
) -> Tensor:
    """Forward (B, T) right-padded tokens; the logits (B, V) after token counts[b] of row b."""
    hidden = model.hidden(tokens, cache)
    if tokens.shape[1] == 1:
        return model.head(hidden[:, 0])
    last = torch.tensor(counts, device=hidden.device) - 1
    return model.head(hidden[torch.arange(len(counts), device=hidden.device), last])
