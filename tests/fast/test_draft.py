"""A step in one call computes what a pass does, and a draft of it guesses what the twin does."""

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
from minillm.fast.draft import Int8Draft, draft_of
from minillm.fast.model import ONE_CALL, optimized
from minillm.rotary import Rotary
from minillm.sampling import pick
from minillm.speculative.decode import decode_speculative
from minillm.speculative.drafters import DraftModel
from minillm.transformer import Transformer

SIZES: list[dict[str, Any]] = [
    {},
    {"num_hidden_layers": 1, "num_key_value_heads": 1, "hidden_act": "silu"},
    {"num_key_value_heads": 4, "head_dim": 64, "num_hidden_layers": 3},
    {"intermediate_size": 1, "hidden_size": 40},
    {"tie_word_embeddings": False},
]


def fp32(**sizes: Any) -> Transformer:
    defaults = {"hidden_act": "relu", "head_dim": 32}
    return tiny(minillm, dtype=torch.float32, **(defaults | sizes))


def shipped() -> Transformer:
    return minillm.load("stories-draft")[0]


@torch.inference_mode()
def agree(draft: Int8Draft, text: list[int]) -> None:
    """Token by token, logits and cache are those of the model in int8, bit for bit."""
    ours, theirs = (KVCache(draft.twin.config, 1, len(text)) for _ in range(2))
    for token in text:
        assert draft.step(token, ours).equal(draft.twin(torch.tensor([[token]]), theirs)[0, 0])
    assert list(ours.lengths) == [len(text)]
    assert ours.keys.equal(theirs.keys)
    assert ours.values.equal(theirs.values)


# A step


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_a_step_is_a_pass_of_one_token(sizes: dict[str, Any]) -> None:
    agree(Int8Draft(fp32(**sizes)), tokens_of(0, 40).tolist())


def test_a_step_of_the_shipped_draft_is_a_pass_of_one_token() -> None:
    agree(Int8Draft(shipped()), tokens_of(0, 150, vocabulary=2048).tolist())


def test_a_step_in_float32_is_the_models() -> None:
    model = fp32()
    fast = optimized(model, ONE_CALL)
    ours, theirs = (KVCache(model.config, 1, 30) for _ in range(2))
    for token in tokens_of(1, 30).tolist():
        logits = fast.layers.step(token, ours)
        expected = model(torch.tensor([[token]]), theirs)[0, 0]
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


def test_the_draft_is_rounded_and_the_model_stays_as_it_is() -> None:
    model = fp32()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    assert Int8Draft(model).twin.layers.dtype == torch.int8
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
    with pytest.raises(ValueError, match="a draft in one call is the library's own model"):
        Int8Draft(model)


@pytest.mark.parametrize(
    "model",
    [
        lambda: tiny(minillm, hidden_act="relu"),  # in float64
        lambda: fp32(hidden_act="gelu"),
        lambda: fp32(head_dim=6),
        lambda: fp32(qkv_bias=True, model_type="qwen2"),
        lambda: fp32(qk_norm=True, model_type="qwen3"),
        lambda: optimized(fp32()),
    ],
    ids=["float64", "gelu", "short heads", "biases", "norms of q and k", "optimized"],
)
def test_other_models_are_refused(model: Callable[[], Transformer]) -> None:
    with pytest.raises(ValueError, match="silu gate and no biases"):
        Int8Draft(model())


def test_another_default_device_changes_no_step() -> None:
    draft, text = Int8Draft(fp32()), [1, 2, 3]
    cache = KVCache(draft.twin.config, 1, 3)
    before = [draft.step(token, cache) for token in text]
    cache.truncate([0])
    torch.set_default_device("meta")
    try:
        after = [draft.step(token, cache) for token in text]
    finally:
        torch.set_default_device(None)
    assert all(map(torch.equal, before, after))


def test_a_cache_with_other_values_is_refused() -> None:
    draft = Int8Draft(fp32())
    step = draft.step
    cache = KVCache(draft.twin.config, 1, 9)
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
    draft = Int8Draft(fp32())
    step = draft.step
    held = KVCache(draft.twin.config, **{"batch": 1, "capacity": 4} | cache)
    with pytest.raises(ValueError, match=message):
        step(token, held)
    assert not any(held.lengths)


def test_a_full_cache_and_the_end_of_the_context() -> None:
    draft = Int8Draft(fp32(max_position_embeddings=3))
    step = draft.step
    full, long = (KVCache(draft.twin.config, 1, n) for n in (2, 9))
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
    naive = DraftModel(fast.twin)
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
            fresh = KVCache(fast.twin.config, 1, n)
            fast.twin.hidden(torch.tensor([text[:n]]), fresh)
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


def test_the_draft_of_a_model_is_the_shipped_one() -> None:
    draft = draft_of(minillm.load("stories", dtype=torch.float64)[0])
    assert (draft.name, draft.dtype) == ("stories-draft", torch.float64)
    assert draft.config == minillm.load("stories-draft")[0].config


def test_the_draft_of_another_model_is_itself_in_four_bits() -> None:
    model = tiny(minillm, hidden_size=32, intermediate_size=64, head_dim=32)
    model.name, before = "own", model.blocks[0].mlp.down.weight.clone()
    draft = draft_of(model)
    assert (draft.name, draft.config) == ("own in int4", model.config)
    for group in draft.blocks[0].mlp.down.weight.unflatten(1, (-1, 32)).flatten(0, 1):
        assert len(group.unique()) <= 16
    assert torch.equal(model.blocks[0].mlp.down.weight, before)
    assert not torch.equal(draft.blocks[0].mlp.down.weight, before)


@pytest.mark.parametrize("sampler", [GREEDY, Sampler()], ids=["greedy", "sampled"])
def test_a_draft_that_answers_nan(sampler: Sampler) -> None:
    target, draft = tiny(minillm), fp32()
    draft.norm.weight[0] = torch.nan
    with pytest.warns(UserWarning, match="draft's logits are not finite"):
        steps = list(
            decode_speculative(
                target, [[1, 2], [3]], drafter=Int8Draft(draft), max_new_tokens=4,
                sampler=sampler, generators=generators(0, 2),
            )
        )  # fmt: skip
    assert [step.rows[0].guesses for step in steps] == [()] * 4
    draft.blocks[0].mlp.gate_up.weight[3, 0] = torch.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        Int8Draft(draft)


def test_a_draft_of_another_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="share a vocabulary, they have 31 and 32"):
        Int8Draft(fp32(vocab_size=32)).start(oracles.tiny_config(minillm), 1, 9)
