"""Bench rows of lessons 01 and 02: what the cache saves, and the plain loop against a peer."""

import torch
from torch import Tensor
from tqdm import tqdm

from minillm.bench.greedy import BAR, CLOSE, greedy_texts
from minillm.bench.peer import peer
from minillm.bench.rows import CheckFailedError, Measured, row
from minillm.checkpoint import load
from minillm.data.heldout import stories
from minillm.fast.model import kernel_names
from minillm.kv_cache import KVCache
from minillm.measure.timing import interleave
from minillm.tokens import encode

__all__ = ["against_transformers", "cached_step"]

_CACHED = 500
_STEPS = 8  # in one run: a step follows steps, as it does in decoding


@row(f"kv_cache/step@{_CACHED}", against=f"recomputing {_CACHED + 1} tokens", any_model=True)
def cached_step(name: str) -> Measured:
    """One more token with 500 cached, against a pass over all 501; both score the next one."""
    model, tokenizer = load(name)
    text = torch.tensor([encode(tokenizer, "\n\n".join(stories()))[: _CACHED + 1]])
    cache = KVCache(model.config, 1, _CACHED + 1)

    def step() -> Tensor:
        for _ in range(_STEPS):
            cache.truncate([_CACHED])
            logits = model.head(model.hidden(text[:, _CACHED:], cache)[:, -1])
        return logits

    def recompute() -> Tensor:
        return model.head(model.hidden(text)[:, -1])

    with torch.inference_mode():
        model.hidden(text, cache)
        pairs = list(tqdm(interleave([(step, recompute)] * 31), total=31, desc="step", **BAR))
    error = max(float((pair.ours - pair.theirs).abs().max()) for pair in pairs)
    if error >= CLOSE or any(not pair.ours.argmax().equal(pair.theirs.argmax()) for pair in pairs):
        raise CheckFailedError(f"logits differ by {error:.1e}")
    return Measured(
        [(pair.our_seconds / _STEPS, pair.their_seconds) for pair in pairs],
        check=f"same next token, logits within {CLOSE:.0e}",
        kernel=kernel_names(model),
    )


@row("decoding/transformers", against="transformers' generate", any_model=True)
def against_transformers(name: str) -> Measured:
    """Greedy tokens of `decode_cached` against those of `generate`; neither stops at an end."""
    model, tokenizer = load(name)
    with peer(name) as other:
        return greedy_texts(model, tokenizer, other.greedy)
