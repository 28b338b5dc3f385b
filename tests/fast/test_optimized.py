"""The fast twin computes what the model computes, whatever the kernels at hand."""

import copy
import gc

import pytest
import torch
from oracles import tiny, tokens_of
from torch import nn

import minillm
from minillm.bench.greedy import equal_tokens
from minillm.checkpoint import load
from minillm.data.heldout import openings
from minillm.decoding import decode_cached
from minillm.fast import linear as kernels
from minillm.fast.block import FusedBlock
from minillm.fast.linear import FastLinear, available, prepare, race
from minillm.fast.model import ONE_CALL, optimized
from minillm.kv_cache import KVCache

FAMILIES = [
    {"hidden_act": "relu"},
    {"hidden_act": "silu"},
    {"hidden_act": "gelu"},
    {"model_type": "qwen2", "qkv_bias": True},
    {"model_type": "qwen3", "qk_norm": True, "head_dim": 10},
    {"num_key_value_heads": 4, "tie_word_embeddings": True},
]
ONE_CALLS = [
    {"hidden_act": "relu"},
    {"hidden_act": "silu"},
    {"hidden_size": 40, "intermediate_size": 72, "vocab_size": 50},  # no whole panels
    {"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 64},
    {"num_key_value_heads": 4, "tie_word_embeddings": True},
]
KERNELS = [None, *available()]


def fp32(**sizes):
    return tiny(minillm, dtype=torch.float32, **sizes)


@pytest.fixture(params=[{"head_dim": 6}, {"head_dim": 32}], ids=["by blocks", ONE_CALL])
def twins(request):
    """A model, and its twin on each of the two ways."""

    def make(change=lambda model: None, **sizes):
        model = fp32(**(request.param | sizes))
        change(model)
        return model, optimized(model, None if model.config.head_dim == 6 else ONE_CALL)

    return make


def caches(model, *lengths: int) -> list[KVCache]:
    """Two equal caches whose rows hold so many random tokens."""
    pair = [KVCache(model.config, len(lengths), 64) for _ in range(2)]
    for cache in pair:
        model.hidden(tokens_of(7, len(lengths), max(lengths)), cache)
        cache.truncate(lengths)
    return pair


@pytest.mark.parametrize(
    ("sizes", "kernel"),
    [(sizes, None) for sizes in FAMILIES]
    + [({"head_dim": 32} | sizes, ONE_CALL) for sizes in ONE_CALLS],
    ids=str,
)
@pytest.mark.parametrize("T", [1, 2, 8, 40])
@pytest.mark.parametrize("lengths", [(9,), (5, 5, 5), (11, 1, 20)], ids=str)
def test_logits_and_cache_are_those_of_the_model(sizes, kernel, T, lengths) -> None:
    model = fp32(**sizes)
    fast = optimized(model, kernel)
    ours, theirs = caches(model, *lengths)
    tokens = tokens_of(1, len(lengths), T)
    torch.testing.assert_close(fast(tokens, ours), model(tokens, theirs), atol=1e-4, rtol=1e-4)
    size = 1e-5 if kernel is None else 3e-5  # one sum in its order, of keys of up to 8
    torch.testing.assert_close(ours.keys, theirs.keys, atol=size, rtol=1e-5)
    torch.testing.assert_close(ours.values, theirs.values, atol=size, rtol=1e-5)
    assert list(ours.lengths) == [n + T for n in lengths]


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_kernel_gives_the_same_logits(kernel) -> None:
    model = fp32()
    fast = optimized(model, kernel)
    for T in (1, 2, 8, 40):
        tokens = tokens_of(2, 2, T)
        torch.testing.assert_close(fast(tokens), model(tokens), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("cached", [(6,), (6, 3)], ids=str)
def test_a_mask_and_positions_of_ones_own(cached, twins) -> None:
    model, fast = twins()
    ours, theirs = caches(model, *cached)
    tokens = tokens_of(3, len(cached), 5)
    mask = torch.tensor([[True, False, True, False, True]]) | torch.eye(5, dtype=torch.bool)
    mask = mask.tril()
    positions = torch.stack([torch.tensor([0, 1, 1, 2, 2]) + length for length in cached])
    torch.testing.assert_close(
        fast(tokens, ours, positions=positions, mask=mask),
        model(tokens, theirs, positions=positions, mask=mask),
        atol=1e-4,
        rtol=1e-4,
    )


def test_positions_that_all_rows_share(twins) -> None:
    model, fast = twins()
    ours, theirs = caches(model, 4, 4, 4)
    tokens, positions = tokens_of(8, 3, 5), torch.arange(4, 9)[None]  # (1, T)
    torch.testing.assert_close(
        fast(tokens, ours, positions=positions),
        model(tokens, theirs, positions=positions),
        atol=1e-4,
        rtol=1e-4,
    )


def test_autocast_gets_the_readable_block() -> None:
    model = fp32()
    fast = optimized(model, "F.linear")
    ours, theirs = caches(model, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tokens = tokens_of(9, 1, 3)
        assert fast(tokens, ours).equal(model(tokens, theirs))


@pytest.mark.parametrize("part", ["act", "norm", "linear", "attend"])
def test_a_part_of_ones_own_is_kept(part) -> None:
    model = fp32()
    block = model.blocks[0]

    def negative(module: nn.Module) -> nn.Module:
        kind = type(module)
        forward = lambda self, *x: -kind.forward(self, *x)  # noqa: E731
        module.__class__ = type("Own", (kind,), {"forward": forward})
        return module

    negative({"act": block.mlp.act, "norm": block.mlp_norm, "linear": block.mlp.down,
              "attend": block.attention.attend}[part])  # fmt: skip
    ours, theirs = caches(model, 4)
    tokens = tokens_of(10, 1, 3)
    torch.testing.assert_close(
        optimized(model)(tokens, ours), model(tokens, theirs), atol=1e-4, rtol=1e-4
    )


def test_a_cache_of_another_kind_gets_the_readable_block() -> None:
    class Listening(KVCache):
        heard = 0

        def append(self, layer, k, v):
            self.heard += 1
            return super().append(layer, k, v)

    model = fp32()
    cache, plain = Listening(model.config, 1, 64), KVCache(model.config, 1, 64)
    tokens = tokens_of(4, 1, 6)
    torch.testing.assert_close(
        optimized(model)(tokens, cache), model(tokens, plain), atol=1e-4, rtol=1e-4
    )
    assert cache.heard == model.config.num_hidden_layers


def test_a_full_cache_is_refused_and_keeps_its_lengths(twins) -> None:
    model, fast = twins()
    cache = KVCache(model.config, 1, 8)
    fast(tokens_of(5, 1, 6), cache)
    with pytest.raises(ValueError, match="room for 8 tokens, 9"):
        fast(tokens_of(5, 1, 3), cache)
    assert list(cache.lengths) == [6]


@pytest.mark.parametrize(
    "other", [{"num_hidden_layers": 1}, {"num_key_value_heads": 1}, {"head_dim": 4}], ids=str
)
def test_a_cache_made_for_another_model_is_refused(other, twins) -> None:
    _, fast = twins()
    with pytest.raises(ValueError, match="not made for this model"):
        fast(tokens_of(6, 1, 3), KVCache(fp32(**other).config, 1, 16))


@pytest.mark.parametrize("name", available())
@pytest.mark.parametrize("bias", [False, True])
@torch.random.fork_rng()
def test_a_row_alone_equals_the_row_in_a_block(name, bias) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(96, 80, bias=bias).requires_grad_(False)
    kernel, rows = prepare(name, linear), torch.randn(1, 17, 96)
    block = kernel(rows)
    torch.testing.assert_close(block, linear(rows), atol=1e-5, rtol=1e-5)
    for r in range(17):
        torch.testing.assert_close(kernel(rows[:, r : r + 1])[:, 0], block[:, r])
    changed = rows.clone()
    changed[:, 5] = 1e6
    kept = [r for r in range(17) if r != 5]
    assert kernel(changed)[:, kept].equal(block[:, kept])


def test_extreme_values_stay_what_they_are(twins) -> None:
    """No sum saturates, and what is not finite stays so."""
    model, fast = twins(lambda model: model.embed.weight[3].mul_(1e8))
    ours, theirs = caches(model, 4)
    tokens = torch.tensor([[3, 1]])
    torch.testing.assert_close(fast(tokens, ours), model(tokens, theirs), atol=1e-4, rtol=1e-4)
    for bad in (float("nan"), float("inf")):
        with torch.no_grad():
            model.embed.weight[5] = bad
        ours.truncate([4])
        assert not fast(torch.tensor([[5]]), ours).isfinite().any()


def test_weights_are_shared_and_the_model_stays_as_it_is() -> None:
    model = fp32(tie_word_embeddings=True).requires_grad_(True)
    before = [(name, type(module)) for name, module in model.named_modules()]
    fast = optimized(model, "F.linear")
    assert [(name, type(module)) for name, module in model.named_modules()] == before
    assert fast.embed.weight.data_ptr() == model.embed.weight.data_ptr()
    assert all(weight.requires_grad for weight in model.parameters())
    assert not fast(tokens_of(0, 1, 3)).requires_grad


def test_a_twin_is_not_moved_not_even_in_part(twins) -> None:
    _, fast = twins()
    with pytest.raises(ValueError, match="move the model, then optimize it"):
        fast.double()
    assert {weight.dtype for weight in fast.parameters()} == {torch.float32}


def test_a_copy_of_a_twin_outlives_it(twins) -> None:
    model, fast = twins()
    tokens = tokens_of(11, 1, 3)
    expected = model(tokens, caches(model, 4)[0])
    ours, _ = caches(model, 4)
    copied = copy.deepcopy(fast)
    del model, fast
    gc.collect()
    torch.testing.assert_close(copied(tokens, ours), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("act", ["relu", "silu"])
@pytest.mark.parametrize("sizes", [{}, {"head_dim": 32}], ids=["by blocks", ONE_CALL])
def test_gates_far_below_zero_are_shut(act, sizes) -> None:
    model = fp32(hidden_act=act, **sizes)
    with torch.no_grad():
        for block in model.blocks:
            block.mlp.gate_up.weight[:20] *= 100
    ours, theirs = caches(model, 4)
    tokens = tokens_of(12, 1, 6)
    torch.testing.assert_close(
        optimized(model, ONE_CALL if sizes else None)(tokens, ours),
        model(tokens, theirs),
        atol=1e-3,
        rtol=1e-3,
    )


@pytest.mark.parametrize("part", ["mlp", "mlp.down", "attention.attend", "attention_norm"])
def test_hooks_of_the_model_work_in_its_twin(part) -> None:
    model = fp32()
    model.blocks[0].get_submodule(part).register_forward_hook(lambda module, x, y: -y)
    ours, theirs = caches(model, 4)
    tokens = tokens_of(13, 1, 3)
    torch.testing.assert_close(
        optimized(model)(tokens, ours), model(tokens, theirs), atol=1e-4, rtol=1e-4
    )


def test_another_default_dtype_changes_nothing(twins) -> None:
    model, _ = twins()
    ours, theirs = caches(model, 4)
    tokens = tokens_of(14, 1, 40)
    torch.set_default_dtype(torch.float64)
    try:
        _, fast = twins()
        found = fast(tokens, ours)
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(found, model(tokens, theirs), atol=1e-4, rtol=1e-4)


def test_a_cache_on_another_device_is_refused(twins) -> None:
    model, fast = twins()
    with pytest.raises(ValueError, match="not made for this model"):
        fast(tokens_of(15, 1, 3), KVCache(model.config, 1, 16, device="meta"))


def test_float64_needs_no_kernels() -> None:
    model = tiny(minillm)
    fast = optimized(model)
    assert not any(isinstance(x, (FastLinear, FusedBlock)) for x in fast.modules())
    assert fast(tokens_of(0, 1, 9)).equal(model(tokens_of(0, 1, 9)))


def test_another_device_needs_no_kernels() -> None:
    fast = optimized(fp32().to("meta"))
    assert not any(isinstance(x, (FastLinear, FusedBlock)) for x in fast.modules())


def test_a_torch_without_the_private_operators(monkeypatch) -> None:
    def gone(*args):
        raise AttributeError("no operator")

    monkeypatch.setitem(kernels._PREPARE, "oneDNN packed", gone)
    monkeypatch.setattr(kernels, "_packed", gone)
    assert available() == ["F.linear", "x @ W.T"]
    model = fp32()
    fast = optimized(model)
    names = {x.name for x in fast.modules() if isinstance(x, FastLinear)}
    assert names <= {"F.linear", "x @ W.T"}
    tokens = tokens_of(0, 1, 9)
    torch.testing.assert_close(fast(tokens), model(tokens), atol=1e-4, rtol=1e-4)
    with pytest.raises(
        ValueError, match=r"one of one call, F.linear, x @ W.T, got 'oneDNN packed'"
    ):
        optimized(model, "oneDNN packed")


@torch.random.fork_rng()
def test_a_race_names_a_kernel_for_each_matrix() -> None:
    names = race([nn.Linear(64, 96), nn.Linear(96, 64)])
    assert len(names) == 2
    assert set(names) <= set(available())


@pytest.mark.slow
def test_greedy_texts_of_the_shipped_model() -> None:
    model, tokenizer = load("stories")
    fast = optimized(model)
    prompts = openings(tokenizer, 20)

    def texts(which):
        return [
            [(row.tokens[0], row.logits[0]) for step in steps for row in step.rows]
            for steps in (decode_cached(which, [p], max_new_tokens=32) for p in prompts)
        ]

    theirs = [[token for token, _ in text] for text in texts(model)]
    assert "20 texts" in equal_tokens(texts(fast), theirs)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the compiler
def test_compiled_parts_compute_the_same() -> None:
    model = fp32()
    fast = optimized(model, compiled=True)
    ours, theirs = caches(model, 6)
    for T in (5, 1, 1, 3):
        tokens = tokens_of(T, 1, T)
        torch.testing.assert_close(fast(tokens, ours), model(tokens, theirs), atol=1e-4, rtol=1e-4)
