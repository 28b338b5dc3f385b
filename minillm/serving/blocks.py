"""Who holds which block: cache memory in pieces of one size, lent and counted.

A request does not know how long it will be. Given room for the longest text, most of it stays
empty; given blocks of a few tokens as it grows, at most the last one is partly empty. A block may
have several holders, which read the same beginning; it is free again when the last lets go.

Source: PagedAttention (arXiv 2309.06180, section 4).
"""

from dataclasses import dataclass, field

from minillm.whole import whole

__all__ = ["Blocks", "OutOfBlocksError", "Table", "blocks_for"]


class OutOfBlocksError(Exception):
    """Too few blocks are free."""


@dataclass
class Table:
    """Where one text lies: its blocks in order, and how many tokens they hold."""

    blocks: list[int] = field(default_factory=list)
    length: int = 0


def blocks_for(tokens: int, size: int) -> int:
    """Blocks of `size` tokens that hold so many.

    >>> blocks_for(17, size=16)
    2
    """
    return -(-tokens // size)


class Blocks:
    """The ledger of `count` blocks of `size` tokens each; it knows numbers, not tensors.

    >>> blocks = Blocks(count=2, size=16)
    >>> first = blocks.take()
    >>> blocks.share(first)
    >>> blocks.release(first), blocks.free
    (None, 1)
    >>> blocks.release(first), blocks.free
    (None, 2)
    """

    def __init__(self, count: int, size: int):
        self.count, self.size = whole("count", count, least=1), whole("size", size, least=1)
        self.holders = [0] * count
        self._free = list(range(count))[::-1]

    @property
    def free(self) -> int:
        """Blocks that nobody holds."""
        return len(self._free)

    def needed(self, tokens: int) -> int:
        """Blocks for so many tokens."""
        return blocks_for(tokens, self.size)

    def take(self) -> int:
        """A free block, with one holder.

        Raises:
            OutOfBlocksError: there is none.
        """
        if not self._free:
            raise OutOfBlocksError(f"all {self.count} blocks are held")
        block = self._free.pop()
        self.holders[block] = 1
        return block

    def share(self, block: int) -> None:
        """One more holder of a block that is held."""
        self._require_held(block)
        self.holders[block] += 1

    def release(self, block: int) -> None:
        """One holder less; without any the block is free."""
        self._require_held(block)
        self.holders[block] -= 1
        if not self.holders[block]:
            self._free.append(block)

    def missing(self, table: Table, length: int) -> int:
        """Blocks to take before the table can hold `length` tokens, copies of shared ones too."""
        shared, more = self._lacks(table, length)
        return len(shared) + more

    def reserve(self, table: Table, length: int) -> list[tuple[int, int]]:
        """Let the table hold `length` tokens; which blocks have to be copied, as (from, to).

        What follows a table's own tokens will be written, so a block there that others hold too
        is replaced by a copy (copy on write).

        Raises:
            OutOfBlocksError: too few are free; nothing has changed.
        """
        (shared, more), copies = self._lacks(table, length), []
        if len(shared) + more > self.free:
            raise OutOfBlocksError(f"{len(shared) + more} blocks are needed, {self.free} are free")
        for i in shared:
            old, table.blocks[i] = table.blocks[i], self.take()
            self.release(old)
            copies.append((old, table.blocks[i]))
        table.blocks.extend(self.take() for _ in range(more))
        return copies

    def shrink(self, table: Table, length: int) -> None:
        """Forget all but the first `length` tokens, and let go of blocks without any."""
        while len(table.blocks) > self.needed(length):
            self.release(table.blocks.pop())
        table.length = length

    def _lacks(self, table: Table, length: int) -> tuple[list[int], int]:
        """Where a table's blocks will be written and others hold them; how many more it needs."""
        ahead = range(table.length // self.size, len(table.blocks))
        shared = [i for i in ahead if self.holders[table.blocks[i]] > 1]
        return shared, max(self.needed(length) - len(table.blocks), 0)

    def _require_held(self, block: int) -> None:
        if not self.holders[block]:
            raise ValueError(f"block {block} is free")
