"""Keep keys and values: what a token wrote never changes, so it is computed once.

In a causal model the key and value of a token depend on the tokens before it only. Stored, they
turn the work for one more token from a pass over the whole text into a pass over one token that
reads S stored keys. The price is memory, 2 x layers x kv heads x head dim elements a token, and
state: lengths that rows of a batch do not share, and that have to be rolled back after a wrong
guess.

Dimensions: L layers, B batch, T new tokens, S cached + new keys, G key/value heads, D head dim.

Source: "Transformer inference tricks" (Finbarr Timbers, 2023); the static buffer with a moving
length is gpt-fast's.
"""

from collections.abc import Sequence
from operator import add, gt, sub

import torch
from jaxtyping import Float
from torch import Tensor

from minillm.config import ModelConfig
from minillm.whole import whole, wholes

__all__ = ["KVCache", "kv_bytes"]


def kv_bytes(config: ModelConfig, tokens: int, dtype: torch.dtype, batch: int = 1) -> int:
    """Bytes of keys and values of `tokens` tokens in each of `batch` rows.

    >>> gpt3 = ModelConfig(vocab_size=50257, hidden_size=12288, num_hidden_layers=96,
    ...                    num_attention_heads=96, num_key_value_heads=96, head_dim=128,
    ...                    intermediate_size=49152, hidden_act="gelu")
    >>> kv_bytes(gpt3, 1, torch.float16)
    4718592
    """
    tokens, batch = whole("tokens", tokens), whole("batch", batch)
    return config.kv_elements_per_token * dtype.itemsize * tokens * batch


class KVCache:
    """A contiguous cache: one preallocated buffer for keys, one for values, (L, B, G, slots, D).

    Row b holds tokens in its slots 0 to lengths[b] - 1. What lies behind is stale: finite, never
    cleared, and hidden from attention by position.

    Attributes:
        lengths: tokens that each row holds.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch: int,
        capacity: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ):
        """Allocate room for `capacity` tokens in each of `batch` rows, all empty."""
        batch, capacity = whole("batch", batch, 1), whole("capacity", capacity, 1)
        shape = (config.num_hidden_layers, batch, config.num_key_value_heads)
        self.keys = torch.zeros(*shape, capacity, config.head_dim, device=device, dtype=dtype)
        self.values = torch.zeros_like(self.keys)
        self._layers = list(zip(self.keys, self.values, strict=True))  # views, (B, G, slots, D)
        self.lengths: tuple[int, ...] = (0,) * batch
        self._previous = self.lengths  # before the last forward pass

    @property
    def capacity(self) -> int:
        """Slots of each row."""
        return self.keys.shape[3]

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers: `kv_bytes` of `capacity` tokens in each row."""
        return self.keys.nbytes + self.values.nbytes

    def append(
        self, layer: int, k: Float[Tensor, "B G T D"], v: Float[Tensor, "B G T D"]
    ) -> tuple[Float[Tensor, "B G S D"], Float[Tensor, "B G S D"]]:
        """Write one layer's new keys and values after each row's `lengths`; return all it has.

        S is the longest row's length plus T. `lengths` stays, until `advance`.

        Raises:
            ValueError: no room.
        """
        keys, values = self._layers[layer]
        T = k.shape[2]
        starts = self.starts(T)
        S = max(starts) + T
        if len(set(starts)) == 1:
            keys[:, :, S - T : S] = k
            values[:, :, S - T : S] = v
        else:
            for row, start in enumerate(starts):
                keys[row, :, start : start + T] = k[row]
                values[row, :, start : start + T] = v[row]
        return keys[:, :, :S], values[:, :, :S]

    def starts(self, T: int) -> tuple[int, ...]:
        """The slot of each row where T new tokens start.

        Raises:
            ValueError: no room, or no whole number from 0.
        """
        S = max(self.lengths) + whole("tokens", T)
        if S > self.capacity:
            raise ValueError(f"the cache has room for {self.capacity} tokens, {S} are needed")
        return self.lengths

    def advance(self, count: int) -> None:
        """Count the `count` tokens just appended to every layer; once per forward pass.

        Raises:
            ValueError: a negative count, or more than there is room for.
        """
        self._previous = self.starts(count)
        self.lengths = tuple(length + count for length in self._previous)

    def truncate(self, lengths: Sequence[int]) -> None:
        """Forget all but the first `lengths[b]` tokens of each row b.

        A cache must be able to go back to where the last forward pass began; this one can go
        back to the start.

        Raises:
            ValueError: not one length per row, or none from 0 to the present one.
        """
        wanted = tuple(wholes("lengths", lengths))
        if len(wanted) != len(self.lengths) or any(map(gt, wanted, self.lengths)):
            raise ValueError(f"lengths must be one per row, up to {self.lengths}, got {wanted}")
        self.lengths = wanted
        self._previous = tuple(map(min, self._previous, wanted))

    def keep(self, rows: Sequence[Sequence[int]]) -> None:
        """Keep, of the last forward pass, the tokens `rows[b]` of batch row b, moved together.

        `rows[b]` are indices among that pass's new tokens in the order they are to stand.

        Raises:
            ValueError: not one list per batch row, or an index outside the last pass.
        """
        count = list(map(sub, self.lengths, self._previous))
        rows = [wholes("rows", kept) for kept in rows]
        if len(rows) != len(count) or any(
            i >= n for kept, n in zip(rows, count, strict=False) for i in kept
        ):
            raise ValueError(f"rows must be indices below {count} for each row, got {rows}")
        for row, (start, kept) in enumerate(zip(self._previous, rows, strict=True)):
            source = torch.tensor(kept, dtype=torch.int64, device=self.keys.device) + start
            for buffer in (self.keys, self.values):
                buffer[:, row, :, start : start + len(kept)] = buffer[:, row, :, source]
        self.lengths = tuple(map(add, self._previous, map(len, rows)))
