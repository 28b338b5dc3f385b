"""One pass over rows that want different numbers of tokens read.

Dimensions: B batch rows, T tokens of the longest row, C width.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from minillm.attention import Cache
from minillm.decoding import Model

__all__ = ["forward_rows"]


def forward_rows(
    model: Model, rows: Sequence[Sequence[int]], cache: Cache
) -> Float[Tensor, "B T C"]:
    """Forward the new tokens `rows[b]` of each row b, which the cache then holds.

    After a round of guessing, rows stand at different lengths and want different numbers of tokens
    read. The pass is a rectangle, so short rows are padded on the right; what the padding leaves in
    the cache is dropped again, and no row sees anything of another.

    Behind a row's tokens the result is of padding; a row without tokens stays as it was.

    Raises:
        ValueError: no row has a token, or the cache has no room.
    """
    held, T = cache.lengths, max(map(len, rows))
    if T == 0:
        raise ValueError("no row has a token to forward")
    tokens = torch.tensor([[*row, *[0] * (T - len(row))] for row in rows], device=model.device)
    hidden = model.hidden(tokens, cache, positions=_within_context(model, held, T))
    if any(len(row) < T for row in rows):
        cache.truncate([start + len(row) for start, row in zip(held, rows, strict=True)])
    return hidden


def _within_context(model: Model, held: Sequence[int], T: int) -> Tensor | None:
    """Positions, where padding would run over the end of the context; else the model's own."""
    context = model.config.max_position_embeddings
    if max(held) + T <= context:
        return None
    return (torch.tensor(held)[:, None] + torch.arange(T)).clamp(max=context - 1)
