"""A small draft at full speed: `minillm.speculative.DraftModel`, each step a single call.

Guesses are made one after another, each a pass over the whole draft. Its time is what speculation
costs, and in a draft of a million parameters most of it would go into calling torch. Rounded to
eight bits, its weights stay in the processor's own cache: a draft may be rounded, as what it
guesses is verified.

Dimensions: gamma guesses of a round, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from minillm.checkpoint import load, shipped
from minillm.fast.int8_model import INT8, optimized_int8
from minillm.fast.layers import Layers
from minillm.fast.model import FastTransformer
from minillm.fast.plain import is_plain
from minillm.kv_cache import KVCache
from minillm.quantization.model import quantize_model
from minillm.quantization.simulated import rounded
from minillm.quantization.spec import Spec
from minillm.sampling import Sampler
from minillm.speculative.drafters import Drafting, DraftModel, Proposal, warn_not_finite
from minillm.transformer import Transformer

__all__ = ["Int8Draft", "draft_of"]

_FEW = 4  # tokens that are read sooner one by one than in a pass that also needs its head


def draft_of(target: Transformer) -> Transformer:
    """The readable draft of a model: the shipped one, or else the model itself in four bits.

    Its `name` says which.

    Args:
        target: stays as it is; a draft is shipped for the `name` that it was loaded by, or none.
    """
    name = f"{target.name}-draft"
    if name in shipped():
        return load(name, target.device, target.dtype)[0]
    draft = rounded(target, Spec("int4", group=32))
    draft.name = f"{target.name} in int4"
    return draft


class Int8Draft(DraftModel):
    """Guesses of a small model in int8, each by one call.

    Args:
        model: in float32 on a CPU, of which `minillm.fast.layers.Layers.fits`; it stays as it is.

    Attributes:
        twin: the model in int8; `DraftModel(twin)`, in torch's calls, is the naive one.

    Raises:
        ValueError: a model of another kind.
    """

    def __init__(self, model: Transformer):
        super().__init__(model)
        if not (is_plain(model) and Layers.fits(model) and model.config.hidden_size % 2 == 0):
            raise ValueError(
                "a draft in one call is the library's own model with a relu or silu gate and no "
                "biases or hooks, with heads of a multiple of 32, in float32 on a CPU"
            )
        twin: Any = optimized_int8(quantize_model(model, INT8), round_activations=True)
        self.twin: FastTransformer = twin

    def step(self, token: int, cache: KVCache) -> Float[Tensor, " V"]:
        """As `minillm.fast.layers.Layers.step`."""
        return self.twin.layers.step(token, cache)

    def _begin(self, rows: int, capacity: int) -> Drafting:
        return _Int8Drafting(self.twin, rows, capacity)


class _Int8Drafting:
    def __init__(self, twin: FastTransformer, rows: int, capacity: int):
        self.twin, self.step = twin, twin.layers.step
        self.caches = [KVCache(twin.config, 1, capacity) for _ in range(rows)]

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
        V = self.twin.config.vocab_size
        guesses: list[int] = []
        scores = torch.empty(len(u), V, dtype=torch.float32, device="cpu")
        for row, number in zip(scores, u, strict=True):
            row[:] = self.step(guesses[-1], cache) if guesses else self._read(text, cache)
            try:
                guesses.append(int(sampler.choose(row, number)))
            except ValueError:
                warn_not_finite()
                break
        return Proposal(tuple(guesses), sampler.probabilities(scores[: len(guesses)]))

    def _read(self, text: Sequence[int], cache: KVCache) -> Float[Tensor, " V"]:
        """The logits behind a text, of which the cache lacks the end."""
        [held] = cache.lengths
        if len(text) - held > _FEW:
            self.twin.hidden(torch.tensor([text[held:-1]], device="cpu"), cache)
            held = len(text) - 1
        for token in text[held:]:
            logits = self.step(token, cache)
        return logits

    def settle(self, texts: Sequence[Sequence[int]]) -> None:
        for text, cache in zip(texts, self.caches, strict=True):
            [held] = cache.lengths
            cache.truncate([min(held, len(text) - 1)])
