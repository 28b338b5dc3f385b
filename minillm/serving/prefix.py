"""Which beginnings are already in the cache: a tree of blocks, one level for each block of a text.

Many requests open with the same words: the system's prompt, the same document, the turns so far.
Keys and values depend on the tokens before them only, so texts that begin alike can share the
blocks of their beginning, as long as these are full: a block that is still written has one holder.

Source: RadixAttention (arXiv 2312.07104, section 3), at the granularity of blocks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from minillm.serving.blocks import Blocks

__all__ = ["PrefixTree"]


@dataclass
class _Node:
    block: int
    used: int
    children: dict[tuple[int, ...], "_Node"] = field(default_factory=dict)


class PrefixTree:
    """Holds every block that was read to its end, until `evict` needs it back.

    Attributes:
        held: the blocks of all known beginnings.
    """

    def __init__(self, blocks: Blocks):
        self.held: set[int] = set()
        self._blocks, self._root, self._clock = blocks, _Node(block=-1, used=0), 0

    def match(self, tokens: Sequence[int]) -> list[int]:
        """The blocks that hold the longest known beginning of a text; the caller shares them."""
        return [node.block for node in self._path(tokens)]

    def insert(self, tokens: Sequence[int], blocks: list[int]) -> None:
        """Remember a text and its blocks; where it is known already, `blocks` gets the known ones.

        So whoever holds a beginning holds all before it, and no block is kept for its end alone.
        """
        full, node = len(tokens) // self._blocks.size, self._root
        if full and blocks[full - 1] in self.held:
            return  # as all before it
        for place, key in enumerate(self._keys(tokens)):
            if key not in node.children:
                self._blocks.share(blocks[place])
                self.held.add(blocks[place])
                node.children[key] = _Node(blocks[place], self._clock)
            node = node.children[key]
            node.used = self._tick()
            if blocks[place] != node.block:
                self._blocks.share(node.block)
                self._blocks.release(blocks[place])
                blocks[place] = node.block

    def evict(self) -> bool:
        """Let go of the least recently used block that nobody else holds; whether there was one."""
        leaves = [
            (child.used, parent, key)
            for parent, key, child in self._walk(self._root)
            if not child.children and self._blocks.holders[child.block] == 1
        ]
        if not leaves:
            return False
        _, parent, key = min(leaves, key=lambda leaf: leaf[0])
        block = parent.children.pop(key).block
        self.held.remove(block)
        self._blocks.release(block)
        return True

    def forget(self, tokens: Sequence[int]) -> list[int]:
        """Let go of a text's first block and of all that goes on from it; tells which these are."""
        top = self._root.children.pop(next(self._keys(tokens), ()), None)
        if top is None:
            return []
        blocks = [top.block, *(child.block for _, _, child in self._walk(top))]
        for block in blocks:
            self.held.remove(block)
            self._blocks.release(block)
        return blocks

    @property
    def evictable(self) -> int:
        """Blocks that `evict` could free, one call after another."""
        count, stays = 0, set()
        for parent, _, node in reversed(list(self._walk(self._root))):  # those below come first
            if self._blocks.holders[node.block] == 1 and id(node) not in stays:
                count += 1
            else:
                stays.add(id(parent))
        return count

    def _path(self, tokens: Sequence[int]) -> Iterator[_Node]:
        node = self._root
        for key in self._keys(tokens):
            if key not in node.children:
                return
            node = node.children[key]
            node.used = self._tick()
            yield node

    def _keys(self, tokens: Sequence[int]) -> Iterator[tuple[int, ...]]:
        """The full blocks of a text."""
        size = self._blocks.size
        for start in range(0, len(tokens) - size + 1, size):
            yield tuple(tokens[start : start + size])

    def _walk(self, top: _Node) -> Iterator[tuple[_Node, tuple[int, ...], _Node]]:
        """Every block below this one, with its parent; a text may be too long for a recursion."""
        left = [top]
        while left:
            node = left.pop()
            for key, child in node.children.items():
                yield node, key, child
                left.append(child)

    def _tick(self) -> int:
        self._clock += 1
        return self._clock
