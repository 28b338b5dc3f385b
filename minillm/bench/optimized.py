"""Bench rows of lesson 03: the fast twin against a peer and against the readable model."""

from collections.abc import Callable
from functools import partial
from itertools import product

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from tqdm import tqdm

from minillm.bench.greedy import BAR, CLOSE, greedy_texts
from minillm.bench.peer import peer
from minillm.bench.rows import CheckFailedError, Measured, row
from minillm.checkpoint import load
from minillm.data.heldout import stories
from minillm.decoding import collect, decode_cached
from minillm.fast.model import FastTransformer, kernel_names, optimized
from minillm.kv_cache import KVCache
from minillm.measure.machine import reading
from minillm.measure.timing import Pair, interleave
from minillm.tokens import encode
from minillm.transformer import Transformer

__all__ = [
    "against_plain",
    "against_transformers",
    "bandwidth",
    "prefill_against_transformers",
]

_PREFILL = 400
_PAIRS = 61
_STEPS = 8  # in one run: a step follows steps, as it does in decoding


@row("optimized/transformers", against="transformers' generate", any_model=True)
def against_transformers(name: str) -> Measured:
    """Greedy decoding of the fast twin against `generate` on the same folder."""
    model, tokenizer = load(name)
    with peer(name) as other:
        return greedy_texts(optimized(model), tokenizer, other.greedy)


@row("optimized/plain", against="the readable model, cached", any_model=True)
def against_plain(name: str) -> Measured:
    """Greedy decoding of the fast twin against the model it stands for."""
    model, tokenizer = load(name)

    def plain(prompt: list[int], count: int) -> list[int]:
        return collect(decode_cached(model, [prompt], max_new_tokens=count))[0]

    return greedy_texts(optimized(model), tokenizer, plain)


@row(
    "prefill/transformers", against=f"transformers' forward pass, {_PREFILL} tokens", any_model=True
)
def prefill_against_transformers(name: str) -> Measured:
    """Fill a cache with 400 tokens and score the next one; times are of all tokens together."""
    model, tokenizer = load(name)
    fast, text = optimized(model), _text(tokenizer, _PREFILL)

    def ours() -> Tensor:
        cache = KVCache(fast.config, 1, _PREFILL)
        return fast.head(fast.hidden(text, cache)[:, -1])

    with peer(name) as other:
        pairs = _interleaved(ours, partial(other.prefill, text))
    check = _close([(pair.ours, pair.theirs) for pair in pairs])
    seconds = [(pair.our_seconds, pair.their_seconds) for pair in pairs]
    return Measured(seconds, check, kernel_names(fast))


@row("roofline/bandwidth", against="reading as many bytes as the weights have", any_model=True)
def bandwidth(name: str) -> Measured:
    """The share of a decode step, 64 tokens cached, that reads weights; the rest is overhead.

    It is the bandwidth that the step attains, over that of a sum of as many bytes. Both run by
    themselves, each with its bytes in the caches.
    """
    model, tokenizer = load(name)
    fast = optimized(model)
    if isinstance(fast, FastTransformer):
        nbytes = fast.layers.nbytes
    else:
        nbytes = sum(x.weight.nbytes for x in model.modules() if isinstance(x, nn.Linear))
    read = reading(nbytes)
    step = _step(fast, tokenizer, cached=64, new=1)
    steps = [pair.our_seconds / _STEPS for pair in _interleaved(step, step)]
    reads = [pair.our_seconds for pair in _interleaved(read, read)]
    check = f"{nbytes:,} bytes read by both"
    unit = "share of the measured bandwidth"
    both = list(zip(steps, reads, strict=False))  # as many as time was for, of each
    return Measured(both, check, kernel_names(fast), unit)


def _block_against_one(block_size: int, cached: int, name: str) -> Measured:
    """The ratio is that of a token alone over the block: 1 would be free, 1/m no gain."""
    model, tokenizer = load(name)
    fast = optimized(model)
    one, block = (_step(fast, tokenizer, cached, new) for new in (1, block_size))
    pairs = _interleaved(block, one)
    plain = _step(model, tokenizer, cached, block_size)
    with torch.inference_mode():
        expected = plain()
    check = _close([(pair.ours, expected) for pair in pairs])
    check += "; " + _close([(pair.ours[:, :1], pair.theirs) for pair in pairs])
    seconds = [(pair.our_seconds / _STEPS, pair.their_seconds / _STEPS) for pair in pairs]
    return Measured(seconds, check, kernel_names(fast))


for _block_size, _cached in product((5, 8), (64, 400)):
    row(
        f"roofline/m{_block_size}@{_cached}", against=f"one token, {_cached} cached", any_model=True
    )(partial(_block_against_one, _block_size, _cached))


def _step(model: Transformer, tokenizer: Tokenizer, cached: int, new: int) -> Callable[[], Tensor]:
    """Eight forward passes over the same `new` tokens behind `cached` ones; the logits."""
    text, cache = _text(tokenizer, cached + new), KVCache(model.config, 1, cached + new)
    with torch.inference_mode():
        model.hidden(text, cache)

    def run() -> Tensor:
        for _ in range(_STEPS):
            cache.truncate([cached])
            logits = model(text[:, cached:], cache)
        return logits

    return run


def _text(tokenizer: Tokenizer, count: int) -> Tensor:
    """The first tokens of the held-out stories, (1, count)."""
    return torch.tensor([encode(tokenizer, "\n\n".join(stories()))[:count]])


@torch.inference_mode()
def _interleaved(
    ours: Callable[[], Tensor], theirs: Callable[[], Tensor]
) -> list[Pair[Tensor, Tensor]]:
    runs = interleave([(ours, theirs)] * _PAIRS)
    return list(tqdm(runs, total=_PAIRS, desc="forward", **BAR))


def _close(pairs: list[tuple[Tensor, Tensor]]) -> str:
    """Say that logits agree.

    Raises:
        CheckFailedError: they do not.
    """
    error = max(float((a - b).abs().max()) for a, b in pairs)
    if error >= CLOSE:
        raise CheckFailedError(f"logits differ by {error:.1e}")
    return f"logits within {CLOSE:.0e}"
