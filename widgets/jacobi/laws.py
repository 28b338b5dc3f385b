"""Models that follow a law of the reader's own: what may come next, as a function of the text.

A `LawModel` can be decoded by any of the library's decoders. It keeps the tokens themselves in the
cache, in place of keys, and applies the law to what the mask lets a token see.

Dimensions: B batch, T new tokens, S cached + new keys, V vocabulary, "..." any leading axes.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import index

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from minillm.attention import Cache, causal_mask, visible_keys
from minillm.config import ModelConfig

__all__ = ["Law", "LawModel"]

Law = Callable[[list[int]], int]  # from a text to its next token


class LawModel:
    """All probability on the token that a law names.

    Args:
        law: gets the text so far and returns its next token.
        vocabulary: tokens are from 0 to one less.
    """

    def __init__(self, law: Law, vocabulary: int = 1000):
        self._law = law
        self._seen: list[list[int]] = []  # the text that each forwarded token saw
        self.device, self.dtype = torch.device("cpu"), torch.float64
        self.config = ModelConfig(
            vocab_size=vocabulary,
            hidden_size=2,
            num_hidden_layers=1,
            num_attention_heads=1,
            num_key_value_heads=1,
            head_dim=2,
            intermediate_size=2,
        )

    def hidden(
        self,
        tokens: Tensor,
        cache: Cache | None = None,
        *,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """What every new token sees: numbers of texts, (B, T, 1), for `head` to look up."""
        B, T = tokens.shape
        keys, held = tokens.double(), [0] * B
        if cache is not None:
            held = list(cache.lengths)
            as_keys = tokens.double()[:, None, :, None].expand(B, 1, T, 2)
            keys = cache.append(0, as_keys, as_keys)[0][:, 0, :, 0]  # (B, S)
            cache.advance(T)
        S = keys.shape[1]
        visible = visible_keys(held, T, mask, self.device)
        if visible is None:
            visible = causal_mask(T, S, self.device)
        visible = visible.expand(B, 1, T, S)[:, 0]
        first = len(self._seen)
        self._seen += [keys[b, visible[b, t]].long().tolist() for b in range(B) for t in range(T)]
        return torch.arange(first, len(self._seen)).double().view(B, T, 1)

    def head(self, hidden: Tensor) -> Tensor:
        """The law's word on the texts seen, (..., V).

        Raises:
            ValueError: the law names no token of the vocabulary.
        """
        named = [self._next(self._seen[int(number)]) for number in hidden.flatten()]
        V = self.config.vocab_size
        return (
            one_hot(torch.tensor(named, dtype=torch.int64), V).double().view(*hidden.shape[:-1], V)
        )

    def _next(self, text: list[int]) -> int:
        token = index(self._law(text))
        if not 0 <= token < self.config.vocab_size:
            raise ValueError(f"a token is from 0 to {self.config.vocab_size - 1}, got {token}")
        return token
