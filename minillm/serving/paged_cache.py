"""A cache in blocks: each row's tokens lie in the blocks of its table, in any order in memory.

It keeps the protocol of `minillm.kv_cache.KVCache`, its naive twin, so that every decoder runs on
it unchanged and writes the same text bit for bit. Attention here reads a gathered copy; a kernel
that follows the table itself would spare the copy.

Dimensions: L layers, N blocks, B batch, T new tokens, S cached + new keys, G key/value heads,
P slots of a block, D head dim.

Source: PagedAttention (arXiv 2309.06180, section 4).
"""

from collections.abc import Iterable, Sequence
from operator import gt

import torch
from jaxtyping import Float, Int
from torch import Tensor

from minillm.config import ModelConfig
from minillm.decoding import Model, NewCache
from minillm.serving.blocks import Blocks, Table, blocks_for
from minillm.whole import whole, wholes

__all__ = ["PagedCache", "Pool", "paged"]


class Pool:
    """The memory of all blocks, (L, N, G, P, D) for keys and the same for values."""

    def __init__(
        self,
        config: ModelConfig,
        blocks: Blocks,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ):
        shape = (config.num_hidden_layers, blocks.count, config.num_key_value_heads)
        self.blocks = blocks
        self.keys = torch.zeros(*shape, blocks.size, config.head_dim, device=device, dtype=dtype)
        self.values = torch.zeros_like(self.keys)

    @property
    def nbytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes

    def reserve(self, table: Table, length: int) -> None:
        """As `Blocks.reserve`, with the copies made."""
        for old, new in self.blocks.reserve(table, length):
            for memory in (self.keys, self.values):
                memory[:, new] = memory[:, old]

    def erase(self, blocks: Iterable[int]) -> None:
        """Clear those of these blocks that are free: masked keys of NaN are NaN all the same."""
        free = [block for block in blocks if not self.blocks.holders[block]]
        for memory in (self.keys, self.values):
            memory[:, free] = 0


class PagedCache:
    """The tables of some texts as the rows of a batch.

    Attributes:
        lengths: tokens that each row holds.
    """

    def __init__(self, pool: Pool, tables: Sequence[Table]):
        self.pool, self.tables = pool, list(tables)
        self.lengths = tuple(table.length for table in tables)
        self._previous = self.lengths  # before the last forward pass

    @property
    def nbytes(self) -> int:
        """Bytes of the rows' blocks; a block that two rows hold counts once."""
        held = {block for table in self.tables for block in table.blocks}
        return self.pool.nbytes // self.pool.blocks.count * len(held)

    @property
    def keys(self) -> Float[Tensor, "L N G P D"]:
        """Those of all blocks, other rows' too."""
        return self.pool.keys

    @property
    def values(self) -> Float[Tensor, "L N G P D"]:
        """As `keys`."""
        return self.pool.values

    def append(
        self, layer: int, k: Float[Tensor, "B G T D"], v: Float[Tensor, "B G T D"]
    ) -> tuple[Float[Tensor, "B G S D"], Float[Tensor, "B G S D"]]:
        """Write one layer's new keys and values after each row's `lengths`; return all it has.

        S is the longest row's length plus T. `lengths` stays, until `advance`.

        Raises:
            OutOfBlocksError: too few blocks are free.
        """
        T = k.shape[2]
        keys, values = self.pool.keys[layer], self.pool.values[layer]
        S = max(self.starts(T)) + T
        blocks, slots = self._slots([range(start, start + T) for start in self.lengths])
        keys[blocks, :, slots] = k.transpose(1, 2).flatten(0, 1)
        values[blocks, :, slots] = v.transpose(1, 2).flatten(0, 1)
        index = self.index(S).to(keys.device)
        return self._gather(keys, index, S), self._gather(values, index, S)

    def starts(self, T: int) -> tuple[int, ...]:
        """The slot of each row where T new tokens start; their blocks are taken now.

        Raises:
            OutOfBlocksError: too few blocks are free.
        """
        for table in self.tables:
            self.pool.reserve(table, table.length + T)
        return self.lengths

    def index(self, S: int) -> Int[Tensor, "B blocks"]:
        """The blocks of each row's S slots; any block stands for those that a row lacks."""
        width = self.pool.blocks.needed(S)
        rows = [[*table.blocks, *[table.blocks[0]] * width][:width] for table in self.tables]
        return torch.tensor(rows, device="cpu")

    @staticmethod
    def _gather(memory: Tensor, index: Tensor, S: int) -> Float[Tensor, "B G S D"]:
        rows = memory[index].transpose(1, 2)  # (B, G, blocks, P, D)
        return rows.flatten(2, 3)[:, :, :S]

    def advance(self, count: int) -> None:
        """Count the `count` tokens just appended to every layer; once per forward pass."""
        count = whole("tokens", count)
        self._previous = self.lengths
        for table in self.tables:
            self.pool.reserve(table, table.length + count)
            table.length += count
        self.lengths = tuple(table.length for table in self.tables)

    def truncate(self, lengths: Sequence[int]) -> None:
        """Forget all but the first `lengths[b]` tokens of each row b.

        Raises:
            ValueError: not one length per row, or none from 0 to the present one.
        """
        wanted = tuple(wholes("lengths", lengths))
        if len(wanted) != len(self.lengths) or any(map(gt, wanted, self.lengths)):
            raise ValueError(f"lengths must be one per row, up to {self.lengths}, got {wanted}")
        self._set(wanted)
        self._previous = tuple(map(min, self._previous, wanted))

    def keep(self, rows: Sequence[Sequence[int]]) -> None:
        """Keep, of the last forward pass, the tokens `rows[b]` of batch row b, moved together.

        Raises:
            ValueError: not one list per batch row, or an index outside the last pass.
        """
        count = [now - before for now, before in zip(self.lengths, self._previous, strict=True)]
        rows = [wholes("rows", kept) for kept in rows]
        if len(rows) != len(count) or any(
            i >= n for kept, n in zip(rows, count, strict=False) for i in kept
        ):
            raise ValueError(f"rows must be indices below {count} for each row, got {rows}")
        starts = list(zip(self._previous, rows, strict=True))
        to = self._slots([range(start, start + len(kept)) for start, kept in starts])
        source = self._slots([[start + i for i in kept] for start, kept in starts])
        for memory in (self.pool.keys, self.pool.values):
            memory[:, to[0], :, to[1]] = memory[:, source[0], :, source[1]]
        self._set([start + len(kept) for start, kept in starts])

    def _slots(self, tokens: Sequence[Sequence[int]]) -> tuple[Tensor, ...]:
        """Blocks and slots of some tokens of each row, row behind row."""
        P = self.pool.blocks.size
        both = [
            (table.blocks[i // P], i % P)
            for table, places in zip(self.tables, tokens, strict=True)
            for i in places
        ]
        device = self.pool.keys.device
        return torch.tensor(both, dtype=torch.int64, device=device).view(-1, 2).unbind(1)

    def _set(self, lengths: Sequence[int]) -> None:
        for table, length in zip(self.tables, lengths, strict=True):
            self.pool.blocks.shrink(table, length)
        self.lengths = tuple(lengths)


def paged(model: Model, size: int) -> NewCache:
    """Caches in blocks of `size` tokens, for the `cache` of a decoder."""

    def make(rows: int, capacity: int) -> PagedCache:
        blocks = Blocks(rows * blocks_for(capacity, size), size)
        pool = Pool(model.config, blocks, device=model.device, dtype=model.dtype)
        return PagedCache(pool, [Table() for _ in range(rows)])

    return make
