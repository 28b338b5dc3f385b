"""What one pass of lookahead decoding reads, and rows that read differently side by side.

A row reads the text that the cache lacks, the lines of its window, and guesses of one length. The
pass is as long as the longest row: what pads the others sees the cache and itself, and nobody sees
it.

Dimensions: B batch rows, T tokens of the longest row, C width.
"""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from minillm.attention import Cache, causal_mask
from minillm.decoding import Model
from minillm.lookahead.mask import lookahead_layout

__all__ = ["Pass", "forward_passes"]


class Pass(NamedTuple):
    """What one pass reads of a row; nothing at all of one that has ended.

    Attributes:
        unread: text that the cache lacks, up to the newest token: the prompt, at the first pass.
        window: lines, the first of which begins with the newest token.
        guesses: continuations of the newest token, all of one length.
    """

    unread: Sequence[int] = ()
    window: Sequence[list[int]] = ()
    guesses: Sequence[Sequence[int]] = ()

    @property
    def tokens(self) -> list[int]:
        """All of it, in the order in which it is read."""
        return [*self.unread, *chain(*self.window), *chain(*self.guesses)]

    @property
    def length(self) -> int:
        """Tokens of a guess."""
        return len(self.guesses[0]) if self.guesses else 0

    @property
    def first_guess(self) -> int:
        """The place of the first guess among the tokens."""
        return len(self.unread) + sum(map(len, self.window))

    @property
    def scored(self) -> list[int]:
        """The places to choose behind: the newest token, then the guesses, then the last line.

        >>> Pass(unread=[8], window=[[1, 2], [3, 4]], guesses=[(5,), (6,)]).scored
        [1, 5, 6, 3, 4]
        """
        if not self.window:
            return []
        start = self.first_guess
        guesses = range(start, start + len(self.guesses) * self.length)
        return [len(self.unread), *guesses, *range(start - len(self.window[-1]), start)]

    def kept(self, best: int | None, accepted: int) -> list[int]:
        """The places that are text now: the unread, the newest, and what a guess had right.

        >>> Pass(unread=[8], window=[[1, 2]], guesses=[(5, 6), (5, 7)]).kept(best=1, accepted=2)
        [0, 1, 5, 6]
        """
        start = self.first_guess + self.length * (best or 0)
        return [*range(len(self.unread) + 1), *range(start, start + accepted)]

    def laid_out(self) -> tuple[Int[Tensor, " T"], Bool[Tensor, "T T"]]:
        """Positions, counted from the first token read, and who sees whom."""
        layout = lookahead_layout(tuple(map(len, self.window)), len(self.guesses), self.length)
        start = len(self.unread)
        if start == 0:
            return layout.offset, layout.mask
        T = start + len(layout.offset)
        mask = causal_mask(T, T, layout.mask.device)  # of text; all behind it sees it
        mask[start:, start:] = layout.mask
        return torch.cat((torch.arange(start), start + layout.offset)), mask


def forward_passes(model: Model, passes: Sequence[Pass], cache: Cache) -> Float[Tensor, "B T C"]:
    """Forward the tokens of every row, at least one of which has some."""
    rows = [row.tokens for row in passes]
    T = max(map(len, rows))
    tokens = torch.tensor([[*row, *[0] * (T - len(row))] for row in rows])
    positions = torch.zeros(len(rows), T, dtype=torch.int64)
    mask = torch.stack([torch.eye(T, dtype=torch.bool)] * len(rows))
    for b, held in enumerate(cache.lengths):
        if n := len(rows[b]):
            offset, visible = passes[b].laid_out()
            positions[b, :n] = held + offset
            mask[b, :n, :n] = visible
    positions.clamp_(max=model.config.max_position_embeddings - 1)  # a window may look beyond
    device = model.device
    return model.hidden(
        tokens.to(device), cache, positions=positions.to(device), mask=mask.to(device)
    )
