"""The exactness meter: does the trick change anything? Computed now, from the displayed code.

    naive = partial(decode_recomputed, model, max_new_tokens=48)
    fast = partial(decode_cached, model, max_new_tokens=48)
    meter(naive, fast, [prompt], cache_of=model)

Both runs decode the same prompts. Green is said only of what this run proved: tokens equal, logits
within the stated bound, the cache of the fast run equal to a fresh prefill of the text it stands
for. The cache is the decoder's own: a hook on `Attend` sees the keys and values that it attends to.
Compared outputs hold the verdict and the bound; the raw difference is in the live view only.

Dimensions: B batch rows, G key/value heads, S keys, D head dim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from minillm.attention import Attend
from minillm.decoding import Step
from minillm.kv_cache import KVCache
from minillm.transformer import Transformer
from widgets.common.card import Card
from widgets.common.exactness import Verdict, compare, largest, texts

__all__ = ["Verdict", "Watched", "compare", "compare_cache", "measure", "meter", "watch_cache"]

Decode = Callable[[Sequence[Sequence[int]]], Iterator[Step]]
Watched = dict[int, tuple[Tensor, Tensor]]  # the last keys and values of each layer, (B, G, S, D)


@contextmanager
def watch_cache(model: Transformer) -> Iterator[Watched]:
    """The keys and values that each layer attended to last, as the decoder's cache holds them.

    Nothing is copied: of a contiguous cache these are views, so they show rollbacks too.
    """
    seen: Watched = {}
    hooks = []
    for layer, attend in enumerate(m for m in model.modules() if isinstance(m, Attend)):

        def look(_module: Any, inputs: tuple[Any, ...], layer: int = layer) -> None:
            seen[layer] = inputs[1], inputs[2]

        hooks.append(attend.register_forward_pre_hook(look))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def compare_cache(
    model: Transformer, watched: Watched, texts: Sequence[Sequence[int]], cached: Sequence[int]
) -> float:
    """The largest difference between watched keys and values and a fresh prefill's.

    Args:
        model: computes the prefill.
        watched: what `watch_cache` has seen.
        texts: prompt and new tokens of each row.
        cached: how many tokens of each row the cache holds (`Step.cached`).
    """
    worst = 0.0
    for b, (text, length) in enumerate(zip(texts, cached, strict=True)):
        if length == 0:
            continue
        fresh = KVCache(model.config, 1, length, device=model.device, dtype=model.dtype)
        model.hidden(torch.tensor([text[:length]], device=model.device), fresh)
        for layer, (keys, values) in watched.items():
            for found, truth in ((keys, fresh.keys), (values, fresh.values)):
                gap = found[b, :, :length].double() - truth[layer, 0].double()
                worst = largest(worst, gap.abs())
    return worst


def meter(
    naive: Decode,
    fast: Decode,
    prompts: Sequence[Sequence[int]],
    *,
    cache_of: Transformer | None = None,
    bound: float | None = None,
) -> Card:
    """Run both on the same prompts and show the verdict.

    Args:
        naive: prompts to steps, such as a decoder with its model and settings bound by `partial`.
        fast: another decoder, or the same one on another model.
        prompts: the tokens of each row.
        cache_of: the model whose cache in the fast run is compared with a fresh prefill.
        bound: see `compare`.
    """
    return measure(naive, fast, prompts, cache_of=cache_of, bound=bound).note().card()


def measure(
    naive: Decode,
    fast: Decode,
    prompts: Sequence[Sequence[int]],
    *,
    cache_of: Transformer | None = None,
    bound: float | None = None,
) -> Verdict:
    """What `meter` shows, as data."""
    expected = list(naive(prompts))
    if cache_of is None:
        return compare(expected, fast(prompts), bound=bound)
    with watch_cache(cache_of) as watched:
        steps = list(fast(prompts))
    verdict = compare(expected, steps, bound=bound)
    whole = [[*prompt, *new] for prompt, (new, _) in zip(prompts, texts(steps), strict=False)]
    cached = steps[-1].cached if steps else ()
    worst = compare_cache(cache_of, watched, whole, cached)
    return replace(verdict, cache=worst, cached=sum(cached))
