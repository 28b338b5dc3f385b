"""Deviations to plant in the fast side of a check: a wrong token, another number, a spoiled cache.

No two of them are alike, so that two planted results do not agree by both being wrong.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from fractions import Fraction
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from minillm.decoding import Step
from minillm.kv_cache import KVCache

__all__ = ["NoisyProducts", "deviated", "other_logits", "spoiled_caches", "wrong_token"]

CHOICES = ("tokens", "after", "chosen")  # of a row
PRODUCTS = ("mm", "bmm", "addmm", "baddbmm", "linear", "scaled_dot_product", "pointwise")


def wrong_token(step: Step) -> Step:
    """The step with another last token in each row that has one, and last choice if it says it."""

    def wrong(tokens: tuple[int, ...]) -> tuple[int, ...]:
        return *tokens[:-1], *(token ^ 1 << random.randrange(10) for token in tokens[-1:])

    rows = [
        replace(row, **{name: wrong(getattr(row, name)) for name in CHOICES if hasattr(row, name)})
        for row in step.rows
    ]
    return replace(step, rows=tuple(rows))


def other_logits(step: Step, size: float = 1e-3) -> Step:
    """The step with other logits, each off by `size`."""
    rows = [replace(row, logits=row.logits + size) for row in step.rows]
    return replace(step, rows=tuple(rows))


@contextmanager
def spoiled_caches(size: float = 1e-3) -> Iterator[None]:
    """One number of the values that a pass adds to a cache is off, whichever block wrote it."""
    advance = KVCache.advance

    def spoiled(self: KVCache, count: int) -> None:
        starts = list(self.lengths)
        advance(self, count)
        for row, start in enumerate(starts):
            self.values[-1, row, 0, start, 0] += size

    KVCache.advance = spoiled
    try:
        yield
    finally:
        KVCache.advance = advance


class NoisyProducts(TorchDispatchMode):
    """Results of matrix products are off by about `size` of themselves, each time otherwise."""

    def __init__(self, size: float):
        super().__init__()
        self.size = size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        first = out[0] if isinstance(out, tuple) else out
        if any(name in str(func) for name in PRODUCTS) and first.is_floating_point():
            first += self.size * torch.randn_like(first) * first.abs().mean()
        return out


@contextmanager
def deviated(value: Any, size: float) -> Iterator[Any]:
    """What behaves as `value` does, with results that are off by `size`, or by one."""
    with ExitStack() as undo:
        yield _deviate(value, size, undo)


def _deviate(value: Any, size: float, undo: ExitStack) -> Any:
    if isinstance(value, bool | str | bytes | None | torch.dtype | torch.device):
        return value
    if isinstance(value, Tensor):
        return _other_tensor(value, size)
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float | Fraction):
        return value + type(value)(size) * (1 + abs(value))
    if isinstance(value, Step):
        return other_logits(wrong_token(value))
    if isinstance(value, nn.Module):
        return _hooked(value, size, undo)
    if isinstance(value, Iterator):
        return (_deviate(item, size, undo) for item in value)
    if isinstance(value, Mapping):
        return {key: _deviate(item, size, undo) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_deviate(item, size, undo) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if callable(value):
        return _deviating(value, size, undo)
    return _other_object(value, size, undo)


def _other_tensor(value: Tensor, size: float) -> Tensor:
    if value.is_floating_point():
        return value + size * (1 + value.abs()) * random.uniform(1, 2)
    return value ^ (torch.rand(value.shape) < 0.5).to(value)  # about half of them


def _hooked(module: nn.Module, size: float, undo: ExitStack) -> nn.Module:
    """The module itself; of a language model the head, where all decoders come past."""
    place = getattr(module, "head", module)
    hook = place.register_forward_hook(lambda _module, _inputs, out: _other_tensor(out, size))
    undo.callback(hook.remove)
    return module


def _deviating(function: Callable[..., Any], size: float, undo: ExitStack) -> Callable[..., Any]:
    @wraps(function, updated=())
    def call(*args: Any, **kwargs: Any) -> Any:
        return _deviate(function(*args, **kwargs), size, undo)

    return call


def _other_object(value: Any, size: float, undo: ExitStack) -> Any:
    """Of the same class, but what it shows, and what its methods return, is off."""

    def shown(_self: Any, name: str) -> Any:
        found = getattr(value, name)
        changes = isinstance(found, Tensor | float) or callable(found)
        return _deviate(found, size, undo) if changes and not name.startswith("_") else found

    kind = type(value)
    return object.__new__(type(kind.__name__, (kind,), {"__getattribute__": shown}))
