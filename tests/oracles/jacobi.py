"""Jacobi decoding by hand."""

from collections.abc import Callable, Iterator, Sequence
from types import ModuleType

import torch

__all__ = ["chooser", "jacobi_by_hand"]


def chooser(lib: ModuleType, model, sampler, generator, start: int) -> Callable[..., list[int]]:
    """A function: the choices behind the last tokens of a text, by one pass over all of it.

    The token at place n of the text is drawn by number n - start of the generator.
    """
    u = torch.rand(100, generator=generator, dtype=torch.float64)

    def choose(text: Sequence[int], last: int = 1) -> list[int]:
        logits = model(torch.tensor([text]))[0, -last:]
        first = len(text) - start - last + 1
        return sampler.choose(logits, u[first : first + last]).tolist()

    return choose


def jacobi_by_hand(
    choose, prompt, block: int, guess, limit: int, stop
) -> Iterator[tuple[list[int], list[int], list[int]]]:
    """Jacobi decoding of one row, without a cache; the naive reference.

    Of each pass: the block before, the block after, the tokens settled.
    """
    text, guesses = list(prompt), list[int]()
    while True:
        size = min(block, limit - len(text))
        guesses = guesses or guess(text, size, 31)
        after = choose([*text, *guesses[:-1]], last=len(guesses))
        right = [old == new for old, new in zip(guesses[:-1], after[:-1], strict=True)]
        new = after[: [*right, False].index(False) + 1]
        ends = [i for i, x in enumerate(new, 1) if x in stop or len(text) + i == limit]
        new = new[: min(ends, default=len(new))]
        yield guesses, after, new
        text, guesses = text + new, after[len(new) :]
        if ends:
            return
