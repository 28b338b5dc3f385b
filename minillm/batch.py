"""The bookkeeping of a decoder: each row's text, budget, end and randomness.

Rows of a batch differ in the length of their prompts and in when they end. `Batch` keeps their
texts, lays them out as tensors, and commits tokens picked from logits. It knows no cache and runs
no model, so every decoder can share it.

Dimensions: B batch rows, T tokens of the longest row, V vocabulary.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from minillm.config import ModelConfig
from minillm.sampling import Sampler
from minillm.whole import whole, wholes

__all__ = ["Batch", "Noise", "Row"]


@dataclass(frozen=True)
class Row:
    """What one step did to one row of the batch.

    Attributes:
        tokens: the tokens committed now; empty for a row that had ended before.
        logits: (len(tokens), V), what each of them was picked from.
        ended: by a stop token, by its budget or by the context; now or before.
    """

    tokens: tuple[int, ...]
    logits: Tensor
    ended: bool

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.logits):
            raise ValueError(f"{len(self.tokens)} tokens, but {len(self.logits)} rows of logits")
        if not (self.tokens or self.ended):
            raise ValueError("a row that has not ended commits at least one token")


class Batch:
    """The bookkeeping of a decoder: each row's text, budget, end and randomness."""

    def __init__(
        self,
        config: ModelConfig,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        sampler: Sampler,
        generators: Sequence[torch.Generator],
        stop: Collection[int],
        device: torch.device,
    ):
        vocabulary, context = config.vocab_size, config.max_position_embeddings
        try:
            prompts, generators = list(prompts), list(generators)
        except TypeError as error:
            raise ValueError(f"prompts and generators must be collections: {error}") from error
        self.texts = [wholes("prompt tokens", p, most=vocabulary - 1) for p in prompts]
        max_new_tokens = whole("max_new_tokens", max_new_tokens, least=1)
        self._stop = frozenset(wholes("stop tokens", stop, most=vocabulary - 1))
        if not isinstance(sampler, Sampler):
            raise ValueError(f"sampler must be a Sampler, got {sampler!r}")
        if not self.texts:
            raise ValueError("prompts must hold at least one prompt")
        for prompt in self.texts:
            if not prompt:
                raise ValueError("a prompt must hold at least one token")
            if len(prompt) >= context:
                raise ValueError(
                    f"a prompt of {len(prompt)} tokens leaves no room in the context of {context}"
                )
        if sampler.temperature > 0 and len(generators) != len(self.texts):
            raise ValueError(f"{len(self.texts)} rows need a generator each, got {len(generators)}")
        if not all(isinstance(generator, torch.Generator) for generator in generators):
            raise ValueError(f"generators must be torch.Generators, got {generators}")
        self.limits = [min(len(text) + max_new_tokens, context) for text in self.texts]
        self.ended = [False] * len(self.texts)
        self._device, self._sampler = device, sampler
        self._generators = generators
        self._picked = torch.zeros(len(self.texts), dtype=torch.int64, device=device)
        self._unused = torch.zeros(len(self.texts), dtype=torch.float64, device="cpu")

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row's text, prompt included."""
        return [len(text) for text in self.texts]

    @property
    def all_ended(self) -> bool:
        return all(self.ended)

    def left(self, b: int) -> int:
        """Tokens that row b may still take; none once it has ended."""
        return 0 if self.ended[b] else self.limits[b] - len(self.texts[b])

    def padded(self) -> Int[Tensor, "B T"]:
        """All texts, padded on the right."""
        longest = max(self.lengths)
        return torch.tensor(
            [text + [0] * (longest - len(text)) for text in self.texts], device=self._device
        )

    def newest(self) -> Int[Tensor, "B 1"]:
        """What was last picked for each row; for one that has ended, a token nobody keeps."""
        return self._picked[:, None].to(self._device)

    def commit(self, logits: Float[Tensor, "B V"]) -> tuple[Row, ...]:
        """Pick one token for each row that has not ended, and append it."""
        self._picked = self._sampler.choose(logits, self._uniforms())
        tokens = self._picked.tolist()
        return tuple(self._commit_row(b, token, logits) for b, token in enumerate(tokens))

    def _commit_row(self, b: int, token: int, logits: Tensor) -> Row:
        if self.ended[b]:
            return Row((), logits[:0], ended=True)
        self.extend(b, [token])
        return Row((token,), logits[b : b + 1], ended=self.ended[b])

    def extend(self, b: int, tokens: Sequence[int]) -> int:
        """Append tokens to row b until it ends; how many of them it took."""
        for taken, token in enumerate(tokens, 1):
            self.texts[b].append(token)
            self.ended[b] = token in self._stop or len(self.texts[b]) >= self.limits[b]
            if self.ended[b]:
                return taken
        return len(tokens)

    def uniforms(self, b: int, count: int) -> Float[Tensor, " N"]:
        """The next numbers of row b's generator, on the host; a greedy row needs none."""
        if self._sampler.temperature == 0:
            return torch.zeros(count, dtype=torch.float64, device="cpu")
        return torch.rand(count, generator=self._generators[b], dtype=torch.float64, device="cpu")

    def _uniforms(self) -> Float[Tensor, " B"]:
        """A number for each row; an ended one draws none."""
        if self._sampler.temperature == 0:
            return self._unused
        rows = [
            unused if ended else self.uniforms(b, 1)
            for b, (ended, unused) in enumerate(zip(self.ended, self._unused.split(1), strict=True))
        ]
        return torch.cat(rows)


class Noise:
    """The uniform of every place of row b, fixed before anything is decided there.

    The plain sampler draws one number for each token. A decoder that looks ahead may choose at a
    place many times; with the number that the plain sampler would draw there, its text is the
    plain one.
    """

    def __init__(self, batch: Batch, b: int):
        self._batch, self._b = batch, b
        self._drawn = batch.uniforms(b, 0)

    def ahead(self, count: int) -> Float[Tensor, " N"]:
        """Those of the next `count` places; asking again gives the same."""
        if (missing := count - len(self._drawn)) > 0:
            self._drawn = torch.cat((self._drawn, self._batch.uniforms(self._b, missing)))
        return self._drawn[:count]

    def spend(self, count: int) -> None:
        """So many places are decided."""
        self._drawn = self._drawn[count:]
