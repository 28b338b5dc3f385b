"""transformers in a process of its own: it writes what we write, and waits as by default."""

import os

import pytest
import torch

from minillm import collect, decode_cached, load
from minillm.bench.peer import peer
from minillm.data.heldout import bench_prompts
from minillm.tokens import encode


@pytest.mark.slow
def test_the_peer_writes_our_text_and_its_threads_wait_as_by_default(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("GOMP_SPINCOUNT", "1000")
    model, tokenizer = load("stories")
    prompt = encode(tokenizer, bench_prompts()[0])
    [ours] = collect(decode_cached(model, [prompt], max_new_tokens=12))
    tokens = torch.tensor([prompt])
    with peer("stories", "stories-draft") as other:
        assert other.greedy(prompt, 12) == ours
        assert other.assisted(prompt, 12, gamma=3) == ours
        with torch.inference_mode():
            assert (other.prefill(tokens) - model(tokens)[:, -1]).abs().max() < 1e-4
        assert other._ask(os.getenv, "GOMP_SPINCOUNT") is None
    assert os.environ["GOMP_SPINCOUNT"] == "1000"
