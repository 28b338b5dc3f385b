"""What must be true of every decoder: laws, rows, Steps and texts."""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch

from minillm.bench.greedy import equal_tokens
from minillm.data.heldout import openings
from minillm.fast.model import optimized
from oracles.models import ragged_prompts, tiny

__all__ = [
    "decoders_agree",
    "picks_inverse_cdf",
    "rows_alone",
    "same_texts_in_float32",
    "same_texts_in_float64",
    "step_invariants",
]

# Sampling and decoding


def picks_inverse_cdf(lib: ModuleType, seed: int = 0) -> None:
    """`pick` on all dyadic distributions of four tokens and all cells of u, their edges too."""
    pick = lib.sampling.pick
    n = 8
    counts = torch.cartesian_prod(*[torch.arange(n + 1)] * 4)
    counts = counts[counts.sum(1) == n]  # all ways to split n eighths among four tokens
    p = counts.double() / n
    cells = torch.arange(n, dtype=torch.float64) / n
    first = torch.tensor(
        [[t for t, c in enumerate(row) for _ in range(c)] for row in counts.tolist()]
    )
    for inside in (0.0, 0.5 / n, 1 / n - 2**-53):
        u = (cells + inside).expand(len(p), n)
        assert torch.equal(pick(p[:, None].expand(-1, n, -1), u), first)
    last = torch.full((len(p),), 1 - 2**-53, dtype=torch.float64)
    assert torch.equal(pick(p, last), first[:, -1])


def decoders_agree(lib: ModuleType, seed: int = 0, temperature: float = 1.0) -> None:
    """`decode_cached` commits the tokens of `decode_recomputed`, rows and stops ragged."""
    model, sampler = tiny(lib, seed=seed), lib.Sampler(temperature, top_k=20, top_p=0.95)
    runs = [
        lib.collect(
            decode(
                model,
                ragged_prompts(seed),
                max_new_tokens=60,
                sampler=sampler,
                generators=lib.generators(seed, 5),
                stop={3, 11},
            )
        )
        for decode in (lib.decode_recomputed, lib.decode_cached)
    ]
    assert runs[0] == runs[1]


def rows_alone(lib: ModuleType, seed: int = 0, temperature: float = 1.0) -> None:
    """A row of a ragged batch == the row alone: its tokens, and what its generator has left."""
    model, prompts = tiny(lib, seed=seed), ragged_prompts(seed)
    sampler = lib.Sampler(temperature)
    for decode in (lib.decode_recomputed, lib.decode_cached):
        together, apart = lib.generators(seed, 5), lib.generators(seed, 5)
        options = {"max_new_tokens": 25, "sampler": sampler, "stop": {3, 11, 17}}
        texts = lib.collect(decode(model, prompts, generators=together, **options))
        for b, prompt in enumerate(prompts):
            alone = decode(model, [prompt], generators=[apart[b]], **options)
            assert texts[b] == lib.collect(alone)[0]
            assert torch.equal(together[b].get_state(), apart[b].get_state())
        assert len({len(text) for text in texts}) > 1  # the rows did end at different times


def step_invariants(lib: ModuleType, seed: int = 0) -> None:
    """What every `Step` says of the cache, of the work, and of the ends of rows."""
    model, prompts = tiny(lib, seed=seed), ragged_prompts(seed)
    options = {"max_new_tokens": 20, "stop": {3, 11, 17}}
    for decode in (lib.decode_recomputed, lib.decode_cached):
        texts, ended = [list(prompt) for prompt in prompts], [False] * 5
        for forwards, step in enumerate(decode(model, prompts, **options), 1):
            assert not all(ended)
            lengths = [len(text) for text in texts]  # what the forward pass could read
            for b, row in enumerate(step.rows):
                assert len(row.tokens) == (0 if ended[b] else 1)
                assert row.logits.shape == (len(row.tokens), model.config.vocab_size)
                texts[b] += row.tokens
                ended[b] |= row.tokens[-1:] in ((3,), (11,), (17,))
                ended[b] |= len(texts[b]) == len(prompts[b]) + 20
                assert row.ended == ended[b]
            assert step.forwards == forwards
            assert step.seconds >= 0
            if decode is lib.decode_cached:
                assert step.cached == tuple(len(text) - 1 for text in texts)
                assert step.computed == (5 * max(lengths) if forwards == 1 else 5)
            else:
                assert step.cached == (0,) * 5
                assert step.computed == 5 * max(lengths)
        assert all(ended)


def same_texts_in_float64(
    lib: ModuleType, name: str, decoders: Sequence[Callable[..., Any]], count: int
) -> None:
    """On held-out openings a shipped model's texts are those of the plain loop."""
    model, tokenizer = lib.load(name, dtype=torch.float64)
    prompts = openings(tokenizer, count)
    for start in range(0, count, 20):
        rows = prompts[start : start + 20]
        plain = lib.collect(lib.decode_cached(model, rows, max_new_tokens=64))
        for decode in decoders:
            assert lib.collect(decode(model, rows, max_new_tokens=64)) == plain


def same_texts_in_float32(lib: ModuleType, decode: Callable[..., Any]) -> None:
    """The optimized target's texts are equal up to near ties."""
    model, tokenizer = lib.load("stories")
    fast, prompts = optimized(model), openings(tokenizer, 8)
    plain = [
        lib.collect(lib.decode_cached(fast, [prompt], max_new_tokens=32))[0] for prompt in prompts
    ]
    texts = [
        [
            pair
            for step in decode(fast, [prompt], max_new_tokens=32)
            for pair in zip(step.rows[0].tokens, step.rows[0].logits, strict=True)
        ]
        for prompt in prompts
    ]
    assert "8 texts" in equal_tokens(texts, plain)
