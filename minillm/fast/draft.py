"""A small draft at full speed: `minillm.speculative.DraftModel`, each step a single call.

Guesses are made one after another, each a pass over the whole draft. Its time is what speculation
costs, and in a draft of a million parameters most of it would go into calling torch.

Dimensions: gamma guesses of a round, V vocabulary.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from minillm.fast.megakernel import Megakernel
from minillm.kv_cache import KVCache
from minillm.sampling import Sampler
from minillm.speculative.drafters import Drafting, DraftModel, Proposal, warn_not_finite
from minillm.transformer import Transformer

__all__ = ["Int8Draft"]

_FEW = 4  # tokens that are read sooner one by one than in a pass of the readable model


class Int8Draft(DraftModel):
    """Guesses of a small model, rounded to eight bits; `DraftModel` of its twin is the naive one.

    Args:
        model: as for `minillm.fast.megakernel.Megakernel`.

    Raises:
        ValueError: a model of another kind.
    """

    def __init__(self, model: Transformer):
        super().__init__(model)
        self.step = Megakernel(model)

    def _begin(self, rows: int, capacity: int) -> Drafting:
        return _Int8Drafting(self.step, rows, capacity)


class _Int8Drafting:
    def __init__(self, step: Megakernel, rows: int, capacity: int):
        self.step = step
        self.caches = [KVCache(step.config, 1, capacity) for _ in range(rows)]

    def propose(
        self,
        texts: Sequence[Sequence[int]],
        counts: Sequence[int],
        sampler: Sampler,
        u: Sequence[Tensor],
    ) -> list[Proposal]:
        rows = zip(texts, u, counts, self.caches, strict=True)
        return [self._guess(text, us[:count], sampler, cache) for text, us, count, cache in rows]

    def _guess(self, text: Sequence[int], u: Tensor, sampler: Sampler, cache: KVCache) -> Proposal:
        V = self.step.config.vocab_size
        q = torch.zeros(len(u), V, dtype=torch.float64, device="cpu")
        guesses: list[int] = []
        for row, number in zip(q, u, strict=True):
            logits = self.step(guesses[-1], cache) if guesses else self._read(text, cache)
            try:
                row[:], token = sampler.draw(logits, number)
            except ValueError:
                warn_not_finite()
                break
            guesses.append(int(token))
        return Proposal(tuple(guesses), q[: len(guesses)])

    def _read(self, text: Sequence[int], cache: KVCache) -> Float[Tensor, " V"]:
        """The logits behind a text, of which the cache lacks the end."""
        [held] = cache.lengths
        if len(text) - held > _FEW:
            self.step.reference.hidden(torch.tensor([text[held:-1]], device="cpu"), cache)
            held = len(text) - 1
        for token in text[held:]:
            logits = self.step(token, cache)
        return logits

    def settle(self, texts: Sequence[Sequence[int]]) -> None:
        for text, cache in zip(texts, self.caches, strict=True):
            [held] = cache.lengths
            cache.truncate([min(held, len(text) - 1)])
