"""What must be true of the library, as functions that assert it.

Each takes the library as an argument, so that the same check passes on `minillm` and, in
`test_mutations.py`, fails on a copy with a known bug planted in it. Models are tiny and random; in
float64, two ways to compute one thing agree to 1e-11.

Dimensions: B batch, T new tokens, S cached + new keys, V vocabulary.
"""

import random
from collections.abc import Sequence
from itertools import pairwise
from types import ModuleType

import pytest
import torch
from torch import Tensor

__all__ = [
    "TOLERANCE",
    "attend_by_hand",
    "chunked_prefill",
    "close",
    "decoders_agree",
    "interrupted_forward",
    "kept_rows",
    "one_by_one",
    "picks_inverse_cdf",
    "ragged_rows",
    "rows_alone",
    "stale_slots",
    "step_invariants",
    "tiny",
    "tiny_config",
    "tokens_of",
    "tree_of_guesses",
    "truncate_and_continue",
]

TOLERANCE = {torch.float64: 1e-11, torch.float32: 1e-5}


def tiny_config(lib: ModuleType, **sizes):
    """Four query heads on two key/value heads, two layers, a context of 64."""
    defaults = {
        "vocab_size": 31,
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 6,
        "intermediate_size": 20,
        "max_position_embeddings": 64,
    }
    return lib.ModelConfig(**(defaults | sizes))


def tiny(lib: ModuleType, *, seed: int = 0, dtype: torch.dtype = torch.float64, **sizes):
    """A random model whose next tokens vary: biases and norms are random too."""
    generator = torch.Generator().manual_seed(seed)
    model = lib.Transformer(tiny_config(lib, **sizes)).to(torch.float64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5, generator=generator)
    return model.to(dtype).eval().requires_grad_(False)


def tokens_of(seed: int, *shape: int, vocabulary: int = 31) -> Tensor:
    """Random tokens."""
    return torch.randint(vocabulary, shape, generator=torch.Generator().manual_seed(seed))


def close(a: Tensor, b: Tensor) -> bool:
    """Equal to rounding: 1e-11 in float64, 1e-5 in float32."""
    return a.shape == b.shape and bool((a - b).abs().max() < TOLERANCE[a.dtype])


def _prompts(seed: int) -> list[list[int]]:
    """Five prompts of different lengths, the shortest a single token."""
    return [tokens_of(seed + i, n).tolist() for i, n in enumerate((7, 1, 12, 4, 9))]


# Model and cache


def one_by_one(lib: ModuleType, seed: int = 0, dtype: torch.dtype = torch.float64) -> None:
    """Full forward == prefill, then one token at a time."""
    model, tokens = tiny(lib, seed=seed, dtype=dtype), tokens_of(seed, 2, 20)
    cache = lib.KVCache(model.config, 2, 20, dtype=dtype)
    parts = [model(tokens[:, :5], cache)]
    parts += [model(tokens[:, i : i + 1], cache) for i in range(5, 20)]
    assert close(torch.cat(parts, dim=1), model(tokens))
    assert cache.lengths.tolist() == [20, 20]


def chunked_prefill(lib: ModuleType, seed: int = 0, dtype: torch.dtype = torch.float64) -> None:
    """Full forward == any chunking of it: t new tokens over s cached ones align lower right."""
    model, tokens = tiny(lib, seed=seed, dtype=dtype), tokens_of(seed, 2, 30)
    cuts = [0, *sorted(random.Random(seed).sample(range(1, 30), 4)), 30]
    cache = lib.KVCache(model.config, 2, 30, dtype=dtype)
    parts = [model(tokens[:, start:end], cache) for start, end in pairwise(cuts)]
    assert close(torch.cat(parts, dim=1), model(tokens))


def _prefill(lib: ModuleType, model, prompts: Sequence[Sequence[int]], capacity: int = 40):
    """A cache with ragged prompts: right-padded, forwarded, truncated."""
    longest = max(map(len, prompts))
    padded = torch.tensor([[*prompt, *[0] * (longest - len(prompt))] for prompt in prompts])
    cache = lib.KVCache(model.config, len(prompts), capacity, dtype=model.dtype)
    logits = model(padded, cache)
    cache.truncate([len(prompt) for prompt in prompts])
    return cache, logits


def stale_slots(lib: ModuleType, seed: int = 0, T: int = 1) -> None:
    """What stands behind `lengths` changes no bit of any logit."""
    model, tokens = tiny(lib, seed=seed), tokens_of(seed, 5, T)
    clean, poisoned = (_prefill(lib, model, _prompts(seed))[0] for _ in range(2))
    for row, length in enumerate(poisoned.lengths.tolist()):
        poisoned.keys[:, row, :, length:] = 1e9
        poisoned.values[:, row, :, length:] = 1e9
    assert torch.equal(model(tokens, poisoned), model(tokens, clean))


def truncate_and_continue(lib: ModuleType, seed: int = 0) -> None:
    """Going back to k tokens and on with others == a fresh run of the text that results."""
    model, tokens = tiny(lib, seed=seed), tokens_of(seed, 1, 20)
    cache = lib.KVCache(model.config, 1, 20, dtype=torch.float64)
    model(tokens, cache)
    for k, T in ((11, 1), (11, 4), (3, 17), (0, 2)):
        cache.truncate([k])
        other = tokens_of(seed + 1, 1, T)
        text = torch.cat((tokens[:, :k], other), dim=1)
        assert close(model(other, cache), model(text)[:, k:])
        assert cache.lengths.tolist() == [k + T]
        tokens = text


def ragged_rows(lib: ModuleType, seed: int = 0) -> None:
    """Rows of different lengths in one cache == each row alone, as they grow and go back."""
    model, prompts = tiny(lib, seed=seed), _prompts(seed)
    cache, logits = _prefill(lib, model, prompts)
    texts = [list(prompt) for prompt in prompts]
    for b, text in enumerate(texts):
        assert close(logits[b, : len(text)], model(torch.tensor([text]))[0])
    for round_, T in enumerate((1, 3, 1, 5)):
        new = tokens_of(seed + round_, len(texts), T)
        logits = model(new, cache)
        for b, text in enumerate(texts):
            text += new[b].tolist()
            assert close(logits[b], model(torch.tensor([text]))[0, -T:])
            del text[len(text) - (b + round_) % (T + 1) :]
        cache.truncate([len(text) for text in texts])


def interrupted_forward(lib: ModuleType, seed: int = 0) -> None:
    """An exception in the last layer leaves the cache where it was."""
    model, tokens = tiny(lib, seed=seed), tokens_of(seed, 1, 9)
    cache = lib.KVCache(model.config, 1, 12, dtype=torch.float64)
    model(tokens[:, :5], cache)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    hook = model.blocks[-1].mlp.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        model(tokens_of(seed + 1, 1, 6), cache)
    hook.remove()
    assert cache.lengths.tolist() == [5]
    assert close(model(tokens[:, 5:], cache), model(tokens)[:, 5:])


def kept_rows(lib: ModuleType, seed: int = 0) -> None:
    """`keep` leaves the cache of a run that had forwarded only the tokens kept."""
    model, prompts = tiny(lib, seed=seed), _prompts(seed)[:3]
    kept, T = [[0, 2, 5], [], [1, 3]], 6
    start = torch.tensor([len(prompt) for prompt in prompts])[:, None]
    depth = torch.zeros(3, T, dtype=torch.int64)
    mask = torch.zeros(3, T, T, dtype=torch.bool)
    for b, path in enumerate(kept):  # kept tokens see the ones before; the others, themselves
        for d, i in enumerate(path):
            mask[b, i, path[: d + 1]] = True
            depth[b, i] = d
    mask |= torch.eye(T, dtype=torch.bool)
    new = tokens_of(seed, 3, T)
    cache, _ = _prefill(lib, model, prompts)
    model(new, cache, positions=start + depth, mask=mask)
    cache.keep(kept)
    texts = [[*p, *new[b, kept[b]].tolist()] for b, p in enumerate(prompts)]
    assert cache.lengths.tolist() == [len(text) for text in texts]
    for b, text in enumerate(texts):
        alone, _ = _prefill(lib, model, [text])
        n = len(text)
        assert close(cache.keys[:, b, :, :n], alone.keys[:, 0, :, :n])
        assert close(cache.values[:, b, :, :n], alone.values[:, 0, :, :n])
    after = tokens_of(seed + 1, 3, 2)
    logits = model(after, cache)
    for b, text in enumerate(texts):
        assert close(logits[b], model(torch.tensor([text + after[b].tolist()]))[0, -2:])


def tree_of_guesses(lib: ModuleType, seed: int = 0) -> None:
    """Branches of guesses in one forward == each branch forwarded in sequence."""
    parents = [None, 0, 1, 0, 3, 3, None, 6]
    paths: list[list[int]] = []
    for i, parent in enumerate(parents):
        paths.append([*([] if parent is None else paths[parent]), i])
    mask = torch.zeros(8, 8, dtype=torch.bool)
    for i, path in enumerate(paths):
        mask[i, path] = True
    depth = torch.tensor([len(path) - 1 for path in paths])
    model, prompts = tiny(lib, seed=seed), _prompts(seed)
    guesses = tokens_of(seed + 1, len(prompts), 8)
    for rows in ([0], [0, 1, 2, 3, 4], [2, 2]):  # a text alone, ragged rows, equal rows
        texts = [prompts[b] for b in rows]
        cache, _ = _prefill(lib, model, texts)
        start = torch.tensor([len(text) for text in texts])[:, None]
        for shape in (mask, mask.expand(len(rows), 8, 8)):
            logits = model(guesses[rows], cache, positions=start + depth, mask=shape)
            cache.truncate(start[:, 0].tolist())
            for b, text in enumerate(texts):
                for i, path in enumerate(paths):
                    branch = torch.tensor([text + guesses[rows[b], path].tolist()])
                    assert close(logits[b, i], model(branch)[0, -1])


def attend_by_hand(lib: ModuleType, seed: int = 0) -> None:
    """`Attend` and `attention_weights` == softmax attention head by head, token by token."""
    Attend, attention_weights = lib.attention.Attend, lib.attention.attention_weights
    generator = torch.Generator().manual_seed(seed)
    B, H, G, D = 2, 6, 2, 4
    for T, S, masked in ((5, 5, False), (1, 7, False), (3, 7, True), (1, 7, True)):
        q, k, v = (
            torch.randn(B, heads, n, D, generator=generator, dtype=torch.float64)
            for heads, n in ((H, T), (G, S), (G, S))
        )
        mask = torch.rand(B, 1, T, S, generator=generator) < 0.5 if masked else None
        if mask is not None:
            mask[..., 0] = True
        out, weights = Attend()(q, k, v, mask), attention_weights(q, k, mask)
        for b in range(B):
            for h in range(H):
                group = h // (H // G)  # the first H/G query heads share the first key/value head
                for t in range(T):
                    visible = torch.arange(S) <= S - T + t if mask is None else mask[b, 0, t]
                    scores = k[b, group] @ q[b, h, t] / D**0.5
                    expected = torch.where(visible, scores.exp(), 0.0)
                    expected /= expected.sum()
                    assert close(weights[b, h, t], expected)
                    assert close(out[b, h, t], expected @ v[b, group])


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
                _prompts(seed),
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
    model, prompts = tiny(lib, seed=seed), _prompts(seed)
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
    model, prompts = tiny(lib, seed=seed), _prompts(seed)
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
