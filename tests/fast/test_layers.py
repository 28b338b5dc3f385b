"""One call computes a token's result bit for bit alike, alone and in any block, with any team."""

import copy
import os
import subprocess
import sys
import threading

import pytest
import torch
from oracles import tiny, tokens_of

import minillm
from minillm.decoding import collect, decode_cached
from minillm.fast import team
from minillm.fast.kernels.layers import help_with
from minillm.fast.kernels.team import claim
from minillm.fast.layers import MOST, Layers
from minillm.fast.model import ONE_CALL, FastTransformer, optimized
from minillm.kv_cache import KVCache
from minillm.modules import swapped
from minillm.serving.blocks import Blocks, Table
from minillm.serving.paged_cache import PagedCache, Pool, paged
from minillm.speculative.drafters import early_exit

SIZES = {"head_dim": 32, "hidden_size": 40, "intermediate_size": 72, "vocab_size": 50}
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def model_of(dtype: torch.dtype = torch.float32, **sizes):
    """A random model in float32, whose weights were rounded to `dtype`."""
    return tiny(minillm, dtype=dtype, **(SIZES | sizes)).float()


@pytest.fixture
def four_threads():
    """As on a processor with four cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_weights_are_kept_in_the_narrowest_format_that_loses_nothing(dtype) -> None:
    model = model_of(dtype)
    assert Layers(model).dtype == dtype
    fast, tokens = optimized(model, ONE_CALL), tokens_of(0, 1, 9)
    ours, theirs = (KVCache(model.config, 1, 16) for _ in range(2))
    torch.testing.assert_close(fast(tokens, ours), model(tokens, theirs), atol=1e-4, rtol=1e-4)


def test_one_weight_that_16_bits_do_not_hold_keeps_all_in_32() -> None:
    model = model_of(torch.float16)
    model.blocks[1].mlp.down.weight[3, 4] = 1 / 3
    assert Layers(model).dtype == torch.float32
    model.blocks[1].mlp.down.weight[3, 4] = 2.0**17  # beyond float16, not beyond bfloat16
    assert Layers(model).dtype == torch.float32
    assert Layers(model_of(torch.float16)).nbytes * 2 == Layers(model_of()).nbytes


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("act", ["relu", "silu"])
def test_a_token_alone_is_the_token_in_a_block_bit_for_bit(dtype, act) -> None:
    fast = optimized(model_of(dtype, hidden_act=act), ONE_CALL)
    text = tokens_of(1, 1, 24)
    alone, together = (KVCache(fast.config, 1, 24) for _ in range(2))
    expected = torch.cat([fast(token, alone) for token in text.split(1, dim=1)], dim=1)
    for T in (1, 2, 5, 6, 10):
        before = together.lengths[0]
        assert fast(text[:, before : before + T], together).equal(expected[:, before : before + T])
    assert together.keys.equal(alone.keys)
    assert together.values.equal(alone.values)


def test_a_row_alone_is_the_row_of_a_batch_bit_for_bit() -> None:
    fast = optimized(model_of(), ONE_CALL)
    text, lengths = tokens_of(2, 3, 20), (11, 1, 17)
    batch = KVCache(fast.config, 3, 32)
    fast(text[:, :17], batch)
    batch.truncate(lengths)
    together = fast(text[:, -3:], batch)
    for b, length in enumerate(lengths):
        alone = KVCache(fast.config, 1, 32)
        fast(text[b : b + 1, :length], alone)
        assert fast(text[b : b + 1, -3:], alone).equal(together[b : b + 1])


@pytest.mark.parametrize("size", [1, 3, 16, 40])
def test_a_cache_in_blocks_holds_and_gives_the_same_bits(size) -> None:
    fast = optimized(model_of(num_hidden_layers=3), ONE_CALL)
    text, lengths = tokens_of(2, 3, 40), (11, 1, 37)
    contiguous, in_blocks = KVCache(fast.config, 3, 48), paged(fast, size)(3, 48)
    for cache in (contiguous, in_blocks):
        fast(text[:, :37], cache)
        cache.truncate(lengths)
    for T in (3, 1):
        assert fast(text[:, -T:], contiguous).equal(fast(text[:, -T:], in_blocks))
    for b, table in enumerate(in_blocks.tables):
        assert table.length == contiguous.lengths[b] == lengths[b] + 4
        held = in_blocks.keys[:, table.blocks].transpose(1, 2).flatten(2, 3)
        assert held[:, :, : table.length].equal(contiguous.keys[:, b, :, : table.length])


def test_a_cache_in_blocks_is_written_where_its_table_says() -> None:
    fast, blocks, table = optimized(model_of(), ONE_CALL), Blocks(9, 4), Table([8, 2, 5])
    for block in [blocks.take() for _ in range(9)]:
        if block not in table.blocks:
            blocks.release(block)
    pool = Pool(fast.config, blocks)
    pool.keys[:] = pool.values[:] = 7
    fast(tokens_of(3, 1, 10), PagedCache(pool, [table]))
    expected = torch.zeros(9, 4, dtype=torch.bool)
    expected[[8, 2]], expected[5, :2] = True, True
    for memory in (pool.keys, pool.values):
        assert (memory != 7).all(-1).all(2).all(0).equal(expected)
        assert (memory != 7).any(-1).any(2).any(0).equal(expected)


def test_a_hidden_token_changes_no_bit_of_one_that_does_not_see_it() -> None:
    fast = optimized(model_of(), ONE_CALL)
    text, tree = tokens_of(3, 1, 12), tokens_of(4, 1, 4)
    mask = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 1, 1]]).bool()
    positions = torch.tensor([12, 13, 13, 14])
    whole, branch = (KVCache(fast.config, 1, 32) for _ in range(2))
    for cache in (whole, branch):
        fast(text, cache)
    leaf = fast(tree, whole, positions=positions, mask=mask)[:, -1]
    assert fast(tree[:, [0, 2, 3]], branch)[:, -1].sub(leaf).abs().max() < 1e-5


def test_more_rows_than_a_call_takes_are_the_twins() -> None:
    model = model_of(max_position_embeddings=2 * MOST)
    fast, tokens = optimized(model, ONE_CALL), tokens_of(5, 1, MOST + 9)
    ours, theirs = (KVCache(model.config, 1, 2 * MOST) for _ in range(2))
    for part in (tokens, tokens[:, :3]):
        torch.testing.assert_close(fast(part, ours), model(part, theirs), atol=1e-4, rtol=1e-4)


def test_a_cache_may_hold_more_than_the_context() -> None:
    model = model_of()
    fast, context = optimized(model, ONE_CALL), model.config.max_position_embeddings
    ours, theirs = (KVCache(model.config, 1, 3 * context) for _ in range(2))
    for _ in range(3):
        tokens, positions = tokens_of(6, 1, context - 4), torch.arange(context - 4)
        a, b = (x(tokens, y, positions=positions) for x, y in ((fast, ours), (model, theirs)))
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_what_the_model_refuses_is_refused() -> None:
    fast = optimized(model_of(), ONE_CALL)
    cache = KVCache(fast.config, 1, 128)
    with pytest.raises(IndexError):
        fast(torch.tensor([[50]]), cache)
    with pytest.raises(ValueError, match="position 64 is beyond the context of 64"):
        fast(torch.tensor([[1]]), cache, positions=torch.tensor([64]))
    cache.advance(64)
    with pytest.raises(ValueError, match="position 64 is beyond the context of 64"):
        fast(torch.tensor([[1]]), cache)
    with pytest.raises(ValueError, match="the cache has 1 rows, the tokens have 2"):
        fast(torch.tensor([[1], [2]]), KVCache(fast.config, 1, 8))


@pytest.mark.parametrize("sizes", [{"head_dim": 6}, {"hidden_act": "gelu"}, {"qkv_bias": True}])
def test_a_model_of_another_kind_is_refused(sizes) -> None:
    with pytest.raises(ValueError, match="the library's own model"):
        optimized(model_of(**sizes), ONE_CALL)
    assert not isinstance(optimized(model_of(**sizes)), FastTransformer)


def test_the_first_layers_are_a_model_of_their_own() -> None:
    model = model_of(num_hidden_layers=3)
    fast, plain = early_exit(optimized(model, ONE_CALL), 2), early_exit(model, 2)
    ours, theirs = (KVCache(plain.config, 1, 16) for _ in range(2))
    for T in (5, 1):
        tokens = tokens_of(T, 1, T)
        torch.testing.assert_close(fast(tokens, ours), plain(tokens, theirs), atol=1e-4, rtol=1e-4)


def test_modules_are_swapped_in_the_readable_model_only() -> None:
    fast = optimized(model_of(), ONE_CALL)
    with pytest.raises(ValueError, match="swap modules of the plain model, then optimize it"):
        swapped(fast, {})


def test_a_team_changes_no_bit(four_threads) -> None:
    model = model_of(num_hidden_layers=4)
    fast, prompts = optimized(model, ONE_CALL), tokens_of(7, 3, 5).tolist()
    expected = collect(decode_cached(fast, prompts, max_new_tokens=40))
    torch.set_num_threads(1)
    alone = KVCache(model.config, 1, 64)
    text = tokens_of(8, 1, 60)
    rows = [fast(token, alone) for token in text.split(1, dim=1)]
    assert collect(decode_cached(fast, prompts, max_new_tokens=40)) == expected
    for _ in range(20):
        torch.set_num_threads(4)
        together = KVCache(model.config, 1, 64)
        assert all(
            fast(t, together).equal(row) for t, row in zip(text.split(1, 1), rows, strict=True)
        )
        assert together.keys.equal(alone.keys)


def test_two_threads_may_use_one_model(four_threads) -> None:
    fast = optimized(model_of(), ONE_CALL)
    prompts = tokens_of(9, 2, 5).tolist()
    expected = [collect(decode_cached(fast, [p], max_new_tokens=50)) for p in prompts]
    found: dict[int, list] = {0: [], 1: []}

    def run(b: int) -> None:
        for _ in range(10):
            found[b].append(collect(decode_cached(fast, [prompts[b]], max_new_tokens=50)))

    threads = [threading.Thread(target=run, args=(b,)) for b in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {b: [expected[b]] * 10 for b in found}


def test_after_a_long_wait_calls_are_made_alone_for_a_while(monkeypatch, four_threads) -> None:
    now, waited = [100.0], [0]
    ours = team.Team(clock=lambda: now[0])
    monkeypatch.setattr(team, "lead", lambda calls, number: waited[0])

    def alone_after_a_wait() -> float:
        """Seconds until the team helps again."""
        start, waited[0] = now[0], 10**6
        ours.call(None, 1, None)
        waited[0] = 0
        while ours.threads() == 1:
            ours.call(None, 1, None)
            now[0] += 0.001
        return now[0] - start

    assert ours.threads() == 4
    assert alone_after_a_wait() == pytest.approx(0.01, abs=0.002)
    assert alone_after_a_wait() == pytest.approx(0.04, abs=0.002)
    assert alone_after_a_wait() == pytest.approx(0.16, abs=0.002)
    assert max(alone_after_a_wait() for _ in range(9)) == pytest.approx(0.64, abs=0.002)
    now[0] += 60
    assert alone_after_a_wait() == pytest.approx(0.01, abs=0.002)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_child_process_decodes_without_its_parents_helpers() -> None:
    code = """
import os, torch, minillm
from minillm.fast.model import optimized
model, _ = minillm.load("stories-draft")
torch.set_num_threads(2)
fast = optimized(model, "one call")
text = lambda: minillm.decoding.collect(minillm.decode_cached(fast, [[1, 2]], max_new_tokens=9))
before = text()
child = os.fork()
if child == 0:
    torch.set_num_threads(1)
    os._exit(0 if text() == before else 1)
assert os.waitpid(child, 0)[1] == 0 and text() == before
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


def test_no_helper_outlives_python() -> None:
    """It would come back from compiled code to an interpreter that is gone, and abort it."""
    code = """
import atexit, threading, torch, minillm
atexit.register(lambda: print(threading.active_count()))  # called last, as the first one registered
from minillm.fast.model import optimized
torch.set_num_threads(3)
fast = optimized(minillm.load("stories")[0], "one call")
minillm.decoding.collect(minillm.decode_cached(fast, [[1, 2]], max_new_tokens=9))
print(threading.active_count() > 1)
"""
    run = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=100, capture_output=True, text=True
    )
    assert run.stdout.split() == ["True", "1"]


def test_a_thread_claims_parts_of_its_own_call_only() -> None:
    words = torch.zeros(8, dtype=torch.int64)
    phase = words.data_ptr()
    words[0] = 5 << 24
    assert [claim(phase, call, 2) for call in (4, 5, 6, 5, 5, 4)] == [-1, 0, -1, 1, -1, -1]
    assert words[0].item() == (5 << 24) + 2


def test_a_helper_that_wakes_up_between_two_calls_does_nothing(four_threads) -> None:
    """The next call has more rows, whose parts would look like parts that are left."""
    fast = optimized(model_of(), ONE_CALL)
    layers = fast.layers
    fast.hidden(torch.tensor([[3]]), KVCache(fast.config, 1, 16))
    words = layers._phases.view(torch.int64).clone()
    layers._call["B"], layers._call["threads"] = 4, 4
    help_with(layers._calls, 1, 10)
    assert layers._phases.view(torch.int64).equal(words)


def test_helpers_of_models_that_begin_together_have_numbers_of_their_own(four_threads) -> None:
    ours, together = team.Team(), threading.Barrier(8)
    model = optimized(model_of(), ONE_CALL)
    calls = copy.deepcopy(model.layers)._calls
    calls[1]["L"] = calls[1]["first"] = calls[1]["last"] = 0
    calls[1]["logits"] = 1

    def begin() -> None:
        together.wait()
        ours.call(calls.copy(), 4, None)

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ours._helpers) == 3


@pytest.mark.parametrize("shape", [(1, 1, 8), (0,), (2, 0)], ids=str)
def test_a_head_refuses_what_the_models_head_refuses(shape) -> None:
    model = model_of()
    with pytest.raises((RuntimeError, IndexError)):
        model.head(torch.ones(shape))
    with pytest.raises((RuntimeError, IndexError)):
        optimized(model, ONE_CALL).head(torch.ones(shape))
