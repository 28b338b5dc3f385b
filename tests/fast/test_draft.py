"""The megakernel computes what its twin computes, and a draft of it guesses what the twin does."""

from collections.abc import Callable
from typing import Any

import oracles
import pytest
import torch
from oracles import tiny, tokens_of
from torch import nn

import minillm
from minillm import GREEDY, KVCache, Sampler
from minillm.data.heldout import openings
from minillm.decoding import collect, decode_cached, generators
from minillm.fast.draft import Int8Draft
from minillm.fast.megakernel import Megakernel
from minillm.fast.model import optimized
from minillm.rotary import Rotary
from minillm.sampling import pick
from minillm.speculative.decode import decode_speculative
from minillm.speculative.drafters import DraftModel
from minillm.transformer import Transformer

SIZES: list[dict[str, Any]] = [
    {},
    {"num_hidden_layers": 1, "num_key_value_heads": 1},
    {"num_key_value_heads": 4, "head_dim": 2, "num_hidden_layers": 3},
    {"intermediate_size": 1, "hidden_size": 40},
    {"tie_word_embeddings": False},
]


def fp32(**sizes: Any) -> Transformer:
    return tiny(minillm, dtype=torch.float32, hidden_act="relu", **sizes)


def shipped() -> Transformer:
    return minillm.load("stories-draft")[0]


@torch.inference_mode()
def agree(step: Megakernel, text: list[int]) -> None:
    """Token by token, logits and cache are the twin's."""
    ours, theirs = (KVCache(step.config, 1, len(text)) for _ in range(2))
    for token in text:
        logits = step(token, ours)
        torch.testing.assert_close(
            logits, step.reference(torch.tensor([[token]]), theirs)[0, 0], atol=1e-4, rtol=1e-4
        )
    assert list(ours.lengths) == [len(text)]
    torch.testing.assert_close(ours.keys, theirs.keys, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours.values, theirs.values, atol=1e-4, rtol=1e-4)


# The megakernel


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_a_step_is_the_twins(sizes: dict[str, Any]) -> None:
    agree(Megakernel(fp32(**sizes)), tokens_of(0, 40).tolist())


def test_a_step_of_the_shipped_draft_is_the_twins() -> None:
    agree(Megakernel(shipped()), tokens_of(0, 150, vocabulary=2048).tolist())


@pytest.mark.parametrize("sign", [-1, 1], ids=["all shut", "all open"])
def test_gates_that_are_all_shut_or_all_open(sign: int) -> None:
    model = fp32()
    for block in model.blocks:
        F = model.config.intermediate_size
        block.mlp_norm.weight.abs_()
        block.mlp.gate_up.weight[:F] = 0
        block.mlp.gate_up.weight[:F, 0] = sign
        block.attention.out.weight[0] = 0  # what the gates read, the same sign at every token
    model.embed.weight[:, 0] = model.embed.weight[:, 0].abs() + 9
    for block in model.blocks:
        block.mlp.down.weight[0] = 0
    step = Megakernel(model)
    opened: list[bool] = []
    for block in step.reference.blocks:
        block.mlp.act.register_forward_hook(
            lambda _module, _inputs, gate: opened.extend((gate > 0).flatten().tolist())
        )
    agree(step, tokens_of(0, 5).tolist())
    assert set(opened) == {sign > 0}


def test_the_twin_is_the_model_with_its_matrices_rounded() -> None:
    """To at most 127 steps on either side of zero, as wide for each row, or column of `down`."""
    model = fp32()
    model.blocks[0].attention.out.weight[3] = 0
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    twin = Megakernel(model).reference
    for name, weight in twin.named_parameters():
        wanted = before[name]
        if weight.ndim == 1:
            assert torch.equal(weight, wanted)
            continue
        rows, wanted = (x.T if "down" in name else x for x in (weight, wanted))
        step = wanted.abs().amax(1, keepdim=True) / 127
        assert ((rows - wanted).abs() <= 0.501 * step).all()
        levels = rows / step.where(step > 0, 1)
        torch.testing.assert_close(levels, levels.round(), atol=1e-3, rtol=0)
        assert not torch.equal(rows, wanted)
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


def another_norm(model: Transformer) -> None:
    model.norm = type("Norm", (minillm.norm.RMSNorm,), {})(24, 1e-5)  # type: ignore


def another_eps(model: Transformer) -> None:
    model.blocks[1].mlp_norm.eps = 1e-3


@torch.random.fork_rng()
def a_bias_in_a_block(model: Transformer) -> None:
    model.blocks[0].attention.out = nn.Linear(24, 24)


@torch.random.fork_rng()
def a_bias_in_the_head(model: Transformer) -> None:
    model.head = nn.Linear(24, 31)


def a_hook_in_a_block(model: Transformer) -> None:
    model.blocks[0].mlp.register_forward_hook(lambda *_: None)


def a_hook_on_the_norm(model: Transformer) -> None:
    model.norm.register_forward_pre_hook(lambda *_: None)


def columns_first(model: Transformer) -> None:
    model.embed.weight = nn.Parameter(model.embed.weight.T.contiguous().T, requires_grad=False)


@torch.random.fork_rng()
def a_narrower_mlp(model: Transformer) -> None:
    model.blocks[0].mlp.down = nn.Linear(5, 24, bias=False)


def a_longer_rotary(model: Transformer) -> None:
    model.rotary = Rotary(oracles.tiny_config(minillm, max_position_embeddings=400))


@pytest.mark.parametrize(
    "change",
    [
        another_norm,
        another_eps,
        a_bias_in_a_block,
        a_bias_in_the_head,
        a_hook_in_a_block,
        a_hook_on_the_norm,
        columns_first,
        a_narrower_mlp,
        a_longer_rotary,
    ],
)
def test_a_changed_model_is_refused(change: Callable[[Transformer], None]) -> None:
    model = fp32()
    change(model)
    with pytest.raises(ValueError, match="a megakernel is made for the library's own model"):
        Int8Draft(model)


@pytest.mark.parametrize(
    "model",
    [
        lambda: tiny(minillm, hidden_act="relu"),  # in float64
        lambda: tiny(minillm, dtype=torch.float32, hidden_act="silu"),
        lambda: fp32(qkv_bias=True, model_type="qwen2"),
        lambda: fp32(qk_norm=True, model_type="qwen3"),
        lambda: optimized(fp32()),
    ],
    ids=["float64", "silu", "biases", "norms of q and k", "optimized"],
)
def test_other_models_are_refused(model: Callable[[], Transformer]) -> None:
    with pytest.raises(ValueError, match="relu gate and no biases"):
        Int8Draft(model())


def test_what_is_done_to_the_twin_or_the_default_device_changes_no_step() -> None:
    model, text = fp32(), [1, 2, 3]
    step = Megakernel(model)
    cache = KVCache(step.config, 1, 3)
    before = [step(token, cache) for token in text]
    step.reference.half()
    cache.truncate([0])
    torch.set_default_device("meta")
    try:
        after = [step(token, cache) for token in text]
    finally:
        torch.set_default_device(None)
    assert all(map(torch.equal, before, after))


def test_a_cache_with_other_values_is_refused() -> None:
    step = Megakernel(fp32())
    cache = KVCache(step.config, 1, 9)
    cache.values = cache.values[..., :1, :]
    with pytest.raises(ValueError, match="not made for this model"):
        step(0, cache)


@pytest.mark.parametrize(
    ("cache", "token", "message"),
    [
        ({"batch": 2}, 0, "not made for this model"),
        ({"dtype": torch.float64}, 0, "not made for this model"),
        ({}, -1, "token must be from 0 to 30, got -1"),
        ({}, 31, "token must be from 0 to 30, got 31"),
    ],
)
def test_what_would_be_read_out_of_bounds(cache: Any, token: int, message: str) -> None:
    step = Megakernel(fp32())
    held = KVCache(step.config, **{"batch": 1, "capacity": 4} | cache)
    with pytest.raises(ValueError, match=message):
        step(token, held)
    assert not any(held.lengths)


def test_a_full_cache_and_the_end_of_the_context() -> None:
    step = Megakernel(fp32(max_position_embeddings=3))
    full, long = KVCache(step.config, 1, 2), KVCache(step.config, 1, 9)
    for _ in range(2):
        step(0, full)
    with pytest.raises(ValueError, match="the cache has room for 2 tokens"):
        step(0, full)
    for _ in range(3):
        step(0, long)
    with pytest.raises(ValueError, match="position 3 is beyond"):
        step(0, long)


# The draft


@pytest.mark.parametrize("sampler", [GREEDY, Sampler(), Sampler(0.7, top_k=5, top_p=0.9)], ids=str)
@torch.inference_mode()
def test_guesses_and_their_laws_are_the_naive_drafters(sampler: Sampler) -> None:
    """Round after round, of rows that keep different parts of their guesses."""
    model = fp32()
    fast = Int8Draft(model)
    naive = DraftModel(fast.step.reference)
    texts = [[1, 2, 3, 4, 5, 6, 7], [4], [5, 6]]
    ours, theirs = (drafter.start(model.config, 3, 50) for drafter in (fast, naive))
    uniform = torch.Generator().manual_seed(0)
    for kept in range(4):
        counts = [3, kept, 4 - kept]
        u = [torch.rand(n, generator=uniform, dtype=torch.float64) for n in counts]
        pairs = zip(
            ours.propose(texts, counts, sampler, u),
            theirs.propose(texts, counts, sampler, u),
            strict=True,
        )
        for text, numbers, (one, other) in zip(texts, u, pairs, strict=True):
            assert one.guesses == other.guesses
            assert one.q.dtype == torch.float64
            torch.testing.assert_close(one.q, other.q, atol=1e-4, rtol=0)
            for q, guess, number in zip(one.q, one.guesses, numbers, strict=True):
                assert guess == (q.argmax() if sampler == GREEDY else pick(q, number))
            text += [*one.guesses[:kept], 30 - kept]
        for drafting in (ours, theirs):
            drafting.settle(texts)


@torch.inference_mode()
def test_the_cache_equals_a_fresh_prefill_after_every_round() -> None:
    fast = Int8Draft(fp32())
    started: list[Any] = []
    begin = fast._begin
    fast._begin = lambda *sizes: started.append(begin(*sizes)) or started[0]  # type: ignore
    texts = [[1, 2, 3, 4, 5, 6], [7]]
    rounds = decode_speculative(
        fp32(seed=1), texts, drafter=fast, max_new_tokens=20, sampler=Sampler(),
        generators=generators(0, 2),
    )  # fmt: skip
    seen = set()
    for step in rounds:
        for text, row, held in zip(texts, step.rows, started[0].caches, strict=True):
            text += row.tokens
            [n] = held.lengths
            seen.add(len(text) - n)
            fresh = KVCache(fast.step.config, 1, n)
            fast.step.reference.hidden(torch.tensor([text[:n]]), fresh)
            for ours, theirs in ((held.keys, fresh.keys), (held.values, fresh.values)):
                torch.testing.assert_close(ours[..., :n, :], theirs, atol=1e-4, rtol=1e-4)
    assert {1, 2} <= seen  # the token drawn last, and the guess before it if all were kept


@pytest.mark.parametrize("gamma", [1, 3, 8])
def test_greedy_equals_plain_greedy(gamma: int) -> None:
    target, draft = tiny(minillm), fp32(seed=1)
    prompts = [[1, 2, 3, 4, 5, 6, 7, 8], [9], [3, 3]]
    options: Any = {"max_new_tokens": 40, "stop": (5,)}
    ours = decode_speculative(target, prompts, drafter=Int8Draft(draft), gamma=gamma, **options)
    assert collect(ours) == collect(decode_cached(target, prompts, **options))


@pytest.mark.slow
def test_greedy_texts_of_the_shipped_pair() -> None:
    target, tokenizer = minillm.load("stories", dtype=torch.float64)
    drafter, accepted = Int8Draft(shipped()), 0
    for prompt in openings(tokenizer)[:10]:
        options: Any = {"max_new_tokens": 40}
        rounds = list(decode_speculative(target, [prompt], drafter=drafter, **options))
        plain = collect(decode_cached(target, [prompt], **options))
        assert collect(iter(rounds)) == plain
        accepted += sum(step.rows[0].accepted for step in rounds)
    assert accepted > 200  # of 400 tokens


@pytest.mark.parametrize("sampler", [GREEDY, Sampler()], ids=["greedy", "sampled"])
@pytest.mark.parametrize("where", ["the last norm", "a gate"])
def test_a_draft_that_answers_nan(where: str, sampler: Sampler) -> None:
    target, draft = tiny(minillm), fp32()
    norm, gate = draft.norm.weight, draft.blocks[0].mlp.gate_up.weight[3]
    (norm if where == "the last norm" else gate)[0] = torch.nan
    with pytest.warns(UserWarning, match="draft's logits are not finite"):
        steps = list(
            decode_speculative(
                target, [[1, 2], [3]], drafter=Int8Draft(draft), max_new_tokens=4,
                sampler=sampler, generators=generators(0, 2),
            )
        )  # fmt: skip
    assert [step.rows[0].guesses for step in steps] == [()] * 4


def test_a_draft_of_another_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="share a vocabulary, they have 31 and 32"):
        Int8Draft(fp32(vocab_size=32)).start(oracles.tiny_config(minillm), 1, 9)
