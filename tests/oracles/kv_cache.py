"""What must be true of a cache: every way to fill it, roll it back and share it gives the same.

Dimensions: B batch, T new tokens, S cached + new keys.
"""

import random
from collections.abc import Sequence
from itertools import pairwise
from types import ModuleType

import pytest
import torch

from oracles.models import close, ragged_prompts, tiny, tokens_of

__all__ = [
    "chunked_prefill",
    "interrupted_forward",
    "kept_rows",
    "one_by_one",
    "prefilled",
    "ragged_rows",
    "stale_slots",
    "tree_of_guesses",
    "truncate_and_continue",
]

# Model and cache


def one_by_one(lib: ModuleType, seed: int = 0, dtype: torch.dtype = torch.float64) -> None:
    """Full forward == prefill, then one token at a time."""
    model, tokens = tiny(lib, seed=seed, dtype=dtype), tokens_of(seed, 2, 20)
    cache = lib.KVCache(model.config, 2, 20, dtype=dtype)
    parts = [model(tokens[:, :5], cache)]
    parts += [model(tokens[:, i : i + 1], cache) for i in range(5, 20)]
    assert close(torch.cat(parts, dim=1), model(tokens))
    assert list(cache.lengths) == [20, 20]


def chunked_prefill(lib: ModuleType, seed: int = 0, dtype: torch.dtype = torch.float64) -> None:
    """Full forward == any chunking of it: t new tokens over s cached ones align lower right."""
    model, tokens = tiny(lib, seed=seed, dtype=dtype), tokens_of(seed, 2, 30)
    cuts = [0, *sorted(random.Random(seed).sample(range(1, 30), 4)), 30]
    cache = lib.KVCache(model.config, 2, 30, dtype=dtype)
    parts = [model(tokens[:, start:end], cache) for start, end in pairwise(cuts)]
    assert close(torch.cat(parts, dim=1), model(tokens))


def prefilled(lib: ModuleType, model, prompts: Sequence[Sequence[int]], capacity: int = 40):
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
    clean, poisoned = (prefilled(lib, model, ragged_prompts(seed))[0] for _ in range(2))
    for row, length in enumerate(list(poisoned.lengths)):
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
        assert list(cache.lengths) == [k + T]
        tokens = text


def ragged_rows(lib: ModuleType, seed: int = 0) -> None:
    """Rows of different lengths in one cache == each row alone, as they grow and go back."""
    model, prompts = tiny(lib, seed=seed), ragged_prompts(seed)
    cache, logits = prefilled(lib, model, prompts)
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
    assert list(cache.lengths) == [5]
    assert close(model(tokens[:, 5:], cache), model(tokens)[:, 5:])


def kept_rows(lib: ModuleType, seed: int = 0) -> None:
    """`keep` leaves the cache of a run that had forwarded only the tokens kept."""
    model, prompts = tiny(lib, seed=seed), ragged_prompts(seed)[:3]
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
    cache, _ = prefilled(lib, model, prompts)
    model(new, cache, positions=start + depth, mask=mask)
    cache.keep(kept)
    texts = [[*p, *new[b, kept[b]].tolist()] for b, p in enumerate(prompts)]
    assert list(cache.lengths) == [len(text) for text in texts]
    for b, text in enumerate(texts):
        alone, _ = prefilled(lib, model, [text])
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
    model, prompts = tiny(lib, seed=seed), ragged_prompts(seed)
    guesses = tokens_of(seed + 1, len(prompts), 8)
    for rows in ([0], [0, 1, 2, 3, 4], [2, 2]):  # a text alone, ragged rows, equal rows
        texts = [prompts[b] for b in rows]
        cache, _ = prefilled(lib, model, texts)
        start = torch.tensor([len(text) for text in texts])[:, None]
        for shape in (mask, mask.expand(len(rows), 8, 8)):
            logits = model(guesses[rows], cache, positions=start + depth, mask=shape)
            cache.truncate(start[:, 0].tolist())
            for b, text in enumerate(texts):
                for i, path in enumerate(paths):
                    branch = torch.tensor([text + guesses[rows[b], path].tolist()])
                    assert close(logits[b, i], model(branch)[0, -1])
