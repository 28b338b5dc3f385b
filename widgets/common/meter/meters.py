"""The exactness meter: does the trick change anything? Computed now, from the displayed code.

    naive = partial(decode_recomputed, model, max_new_tokens=48)
    fast = partial(decode_cached, model, max_new_tokens=48)
    meter(naive, fast, [prompt], cache_of=model)

Both runs decode the same prompts. Green is said only of what was compared on this run: tokens
identical, logits within the stated bound, the cache of the fast run equal to a fresh prefill of
the text it stands for. The cache is the decoder's own: a hook sees it at every block, readable or
fused. A model that no hook saw run is refused, not called equal. Compared outputs hold the verdict
and the bound; the raw difference is in the live view only.

Dimensions: L layers, B batch rows, G key/value heads, S keys, D head dim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from minillm.attention import Attend
from minillm.decoding import Step
from minillm.kv_cache import KVCache
from minillm.transformer import Transformer
from widgets.common.card import Card
from widgets.common.meter.exactness import Verdict, compare, largest, texts

__all__ = ["Verdict", "Watched", "compare", "compare_cache", "measure", "meter", "watch"]

Decode = Callable[[Sequence[Sequence[int]]], Iterator[Step]]
Watched = dict[int, tuple[Any, ...]]  # what each module was last given, by its place among them


@contextmanager
def watch(modules: Iterable[nn.Module]) -> Iterator[Watched]:
    """The newest inputs of each module: of a block its decoder's cache, of `Attend` q, k and v."""
    seen: Watched = {}

    def look(place: int, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen[place] = inputs

    hooks = [m.register_forward_pre_hook(partial(look, i)) for i, m in enumerate(modules)]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def cache_seen(model: Transformer, watched: Watched) -> KVCache | None:
    """The one cache that all layers of a watched model were run with; None if with none.

    Args:
        model: whose blocks were watched.
        watched: what `watch` has seen of them.

    Raises:
        ValueError: a layer that was not run, or layers that were run with different caches.
    """
    layers = len(model.blocks)
    if len(watched) < layers:
        raise ValueError(
            f"cache_of must be the model that runs: {len(watched)} of its {layers} layers were "
            "seen, so nothing can be said of the cache (a copy is another model)"
        )
    caches = {id(cache): cache for _, _, _, cache in watched.values()}
    if len(caches) > 1:
        raise ValueError(f"the layers were run with {len(caches)} different caches, not with one")
    [cache] = caches.values()
    return cache


@torch.no_grad()
def compare_cache(
    model: Transformer,
    cache: KVCache | None,
    texts: Sequence[Sequence[int]],
    cached: Sequence[int],
) -> float:
    """The largest difference between cached keys and values and those of a fresh prefill.

    The prefill knows no cache: it takes keys and values where attention does. Infinity if the cache
    does not hold the tokens that it should.

    Args:
        model: computes the prefill.
        cache: what a decoder has left.
        texts: prompt and new tokens of each row.
        cached: how many tokens of each row the cache should hold (`Step.cached`).
    """
    if cache is None:
        return float("inf") if any(cached) else 0.0
    if list(cache.lengths) != list(cached):
        return float("inf")
    attends = [module for module in model.modules() if isinstance(module, Attend)]
    worst = 0.0
    for b, (text, length) in enumerate(zip(texts, cached, strict=True)):
        if length == 0:
            continue
        with watch(attends) as fresh:
            model.hidden(torch.tensor([text[:length]], device=model.device))
        for layer in range(len(model.blocks)):
            _, keys, values, _ = fresh[layer]
            for found, truth in ((cache.keys, keys), (cache.values, values)):
                gap = found[layer, b, :, :length].double() - truth[0].double()
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
        cache_of: the model that `fast` runs, whose cache is compared with a fresh prefill.
        bound: see `compare`.

    Raises:
        ValueError: `cache_of` did not run; or as `compare`.
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
    with watch(cache_of.blocks) as watched:
        steps = list(fast(prompts))
    cache = cache_seen(cache_of, watched)
    verdict = compare(expected, steps, bound=bound)
    whole = [[*prompt, *new] for prompt, (new, _) in zip(prompts, texts(steps), strict=True)]
    cached = steps[-1].cached
    worst = compare_cache(cache_of, cache, whole, cached)
    return replace(verdict, cache=worst, cached=sum(cached))
