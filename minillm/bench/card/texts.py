"""A card and the shipped models: does speculation pay in a batch, does a batch change a text?"""

from collections.abc import Iterator
from functools import partial

import torch

from minillm.checkpoint import load
from minillm.data.heldout import bench_prompts
from minillm.decoding import collect, decode_cached
from minillm.measure.timing import Comparison, compare, interleave
from minillm.speculative.decode import decode_speculative
from minillm.speculative.drafters import DraftModel
from minillm.tokens import encode
from minillm.transformer import Transformer

__all__ = ["batches", "guesses"]

_BATCHES = (1, 4, 16)
_CONTEXTS = (64, 320)  # tokens of a prompt
_GUESSES = 4
_NEW_TOKENS = 64
_ROUNDS = 9


def guesses(device: torch.device) -> Iterator[dict[str, float | None]]:
    """`stories` with its draft against the plain loop, by rows of the batch and their length."""
    target, drafter = _shipped("stories", device), DraftModel(_shipped("stories-draft", device))
    text = [token for prompt in _prompts() for token in prompt] * 9
    for length in _CONTEXTS:
        for B in _BATCHES:
            rows = [text[start : start + length] for start in range(B)]
            found = _against_plain(target, drafter, rows)
            yield {
                "texts": B,
                "context": length,
                "ratio": found.ratio,
                "low": found.low,
                "high": found.high,
                "speed": B * _NEW_TOKENS / found.our_seconds,
            }


def _against_plain(target: Transformer, drafter: DraftModel, rows: list[list[int]]) -> Comparison:
    def guess() -> list[list[int]]:
        guessing = decode_speculative(
            target, rows, drafter=drafter, gamma=_GUESSES, max_new_tokens=_NEW_TOKENS
        )
        return collect(guessing)

    pairs = interleave([(guess, partial(_greedy, target, rows))] * _ROUNDS)
    return compare([(pair.our_seconds, pair.their_seconds) for pair in pairs])


def batches(device: torch.device) -> Iterator[dict[str, int]]:
    """Greedy texts of `stories` in batches: how many differ from those written alone."""
    model, prompts = _shipped("stories", device), _prompts()[: max(_BATCHES)]
    alone = [text for prompt in prompts for text in _greedy(model, [prompt])]
    for B in _BATCHES:
        chunks = (prompts[start : start + B] for start in range(0, len(prompts), B))
        beside = [text for chunk in chunks for text in _greedy(model, chunk)]
        differing = sum(one != other for one, other in zip(alone, beside, strict=True))
        yield {"batch": B, "differing": differing, "texts": len(prompts)}


def _greedy(model: Transformer, prompts: list[list[int]]) -> list[list[int]]:
    return collect(decode_cached(model, prompts, max_new_tokens=_NEW_TOKENS))


def _shipped(name: str, device: torch.device) -> Transformer:
    return load(name)[0].to(device, torch.bfloat16)


def _prompts() -> list[list[int]]:
    tokenizer = load("stories")[1]
    return [encode(tokenizer, prompt) for prompt in bench_prompts()]
