"""Every decoder, cache and dtype on a card: `pytest -m cuda` where there is one.

Without a card the same tests run on the CPU, in the readable model, which shows that they can fail
but nothing of a card.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from oracles import tiny, tokens_of

import minillm
from minillm import Sampler
from minillm.decoding import collect, decode_cached, decode_recomputed, generators
from minillm.fast.model import optimized
from minillm.jacobi import decode_jacobi
from minillm.kv_cache import KVCache
from minillm.lookahead.decode import decode_lookahead
from minillm.measure.machine import measure_tokens
from minillm.speculative.decode import decode_speculative
from minillm.speculative.drafters import DraftModel, early_exit
from minillm.speculative.prompt_lookup import PromptLookup
from minillm.transformer import Transformer

PROMPTS = [[1, 2, 3, 1, 2], [4], [5, 6, 5]]
DTYPES = {torch.float32: 1e-3, torch.bfloat16: 0.6, torch.float16: 0.1}  # and what is a tie in them


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> str:
    """The card, which must be there where it is asked for."""
    if request.param == "cuda":
        assert torch.cuda.is_available(), "pytest -m cuda needs a card that torch sees"
    return request.param


def model(device: str, dtype: torch.dtype, seed: int = 0) -> Transformer:
    return tiny(minillm, dtype=dtype, hidden_act="relu", seed=seed).to(device)


def rows_of(steps: Iterator[Any]) -> list[list[tuple[int, torch.Tensor]]]:
    """The tokens of each row, with the logits they were picked from."""
    texts: list[list[tuple[int, torch.Tensor]]] = [[] for _ in PROMPTS]
    for step in steps:
        for text, row in zip(texts, step.rows, strict=True):
            text.extend(zip(row.tokens, row.logits.float().cpu(), strict=True))
    return texts


def equal_up_to_ties(ours: Any, theirs: Any, tie: float) -> None:
    """The same tokens, up to the first place of each row where two logits are as good as equal."""
    for text, other in zip(rows_of(ours), rows_of(theirs), strict=True):
        assert len(text) == len(other)
        for (token, logits), (expected, expected_logits) in zip(text, other, strict=True):
            if token != expected:
                best, second = logits.topk(2).values
                assert best - second < tie
                break
            torch.testing.assert_close(logits, expected_logits, atol=tie, rtol=tie)


DECODERS: dict[str, Callable[..., Any]] = {
    "recomputed": decode_recomputed,
    "jacobi": decode_jacobi,
    "lookahead": decode_lookahead,
    "prompt lookup": partial(decode_speculative, drafter=PromptLookup()),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("decode", DECODERS.values(), ids=DECODERS)
def test_every_decoder_writes_the_cached_loops_text(decode: Any, dtype: Any, device: str) -> None:
    target = model(device, dtype)
    more: Any = {"max_new_tokens": 12}
    ours, theirs = decode(target, PROMPTS, **more), decode_cached(target, PROMPTS, **more)
    equal_up_to_ties(ours, theirs, DTYPES[dtype])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("draft_on", ["cpu", "the device", "first layers"])
def test_a_draft_may_be_on_either_device(draft_on: str, dtype: Any, device: str) -> None:
    target = model(device, dtype)
    draft = model("cpu" if draft_on == "cpu" else device, dtype, seed=1)
    drafter = DraftModel(early_exit(target, 1) if draft_on == "first layers" else draft)
    more: Any = {"max_new_tokens": 12}
    ours = decode_speculative(target, PROMPTS, drafter=drafter, **more)
    equal_up_to_ties(ours, decode_cached(target, PROMPTS, **more), DTYPES[dtype])
    sampled = decode_speculative(
        target, PROMPTS, drafter=drafter, sampler=Sampler(), generators=generators(0, 3), **more
    )
    assert [len(text) for text in collect(sampled)] == [12, 12, 12]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_cache_is_appended_rolled_back_and_kept(dtype: Any, device: str) -> None:
    target, text = model(device, dtype), tokens_of(0, 1, 9).to(device)
    cache = KVCache(target.config, 1, 16, device=device, dtype=dtype)
    target(text[:, :6], cache)
    target(text[:, 6:], cache)
    cache.keep([[0, 2]])
    assert list(cache.lengths) == [8]
    cache.truncate([6])
    fresh = KVCache(target.config, 1, 16, device=device, dtype=dtype)
    target(text[:, :6], fresh)
    found, expected = target(text[:, 6:7], cache), target(text[:, 6:7], fresh)
    torch.testing.assert_close(found, expected, atol=DTYPES[dtype], rtol=DTYPES[dtype])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_optimized_model_is_the_model(dtype: Any, device: str) -> None:
    target, text = model(device, dtype), tokens_of(1, 2, 9).to(device)
    fast = optimized(target)
    assert fast.device == target.device
    torch.testing.assert_close(fast(text), target(text), atol=DTYPES[dtype], rtol=DTYPES[dtype])


def test_steps_take_the_time_that_passes(device: str) -> None:
    target = model(device, torch.float32)
    start = time.perf_counter()
    steps = list(decode_cached(target, PROMPTS, max_new_tokens=30))
    passed = time.perf_counter() - start
    assert 0 < sum(step.seconds for step in steps) <= passed
    assert all(seconds > 0 for seconds in measure_tokens(target, [1, 4], cached=8).values())
