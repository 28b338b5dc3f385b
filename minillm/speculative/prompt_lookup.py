"""Guesses from the text itself: what followed the last time its newest tokens were written.

Source: github.com/apoorvumang/prompt-lookup-decoding.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from minillm.config import ModelConfig
from minillm.sampling import Sampler
from minillm.speculative.drafters import Drafting, Proposal
from minillm.whole import whole

__all__ = ["PromptLookup", "lookup"]


class PromptLookup:
    """Guesses copied from the text: what followed the last time its newest tokens were written.

    Args:
        longest: tokens that must repeat; where they do not, fewer will do.

    Raises:
        ValueError: longest below 1.
    """

    def __init__(self, longest: int = 3):
        self.longest = whole("longest", longest, least=1)

    def start(self, target: ModelConfig, rows: int, capacity: int) -> Drafting:
        """Begin a run."""
        return _Lookup(self.longest, target.vocab_size)


class _Lookup:
    def __init__(self, longest: int, vocabulary: int):
        self._longest, self._vocabulary = longest, vocabulary

    def propose(
        self,
        texts: Sequence[Sequence[int]],
        counts: Sequence[int],
        sampler: Sampler,
        u: Sequence[Tensor],
    ) -> list[Proposal]:
        return [
            self._certain(lookup(text, self._longest)[:count])
            for text, count in zip(texts, counts, strict=True)
        ]

    def _certain(self, guesses: Sequence[int]) -> Proposal:
        """A copied token was drawn from a distribution with all its mass on it."""
        tokens = torch.tensor(guesses, dtype=torch.int64, device="cpu")
        return Proposal(tuple(guesses), one_hot(tokens, self._vocabulary).double())

    def settle(self, texts: Sequence[Sequence[int]]) -> None:
        """There is nothing to forget."""


def lookup(text: Sequence[int], longest: int) -> Sequence[int]:
    """What followed the latest earlier occurrence of the text's last tokens.

    Raises:
        ValueError: longest is no whole number from 1.

    >>> lookup([1, 2, 3, 9, 2, 3], longest=3)
    [9, 2, 3]
    >>> lookup([1, 2, 3], longest=3)
    []
    """
    longest = whole("longest", longest, least=1)
    for n in range(min(longest, len(text) - 1), 0, -1):
        tail = text[-n:]
        for start in range(len(text) - n - 1, -1, -1):
            if text[start : start + n] == tail:
                return text[start + n :]
    return []
