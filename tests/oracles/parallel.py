"""What Jacobi and lookahead decoding share: texts, caches, runs by hand and laws."""

from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from itertools import product
from types import ModuleType
from unittest.mock import patch

import torch
from torch import Tensor

from minillm.speculative.exactness import text_law, toy_target
from oracles.jacobi import chooser, jacobi_by_hand
from oracles.kv_cache import prefilled
from oracles.lookahead import Overhearing, Summing, lookahead_by_hand
from oracles.models import close, counted, ragged_prompts, tiny, tokens_of

__all__ = [
    "parallel_agrees",
    "parallel_by_hand",
    "parallel_caches",
    "parallel_decoders",
    "parallel_law",
]


def parallel_decoders(lib: ModuleType) -> list[Callable[..., Iterator]]:
    """Jacobi and lookahead decoding at some settings, small and large."""
    jacobi, guesses = lib.jacobi.decode_jacobi, lib.jacobi.GUESSES
    blocks = zip((1, 2, 5, 16), guesses.values(), strict=True)
    looks = ((1, 2, 1), (3, 2, 4), (2, 3, 2), (5, 4, 5), (1, 6, 3))
    return [
        *(partial(jacobi, block=block, guess=guess) for block, guess in blocks),
        *(partial(lib.lookahead.decode.decode_lookahead, W=W, N=N, G=G) for W, N, G in looks),
    ]


def parallel_agrees(
    lib: ModuleType, seed: int = 0, decode=None, sampler=None, prompts=None, budget: int = 40
) -> None:
    """The tokens of `decode_cached`, the logits they were picked from, and no pass in vain."""
    prompts, sampler = (
        prompts or ragged_prompts(seed),
        sampler or lib.Sampler(0.8, top_k=20, top_p=0.95),
    )
    rows = len(prompts)
    for run in [decode] if decode else parallel_decoders(lib):
        model = Overhearing(tiny(lib, seed=seed))
        options = {"max_new_tokens": budget, "sampler": sampler, "stop": {3, 11}}
        plain, steps = (
            list(which(of, prompts, generators=lib.generators(seed, rows), **options))
            for which, of in ((lib.decode_cached, model.model), (run, model))
        )
        assert lib.collect(iter(steps)) == lib.collect(iter(plain))
        assert model.passes == len(steps) <= len(plain)
        lengths, ended = [len(prompt) for prompt in prompts], [False] * rows
        for forwards, (step, (_, tokens)) in enumerate(zip(steps, model.heard, strict=True), 1):
            assert step.forwards == forwards
            assert step.computed == tokens.numel()
            assert [not row.tokens for row in step.rows] == ended  # at least one token a pass
            lengths = [n + len(row.tokens) for n, row in zip(lengths, step.rows, strict=True)]
            ended = [row.ended for row in step.rows]
            assert step.cached == tuple(n - 1 for n in lengths)
            assert step.seconds >= 0
        assert all(ended)
        for b in range(rows):
            picked, wanted = (
                torch.cat([step.rows[b].logits for step in those]) for those in (steps, plain)
            )
            assert close(picked, wanted)


def parallel_caches(lib: ModuleType, seed: int = 0, decode=None) -> None:
    """After every pass the cache holds what a fresh prefill of the text would."""
    for run in [decode] if decode else parallel_decoders(lib):
        model = Overhearing(tiny(lib, seed=seed))
        texts = [list(prompt) for prompt in ragged_prompts(seed)[:3]]
        for step in run(model, texts, max_new_tokens=12, stop={3}):
            assert list(model.cache.lengths) == [
                len(t) + len(r.tokens) - 1 for t, r in zip(texts, step.rows, strict=True)
            ]
            for b, (text, row) in enumerate(zip(texts, step.rows, strict=True)):
                text += row.tokens
                n = len(text) - 1
                if n:
                    fresh, _ = prefilled(lib, model.model, [text[:n]])
                    for part in ("keys", "values"):
                        cached = getattr(model.cache, part)[:, b, :, :n]
                        assert close(cached, getattr(fresh, part)[:, 0, :, :n])


def parallel_by_hand(
    lib: ModuleType, seed: int = 0, jacobi=((1, 0), (4, 2), (9, 3)), look=((3, 2, 2), (4, 4, 3))
) -> None:
    """Every pass of ragged rows == that of the naive references, row by row."""
    prompts = [tokens_of(seed + i, n).tolist() for i, n in enumerate((9, 1, 26))]
    prompts[2] = prompts[2][:13] * 2
    budget, stop = 14, (3, 11)
    for sampler in (lib.GREEDY, lib.Sampler(0.9)):
        model = tiny(lib, seed=seed, vocab_size=31)

        def references(start: int, b: int, sampler=sampler, model=model):
            choose = chooser(lib, model, sampler, lib.generators(seed, 3)[b], start)
            return choose, chooser(lib, model, lib.GREEDY, lib.generators(seed, 3)[b], start)

        def run(decode, sampler=sampler, model=model, **setting):
            options = {"max_new_tokens": budget, "stop": stop, "sampler": sampler}
            seeds = lib.generators(seed, 3)
            steps = list(decode(model, prompts, generators=seeds, **options, **setting))
            return [[s.rows[b] for s in steps if s.rows[b].tokens] for b in range(3)]

        for block, index in jacobi:
            guess = list(lib.jacobi.GUESSES.values())[index]
            rows = run(lib.jacobi.decode_jacobi, block=block, guess=guess)
            for b, prompt in enumerate(prompts):
                choose, _ = references(len(prompt), b)
                limit = len(prompt) + budget
                wanted = list(jacobi_by_hand(choose, prompt, block, guess, limit, stop))
                assert [[*map(list, (r.before, r.after, r.tokens))] for r in rows[b]] == [
                    list(iterate) for iterate in wanted
                ]
        for W, N, G in look:
            rows = run(lib.lookahead.decode.decode_lookahead, W=W, N=N, G=G)
            for b, prompt in enumerate(prompts):
                first = lib.jacobi.random_tokens(prompt, W + N - 3, 31)
                wanted = lookahead_by_hand(
                    *references(len(prompt), b), prompt, W, N, G, first, len(prompt) + budget, stop
                )
                for row, (lines, chosen, *rest) in zip(rows[b], wanted, strict=True):
                    assert [list(line) for line in row.window] == lines
                    assert list(row.chosen) == chosen
                    assert [[*row.guesses], row.best, row.accepted, [*row.tokens]] == rest


def parallel_law(lib: ModuleType, size: int = 4, decode=None) -> None:
    """The law of what is sampled == the target's, over all cells of all uniforms.

    A row of one batch for each cell; all begin with the same guesses.
    """
    script = [list(u) for u in product((0.125, 0.375, 0.625, 0.875), repeat=size)]
    model, wanted = Summing(lib, counted(toy_target)), text_law(toy_target, size)
    for run in [decode] if decode else parallel_decoders(lib):
        left = [list(u) for u in script]

        def uniforms(batch, b: int, count: int, left=left) -> Tensor:
            numbers, left[b] = left[b][:count], left[b][count:]
            return torch.tensor(numbers, dtype=torch.float64)

        with patch.object(lib.batch.Batch, "uniforms", uniforms):
            texts = lib.collect(
                run(
                    model,
                    [[0, 1, 2, 0, 1, 2, 0]] * len(left),
                    max_new_tokens=size,
                    sampler=lib.Sampler(),
                    generators=lib.generators(0, 1) * len(left),
                )
            )
        counts = Counter(map(tuple, texts))
        assert {text: Fraction(n, len(left)) for text, n in counts.items()} == wanted
