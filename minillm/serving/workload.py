"""Requests that arrive over time: when, with which prompts, wanting how many tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from minillm.whole import whole

__all__ = ["Asked", "arrivals_at", "spread", "workload"]


@dataclass(frozen=True)
class Asked:
    """A request: when it arrives, its tokens, and how many more it wants."""

    at: float
    prompt: tuple[int, ...]
    more: int


def spread(shortest: int, longest: int, count: int, seed: int) -> list[int]:
    """`count` numbers, evenly from shortest to longest, in random order.

    >>> spread(10, 250, 4, seed=0)
    [10, 90, 250, 170]
    """
    numbers = torch.linspace(shortest, longest, whole("count", count, least=1)).round().long()
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return numbers[order].tolist()


def workload(
    text: Sequence[int],
    count: int = 32,
    *,
    shortest: int = 10,
    longest: int = 250,
    rate: float = float("inf"),
    seed: int = 0,
) -> list[Asked]:
    """Requests whose prompts and budgets are spread evenly, in an order of their own each.

    Args:
        text: tokens that prompts are cut from, each at a place of its own.
        count: of requests.
        shortest: tokens of a prompt, and of a budget.
        longest: see `shortest`.
        rate: requests that arrive in a unit of the clock, on average (a Poisson process); by
            default all are there at once.
        seed: of the orders and the arrivals.

    Raises:
        ValueError: a text shorter than the longest prompt.
    """
    if len(text) < longest:
        raise ValueError(f"a text of {len(text)} tokens holds no prompt of {longest}")
    prompts, budgets = (spread(shortest, longest, count, seed + i) for i in range(2))
    arrivals, apart = arrivals_at(rate, count, seed), (len(text) - longest) // count
    return [
        Asked(at, tuple(text[i * apart :][:prompt]), more)
        for i, (at, prompt, more) in enumerate(zip(arrivals, prompts, budgets, strict=True))
    ]


def arrivals_at(rate: float, count: int, seed: int) -> list[float]:
    """When `count` requests arrive, `rate` in a unit of time on average (a Poisson process)."""
    generator = torch.Generator().manual_seed(seed + 2)
    waits = torch.empty(count, dtype=torch.float64).exponential_(generator=generator) / rate
    return waits.cumsum(0).tolist()
