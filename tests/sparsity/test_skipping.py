"""Skipping computes what the dense MLP computes, and reads what it says that it reads."""

import copy
import gc

import pytest
import torch
from oracles import tiny, tokens_of
from torch import Tensor

import minillm
from minillm.bench.greedy import equal_tokens
from minillm.checkpoint import load
from minillm.data.heldout import openings
from minillm.decoding import collect, decode_cached
from minillm.fast.kernels.neurons import open_neurons
from minillm.fast.model import ONE_CALL, FastTransformer, optimized
from minillm.fast.skipping_model import SkippingBlock, skipping
from minillm.kv_cache import KVCache
from minillm.sparsity.counting import observe
from minillm.sparsity.pruning import cats, teal
from minillm.sparsity.skipping import SkippingMLP, mlp_bytes
from minillm.speculative.decode import decode_speculative
from minillm.speculative.drafters import DraftModel
from minillm.transformer import MLP

C, F = 24, 20  # of the tiny models
ROWS = [1, 2, 5, 40]
PATTERNS = {"none": 0.0, "few": 0.1, "half": 0.5, "all": 1.0}  # of the gates that are open


def fp32(**sizes):
    return tiny(minillm, dtype=torch.float32, **sizes)


def patterned(density: float, dtype: torch.dtype = torch.float64, seed: int = 0) -> MLP:
    """An MLP of which this share of the neurons is open for any vector of positive numbers."""
    mlp = fp32().blocks[0].mlp.to(dtype)
    opened = torch.rand(F, generator=torch.Generator().manual_seed(seed)) < density
    with torch.no_grad():
        gate = mlp.gate_up.weight[:F]
        gate.copy_(torch.where(opened[:, None], 1, -1) * gate.abs())
    return mlp


def positive(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(*shape, C, generator=torch.Generator().manual_seed(1), dtype=dtype) + 0.1


# One MLP


@pytest.mark.parametrize("density", PATTERNS.values(), ids=PATTERNS)
@pytest.mark.parametrize("rows", [(1,), (3, 4), (2, 1)], ids=str)
def test_skipping_equals_dense_for_any_pattern(density: float, rows: tuple[int, ...]) -> None:
    mlp = patterned(density)
    x = positive(*rows)
    torch.testing.assert_close(SkippingMLP(mlp)(x), mlp(x), atol=1e-12, rtol=0)
    mixed = torch.randn(*rows, C, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.testing.assert_close(SkippingMLP(mlp)(mixed), mlp(mixed), atol=1e-12, rtol=0)


@pytest.mark.parametrize("density", PATTERNS.values(), ids=PATTERNS)
@pytest.mark.parametrize("R", [1, 2, 7])
def test_the_loop_equals_dense_for_any_pattern(density: float, R: int) -> None:
    source = torch.Generator().manual_seed(R)
    x, up, down = (torch.randn(*s, C, generator=source) for s in ((R,), (F,), (F,)))
    opened = torch.rand(R, F, generator=source) < density
    gate = torch.rand(R, F, generator=source) * opened
    said = torch.randn(R, C, generator=source)
    expected = said + (gate * (x @ up.T)) @ down
    neurons = torch.stack((up, down), dim=1)
    addresses = (tensor.data_ptr() for tensor in (x, gate, neurons, said))
    assert open_neurons(*addresses, R, C, F) == int(opened.any(0).sum())
    torch.testing.assert_close(said, expected, atol=1e-5, rtol=1e-5)


def test_bytes_are_counted_and_equal_two_rows_of_each_open_neuron_plus_the_gate() -> None:
    for dtype, size in ((torch.float32, 4), (torch.float64, 8)):
        for density in PATTERNS.values():
            mlp = patterned(density, dtype)
            skips, x = SkippingMLP(mlp), positive(3, dtype=dtype)
            for passes in (1, 2):
                skips(x)
                nz = int(mlp.act(mlp.gate_up(x)[..., :F]).any(0).sum())
                expected = passes * (F * C * size + 2 * nz * C * size)
                assert skips.reading.nbytes == expected
                assert (skips.reading.passes, skips.reading.neurons) == (passes, passes * nz)


def test_nothing_open_reads_the_gate_and_everything_open_reads_all() -> None:
    for density, matrices in ((0.0, 1), (1.0, 3)):
        mlp = patterned(density)
        skips = SkippingMLP(mlp)
        skips(positive(2))
        assert skips.reading.nbytes == matrices * F * C * 8


def test_rows_read_the_union() -> None:
    mlp = fp32().blocks[0].mlp
    x = torch.randn(6, C, generator=torch.Generator().manual_seed(4))
    skips = SkippingMLP(mlp)
    skips(x)
    opened = mlp.gate_up(x)[..., :F] > 0
    assert skips.reading.neurons == int(opened.any(0).sum()) < int(opened.sum())


# A model


WAYS = {"by blocks": {}, ONE_CALL: {"head_dim": 32, "hidden_size": 32, "intermediate_size": 52}}


@pytest.mark.parametrize("sizes", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("T", ROWS)
@pytest.mark.parametrize("lengths", [(9,), (5, 5, 5), (11, 1, 20)], ids=str)
def test_logits_and_cache_are_those_of_the_model(sizes, T: int, lengths: tuple[int, ...]) -> None:
    model = fp32(**sizes)
    fast = skipping(model)
    assert isinstance(fast, FastTransformer) == bool(sizes)
    assert all(type(block) is SkippingBlock for block in fast.blocks) == (not sizes)
    ours, theirs = (KVCache(model.config, len(lengths), 64) for _ in range(2))
    for cache in (ours, theirs):
        model.hidden(tokens_of(7, len(lengths), max(lengths)), cache)
        cache.truncate(lengths)
    tokens = tokens_of(1, len(lengths), T)
    torch.testing.assert_close(fast(tokens, ours), model(tokens, theirs), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours.keys, theirs.keys, atol=3e-5, rtol=1e-5)  # keys of up to 8


@pytest.mark.parametrize("sizes", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("T", ROWS)
def test_a_models_bytes_are_those_of_its_open_gates(sizes, T: int) -> None:
    model, tokens = fp32(**sizes), tokens_of(2, 1, T)
    fast, C, F = skipping(model), model.config.hidden_size, model.config.intermediate_size
    fast.hidden(tokens, KVCache(model.config, 1, 64))
    gates = observe(model, tokens).gates  # (L, 1, T, F)
    nz = int(gates.flatten(1, 2).any(1).sum())
    assert mlp_bytes(fast) == (4 * C * (2 * F + 2 * nz), 4 * C * 2 * 3 * F)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_skip_too(dtype: torch.dtype) -> None:
    model, tokens = tiny(minillm, dtype=dtype), tokens_of(3, 1, 2)
    twin = skipping(model)
    assert all(isinstance(block.mlp, SkippingMLP) for block in twin.blocks)
    tolerance = 1e-10 if dtype == torch.float64 else 0.5
    torch.testing.assert_close(twin(tokens), model(tokens), atol=tolerance, rtol=0.1)
    assert 0 < mlp_bytes(twin)[0] < mlp_bytes(twin)[1]


def test_the_model_stays_as_it_is_and_shares_what_is_not_laid_out_anew() -> None:
    model = fp32()
    before = [(name, type(module)) for name, module in model.named_modules()]
    twin = skipping(model, "F.linear")
    assert [(name, type(module)) for name, module in model.named_modules()] == before
    assert twin.embed.weight.data_ptr() == model.embed.weight.data_ptr()
    assert mlp_bytes(model) == (0, 0)
    assert not twin(tokens_of(0, 1, 3)).requires_grad


def test_half_the_bytes_are_counted_where_half_are_read() -> None:
    model = tiny(minillm, dtype=torch.float16, **WAYS[ONE_CALL]).float()
    fast = skipping(model)
    fast.hidden(tokens_of(2, 1, 3), KVCache(model.config, 1, 64))
    assert mlp_bytes(fast)[1] == 2 * sum(
        block.mlp.gate_up.weight.numel() * 3 // 2 for block in model.blocks
    )


def test_one_call_learns_nothing_and_stays_where_it_is() -> None:
    fast = skipping(fp32(**WAYS[ONE_CALL]).requires_grad_(True))
    assert not fast(tokens_of(0, 1, 3), KVCache(fast.config, 1, 8)).requires_grad
    with pytest.raises(ValueError, match="move the model, then optimize it"):
        fast.double()


def test_a_token_is_the_same_alone_and_in_a_block_bit_for_bit() -> None:
    fast, text = skipping(fp32(**WAYS[ONE_CALL])), tokens_of(4, 1, 20)
    alone, together = (KVCache(fast.config, 1, 24) for _ in range(2))
    expected = torch.cat([fast(token, alone) for token in text.split(1, dim=1)], dim=1)
    for T in (1, 2, 7, 10):
        before = together.lengths[0]
        assert fast(text[:, before : before + T], together).equal(expected[:, before : before + T])


@pytest.mark.parametrize("sizes", WAYS.values(), ids=WAYS)
def test_a_copy_of_a_twin_outlives_it_and_counts_for_itself(sizes) -> None:
    model, tokens = fp32(**sizes), tokens_of(11, 1, 3)
    expected = model(tokens)
    twin = skipping(model)
    fast = copy.deepcopy(twin)
    fast(tokens, KVCache(model.config, 1, 16))
    assert mlp_bytes(twin)[0] == 0 < mlp_bytes(fast)[0]
    del model, twin
    gc.collect()
    cache = KVCache(fast.config, 1, 16)
    torch.testing.assert_close(fast(tokens, cache), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("sizes", WAYS.values(), ids=WAYS)
def test_what_is_not_finite_stays_so(sizes) -> None:
    model = fp32(**sizes)
    with torch.no_grad():
        model.embed.weight[5] = float("nan")
    for T in (1, 20):
        fast = skipping(model)
        cache = KVCache(model.config, 1, 64)
        assert not fast(torch.full((1, T), 5), cache).isfinite().any()


@pytest.mark.parametrize("act", ["silu", "gelu"])
def test_a_model_without_relu_is_told_what_can_be_done(act: str) -> None:
    model = fp32(hidden_act=act)
    with pytest.raises(ValueError, match=r"shuts no gate .*minillm\.sparsity\.cats.*relufication"):
        skipping(model)
    tokens = tokens_of(0, 2, 30)
    thresholded = cats(model, tokens, 0.6)
    fast = skipping(thresholded)
    for T in (1, 30):
        torch.testing.assert_close(
            fast(tokens[:, :T], KVCache(model.config, 2, 40)),
            thresholded(tokens[:, :T]),
            atol=1e-4,
            rtol=1e-4,
        )
    assert mlp_bytes(fast)[0] < mlp_bytes(fast)[1]


def test_a_model_that_skips_already_is_refused() -> None:
    with pytest.raises(ValueError, match="own MLP, of plain matrices, can skip, got SkippingMLP"):
        skipping(skipping(fp32()))


def test_matrices_that_are_something_else_are_refused() -> None:
    model = fp32()
    with pytest.raises(ValueError, match="of plain matrices, can skip, got MLP"):
        skipping(teal(model, torch.tensor([[1, 2, 3]]), 0.4))


def test_an_unknown_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="kernel must be one of"):
        skipping(fp32(), "magic")


# Texts


def test_texts_of_the_shipped_target_are_the_same() -> None:
    model, tokenizer = load("stories")
    fast = skipping(model)
    prompts = openings(tokenizer, 4)
    steps = list(decode_cached(fast, prompts, max_new_tokens=24))
    ours = [[(step.rows[b].tokens[0], step.rows[b].logits[0]) for step in steps] for b in range(4)]
    assert equal_tokens(ours, collect(decode_cached(model, prompts, max_new_tokens=24)))
    reading = fast.blocks[0].mlp.reading
    assert reading.passes == len(steps)
    read, dense = mlp_bytes(fast)
    assert dense == 3 * reading.gate_bytes * reading.passes * len(fast.blocks)
    assert read < dense / 2


def test_skipping_and_speculation_go_together() -> None:
    model, _ = load("stories")
    draft, tokenizer = load("stories-draft")
    prompts = openings(tokenizer, 2)
    drafter = DraftModel(optimized(draft))
    ours = collect(decode_speculative(skipping(model), prompts, drafter=drafter, max_new_tokens=24))
    assert ours == collect(decode_cached(model, prompts, max_new_tokens=24))
