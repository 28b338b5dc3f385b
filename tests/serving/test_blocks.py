"""The ledger, the paged cache and the tree of beginnings: counts are those of the holders."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import tiny

import minillm
from minillm.decoding import decode_cached
from minillm.jacobi import decode_jacobi
from minillm.kv_cache import KVCache
from minillm.lookahead.decode import decode_lookahead
from minillm.serving.blocks import Blocks, OutOfBlocksError, Table
from minillm.serving.paged_cache import PagedCache, Pool, paged
from minillm.serving.prefix import PrefixTree
from minillm.speculative.decode import decode_speculative
from minillm.speculative.prompt_lookup import PromptLookup

SIZES = [
    pytest.param(size, marks=[] if size in (1, 3, 8, 16) else pytest.mark.slow)
    for size in range(1, 33)
]
PROMPTS = [[1, 2, 3, 1, 2], [4], [5, 6, 5]]
DECODERS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "cached": (decode_cached, {}),
    "speculative": (decode_speculative, {"drafter": PromptLookup(), "gamma": 3}),
    "jacobi": (decode_jacobi, {"block": 3}),
    "lookahead": (decode_lookahead, {"W": 3, "N": 3, "G": 2}),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", DECODERS)
def test_every_decoder_is_the_same_bit_for_bit_in_blocks(name: str, size: int) -> None:
    decode, options = DECODERS[name]
    model = tiny(minillm)
    contiguous = list(decode(model, PROMPTS, max_new_tokens=14, **options))
    in_blocks = list(decode(model, PROMPTS, max_new_tokens=14, cache=paged(model, size), **options))
    assert len(contiguous) == len(in_blocks)
    for one, other in zip(contiguous, in_blocks, strict=True):
        assert one.cached == other.cached
        for row, twin in zip(one.rows, other.rows, strict=True):
            assert row.tokens == twin.tokens
            assert row.logits.equal(twin.logits)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_truncate_and_keep_cross_the_borders_of_blocks(size: int) -> None:
    config = tiny(minillm).config
    plain, blocks = KVCache(config, 2, 24), Blocks(48, size)
    cache = PagedCache(Pool(config, blocks), [Table(), Table()])
    generator = torch.Generator().manual_seed(size)
    shape = (2, config.num_key_value_heads)
    for count, kept, lengths in ((7, [[6, 0, 3], [1]], (3, 0)), (9, [[8], [0, 1, 2, 8]], (2, 3))):
        for layer in range(config.num_hidden_layers):
            k, v = (torch.randn(*shape, count, config.head_dim, generator=generator) for _ in "kv")
            for ours, theirs in zip(
                cache.append(layer, k, v), plain.append(layer, k, v), strict=True
            ):
                for row, length in enumerate(cache.lengths):
                    assert ours[row, :, : length + count].equal(theirs[row, :, : length + count])
        for each in (cache, plain):
            each.advance(count)
            each.keep(kept)
            each.truncate(lengths)
        assert cache.lengths == plain.lengths == lengths
        held = [table.blocks for table in cache.tables]
        assert [len(table) for table in held] == [blocks.needed(length) for length in lengths]
        assert blocks.free == blocks.count - sum(map(len, held))


def test_a_shared_block_is_copied_before_it_is_written() -> None:
    model = tiny(minillm, dtype=torch.float64)
    pool = Pool(model.config, Blocks(8, 4), dtype=torch.float64)
    first = Table()
    model(torch.tensor([[1, 2, 3, 4, 5, 6]]), PagedCache(pool, [first]))
    fork = Table(list(first.blocks), first.length)
    for block in fork.blocks:
        pool.blocks.share(block)
    alone = model(torch.tensor([[1, 2, 3, 4, 5, 6, 7]]))[0, -1]
    other = model(torch.tensor([[8]]), PagedCache(pool, [fork]))[0, -1]
    torch.testing.assert_close(other, model(torch.tensor([[1, 2, 3, 4, 5, 6, 8]]))[0, -1])
    assert first.blocks[0] == fork.blocks[0]
    assert PagedCache(pool, [first, fork]).nbytes == 3 * pool.nbytes // 8  # one is shared
    assert first.blocks[1] != fork.blocks[1]
    found = model(torch.tensor([[7]]), PagedCache(pool, [first]))[0, -1]
    torch.testing.assert_close(found, alone)


def test_a_ledger_refuses_what_would_corrupt_it() -> None:
    blocks = Blocks(2, 4)
    held = blocks.take()
    blocks.release(held)
    with pytest.raises(ValueError, match="is free"):
        blocks.release(held)
    with pytest.raises(ValueError, match="is free"):
        blocks.share(held)
    table = Table()
    with pytest.raises(OutOfBlocksError, match="3 blocks are needed, 2 are free"):
        blocks.reserve(table, 9)
    assert table == Table()
    assert blocks.free == 2


@settings(max_examples=30, deadline=None, database=None)
@given(
    texts=st.lists(st.lists(st.integers(0, 2), max_size=9), min_size=1, max_size=8),
    size=st.integers(1, 3),
    evictions=st.integers(0, 9),
)
def test_a_tree_knows_the_longest_beginning_it_was_told(
    texts: list[list[int]], size: int, evictions: int
) -> None:
    blocks = Blocks(100, size)
    tree = PrefixTree(blocks)
    for text in texts:
        table = Table()
        blocks.reserve(table, len(text))
        tree.insert(text, table.blocks)
        blocks.shrink(table, 0)
    for text in texts:
        found = tree.match([*text, 9])
        assert len(found) == len(text) // size
    known = blocks.count - blocks.free
    assert known == len({tuple(t[:end]) for t in texts for end in range(size, len(t) + 1, size)})
    assert tree.evictable == known
    gone = sum(tree.evict() for _ in range(evictions))
    assert gone == min(known, evictions)
    assert blocks.free == blocks.count - known + gone


def test_the_least_recently_used_beginning_goes_first_and_none_that_is_held() -> None:
    blocks = Blocks(6, 1)
    tree, table = PrefixTree(blocks), Table()
    blocks.reserve(table, 3)
    tree.insert([1, 2, 3], table.blocks)
    other = blocks.take()
    tree.insert([7], [other])
    blocks.release(other)
    assert tree.evict()  # of the two only 7 is not held
    assert tree.match([7, 7]) == []
    assert not tree.evict()
    blocks.shrink(table, 1)
    assert tree.evict()
    assert tree.match([1, 2, 3, 4]) == [0, 1][:2]
    assert tree.evictable == 1


def known(tree: PrefixTree, blocks: Blocks, *texts: list[int]) -> None:
    """Texts that were read, and that nobody holds any more."""
    for text in texts:
        table = Table()
        blocks.reserve(table, len(text))
        tree.insert(text, table.blocks)
        blocks.shrink(table, 0)


def test_of_what_nobody_holds_the_beginning_asked_for_longest_ago_goes_first() -> None:
    blocks = Blocks(6, 1)
    tree = PrefixTree(blocks)
    known(tree, blocks, [1], [2], [3])
    tree.match([1, 9])
    assert tree.evict()
    assert [len(tree.match([token, 9])) for token in (1, 2, 3)] == [1, 0, 1]
    assert tree.held == {0, 2}
    known(tree, blocks, [2])  # its block is one that was known before
    assert len(tree.match([2, 9])) == 1


def test_the_same_tokens_at_another_place_are_another_beginning() -> None:
    blocks = Blocks(6, 2)
    tree = PrefixTree(blocks)
    known(tree, blocks, [1, 2, 3, 4])
    assert tree.match([3, 4, 9]) == []
    assert tree.match([5, 6, 3, 4, 9]) == []
    assert tree.match([1, 2, 1, 2, 9]) == [0]


def test_after_a_truncation_behind_the_last_pass_nothing_of_it_is_left_to_keep() -> None:
    config = tiny(minillm).config
    for cache in (KVCache(config, 1, 8), PagedCache(Pool(config, Blocks(4, 2)), [Table()])):
        for _ in range(2):
            cache.advance(3)
        cache.truncate([2])
        with pytest.raises(ValueError, match=r"rows must be indices below \[0\]"):
            cache.keep([[0]])
        assert cache.lengths == (2,)
