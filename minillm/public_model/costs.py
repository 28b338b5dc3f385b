"""Bytes and seconds: a token of the cache, recomputing, and the batch that is free no longer."""

from collections.abc import Callable

import torch

from minillm.kv_cache import KVCache, kv_bytes
from minillm.measure.machine import measure_tokens
from minillm.measure.noise import Measured
from minillm.measure.timing import interleave
from minillm.public_model.subject import Subject

__all__ = ["LENGTHS", "TOGETHER", "cache_bytes", "recomputed", "times_as_long", "together"]

LENGTHS = (32, 64, 128)  # tokens of a text
TOGETHER = (1, 2, 5, 8, 16, 30)  # tokens of a pass: 5 judge 4 guesses, 30 are a lookahead
_ROUNDS = 15


def cache_bytes(subject: Subject) -> dict[str, float]:
    """Bytes that a token takes in the cache, by the formula of lesson 02 and as they lie there."""
    config, dtype = subject.model.config, subject.model.dtype
    held = KVCache(config, batch=1, capacity=1, dtype=dtype).nbytes
    return {"formula": kv_bytes(config, 1, dtype), "held": held}


@torch.inference_mode()
def recomputed(subject: Subject) -> dict[int, Measured]:
    """How many times as long the last token of a text takes if all of the text is read again."""
    return {length: _recomputed(subject, length) for length in LENGTHS}


def _recomputed(subject: Subject, length: int) -> Measured:
    model, text = subject.fast, subject.texts[:1, :length]
    cache = KVCache(model.config, 1, length, dtype=model.dtype)
    model.hidden(text[:, :-1], cache)

    def behind_a_cache() -> None:
        model.head(model.hidden(text[:, -1:], cache))
        cache.truncate([length - 1])

    def all_again() -> None:
        model.head(model.hidden(text)[:, -1:])

    return times_as_long(behind_a_cache, all_again)


def times_as_long(ours: Callable[[], object], theirs: Callable[[], object]) -> Measured:
    """How many times as long theirs takes: the median of pairs in turn, and its interval."""
    pairs = interleave([(ours, theirs)] * _ROUNDS, warm_up=1)
    return Measured.of(pair.their_seconds / pair.our_seconds for pair in pairs)


def together(subject: Subject) -> dict[int, Measured]:
    """V(m) of lesson 03: the time of a pass over m tokens of a text, in passes over one."""
    seconds = measure_tokens(subject.fast, TOGETHER, cached=64, repeats=_ROUNDS)
    return {m: seconds[m] / seconds[1] for m in TOGETHER}
