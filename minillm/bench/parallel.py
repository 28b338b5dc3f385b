"""Bench rows of lessons 07 and 08: Jacobi and lookahead decoding against the plain loop.

The setting is chosen on the even prompts; every figure is of the odd ones. No text ends at a stop
token. Time and passes are two matters: a long pass may foresee much and still cost more than it
saves, so that each row has a grid of its own.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from statistics import mean
from typing import Any

from tqdm import tqdm

from minillm.bench.greedy import BAR, equal_tokens, scored
from minillm.bench.rows import Measured, row
from minillm.checkpoint import load
from minillm.data.heldout import bench_prompts
from minillm.decoding import Step, decode_cached
from minillm.fast.model import kernel_names, optimized
from minillm.jacobi import GUESSES, decode_jacobi
from minillm.lookahead.decode import decode_lookahead
from minillm.measure.repetition import distinct
from minillm.measure.timing import interleave
from minillm.tokens import encode
from minillm.transformer import Transformer

__all__ = ["jacobi", "lookahead", "passes"]

_NEW_TOKENS = 128
_FIRST = 64  # tokens of each text that a setting is chosen by
_REPEATS = 2  # runs of each prompt
_PASS = 1e-3  # seconds that stand for a forward pass where passes are counted

Texts = Callable[..., Iterator[Any]]
Settings = Mapping[str, Mapping[str, Any]]  # by the name that the row reports


def _blocks(*sizes: int) -> Settings:
    return {
        f"blocks of {size}, guess {name}": {"block": size, "guess": GUESSES[name]}
        for size in sizes
        for name in ("last token", "n-grams")
    }


def _windows(*settings: tuple[int, int, int]) -> Settings:
    return {f"W={W} N={N} G={G}": {"W": W, "N": N, "G": G} for W, N, G in settings}


@row("jacobi/greedy", against="the optimized cached loop")
def jacobi() -> Measured:
    """Jacobi decoding at temperature 0."""
    return _against_cached(decode_jacobi, _blocks(2, 4))


@row("lookahead/greedy", against="the optimized cached loop")
def lookahead() -> Measured:
    """Lookahead decoding at temperature 0, with the setting that is fastest here."""
    grid = _windows((1, 2, 2), (1, 3, 2), (3, 3, 2), (4, 3, 3), (2, 4, 2))
    return _against_cached(decode_lookahead, grid)


@row("lookahead/compression", against="one token a pass")
def passes() -> Measured:
    """Tokens that a forward pass of lookahead decoding commits, whatever the pass takes."""
    target, known, measured = _start()
    grid = _windows((7, 4, 7), (10, 5, 10))
    taken = {
        name: sum(len(_text(decode_lookahead, target, p, _FIRST, **setting)) for p in known)
        for name, setting in tqdm(grid.items(), desc="choosing", **BAR)
    }
    name = min(taken, key=taken.__getitem__)
    ours = [_text(decode_lookahead, target, p, _NEW_TOKENS, **grid[name]) for p in measured]
    plain = [_text(decode_cached, target, prompt, _NEW_TOKENS) for prompt in measured]
    seconds = [(_PASS * len(steps) / _NEW_TOKENS, _PASS) for steps in ours]
    unit = "tokens a forward pass; the times count a pass as 1 ms"
    return Measured(seconds, f"{_same(ours, plain)}; {name}", kernel_names(target), unit)


def _start() -> tuple[Transformer, list[list[int]], list[list[int]]]:
    """The model, the prompts to choose a setting with, and those to measure."""
    model, tokenizer = load("stories")
    prompts = [encode(tokenizer, prompt) for prompt in bench_prompts()]
    return optimized(model), prompts[::2], prompts[1::2]


def _text(
    decode: Texts, model: Transformer, prompt: list[int], count: int, **setting: Any
) -> list[Step]:
    """The steps in which `count` tokens are written."""
    return list(decode(model, [prompt], max_new_tokens=count, **setting))


def _against_cached(decode: Texts, grid: Settings) -> Measured:
    """Choose on one half of the prompts, measure on the other."""
    target, known, measured = _start()
    seconds = dict.fromkeys(grid, 0.0)
    for prompt in tqdm(known, desc="choosing", **BAR):
        for name, setting in grid.items():
            start = time.perf_counter()
            _text(decode, target, prompt, _FIRST, **setting)
            seconds[name] += time.perf_counter() - start
    name = min(seconds, key=seconds.__getitem__)
    runs = [
        (
            partial(_text, decode, target, prompt, _NEW_TOKENS, **grid[name]),
            partial(_text, decode_cached, target, prompt, _NEW_TOKENS),
        )
        for prompt in measured
        for _ in range(_REPEATS)
    ]
    pairs = list(tqdm(interleave(runs), total=len(runs), desc="texts", **BAR))
    times = [(p.our_seconds / _NEW_TOKENS, p.their_seconds / _NEW_TOKENS) for p in pairs]
    check = _same([pair.ours for pair in pairs], [pair.theirs for pair in pairs])
    return Measured(times, f"{check}; {name}", kernel_names(target))


def _same(ours: list[list[Step]], plain: list[list[Step]]) -> str:
    """What is equal in both runs, how many tokens a pass gave, how much the texts repeat."""
    texts, others = (list(map(scored, side)) for side in (ours, plain))
    equal = equal_tokens(texts, [[token for token, _ in text] for text in others])
    a_pass = sum(map(len, texts)) / sum(map(len, ours))
    share = mean(distinct([token for token, _ in text]) for text in texts)
    return f"{equal}; {a_pass:.2f} tokens a pass; {share:.0%} distinct 4-grams"
