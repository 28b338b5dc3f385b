"""Bench rows of lesson 10: the model in eight bits against the optimized one in float32.

An int8 model is another model: its texts may differ from those in float32, and what must agree is
the loss on held-out text, measured on the path that is timed. Guess and verify on top of it is
exact again: its texts are those of the int8 model's own plain loop.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor
from tqdm import tqdm

from minillm.bench.greedy import BAR, equal_tokens, scored
from minillm.bench.rows import CheckFailedError, Measured, row
from minillm.checkpoint import load
from minillm.data.heldout import bench_prompts, stories
from minillm.decoding import Step, decode_cached
from minillm.fast.int8_model import INT8, optimized_int8
from minillm.fast.model import kernel_names, optimized
from minillm.kv_cache import KVCache
from minillm.measure.timing import Pair, interleave
from minillm.quantization.model import QuantizedTransformer, quantize_model
from minillm.speculative.decode import decode_speculative
from minillm.speculative.drafters import DraftModel
from minillm.tokens import encode, encode_all
from minillm.transformer import Transformer

__all__ = ["both_rounded", "guess_and_verify", "weights_only"]

_NEW_TOKENS = 128
_GAMMA = 4
_BOUND = 0.002  # of the loss in float32, for weights alone
_AGAINST = "the optimized cached loop in float32"

Texts = Callable[[list[int]], list[Any]]


@row("quantization/int8", against=_AGAINST)
def weights_only() -> Measured:
    """Weights in int8 per channel, activations as numbers; greedy."""
    return _against_float32(round_activations=False, bound=_BOUND)


@row("quantization/w8a8", against=_AGAINST)
def both_rounded() -> Measured:
    """Weights and activations in int8; greedy."""
    return _against_float32(round_activations=True, bound=None)


@row("quantization/int8-speculative", against=_AGAINST)
def guess_and_verify() -> Measured:
    """Target and draft with weights and activations in int8; greedy, four guesses a round."""
    tokenizer = load("stories")[1]
    target, draft = (
        optimized_int8(quantize_model(load(name)[0], INT8), round_activations=True)
        for name in ("stories", "stories-draft")
    )

    def guess(prompt: list[int]) -> list[Any]:
        rounds = decode_speculative(
            target, [prompt], drafter=DraftModel(draft), gamma=_GAMMA, max_new_tokens=_NEW_TOKENS
        )
        return list(rounds)

    pairs = _interleaved(tokenizer, guess, partial(_plain, optimized(load("stories")[0])))
    equal = equal_tokens(
        [scored(pair.ours) for pair in pairs],
        [[token for token, _ in scored(_plain(target, prompt))] for prompt in _prompts(tokenizer)],
    )
    return _measured(pairs, f"as the int8 loop: {equal}; {_GAMMA} guesses a round", target)


def _against_float32(*, round_activations: bool, bound: float | None) -> Measured:
    """Greedy texts of an int8 twin; the loss may exceed that in float32 by the share `bound`."""
    model, tokenizer = load("stories")
    fast, quantized = optimized(model), _quantized()
    twin = optimized_int8(quantized, round_activations=round_activations)
    text = encode_all(tokenizer, stories())
    plain, ours = (_loss(x, text) for x in (fast, twin))
    if bound is not None and ours > plain * (1 + bound):
        raise CheckFailedError(f"loss {ours:.4f}, in float32 {plain:.4f}")
    pairs = _interleaved(tokenizer, partial(_plain, twin), partial(_plain, fast))
    stored = sum(parameter.nbytes for parameter in model.parameters())
    check = (
        f"held-out loss {ours / plain - 1:+.2%} ({plain:.4f} in float32); "
        f"{quantized.nbytes:,} bytes of weights, 1/{stored / quantized.nbytes:.2f}"
    )
    return _measured(pairs, check, twin)


@torch.no_grad()
def _loss(model: Transformer, tokens: Tensor) -> float:
    """Nats a token, on the path that is timed: one row at a time, read into a cache."""
    context, surprise = model.config.max_position_embeddings, 0.0
    for start in range(0, len(tokens) - 1, context):
        row = tokens[start : start + context + 1]
        logits = model(row[None, :-1], KVCache(model.config, 1, context))
        surprise += F.cross_entropy(logits[0], row[1:], reduction="sum").item()
    return surprise / (len(tokens) - 1)


@cache
def _quantized() -> QuantizedTransformer:
    return quantize_model(load("stories")[0], INT8)


def _prompts(tokenizer: Tokenizer) -> list[list[int]]:
    return [encode(tokenizer, prompt) for prompt in bench_prompts()]


def _plain(model: Transformer, prompt: list[int]) -> list[Step]:
    return list(decode_cached(model, [prompt], max_new_tokens=_NEW_TOKENS))


def _interleaved(tokenizer: Tokenizer, ours: Texts, theirs: Texts) -> list[Pair[Any, Any]]:
    runs = [(partial(ours, prompt), partial(theirs, prompt)) for prompt in _prompts(tokenizer)]
    return list(tqdm(interleave(runs), total=len(runs), desc="texts", **BAR))


def _measured(pairs: list[Pair[Any, Any]], check: str, twin: Transformer) -> Measured:
    seconds = [(p.our_seconds / _NEW_TOKENS, p.their_seconds / _NEW_TOKENS) for p in pairs]
    return Measured(seconds, check, kernel_names(twin))
