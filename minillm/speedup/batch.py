"""What guessing gains in a batch on this machine: rows that share their passes, timed.

Dimension: B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from minillm.decoding import Model, Step, decode_cached
from minillm.measure.noise import Measured
from minillm.measure.timing import in_turn
from minillm.speculative.decode import decode_speculative
from minillm.speculative.drafters import Drafter
from minillm.whole import wholes

__all__ = ["measure_batches"]


def measure_batches(
    model: Model,
    drafter: Drafter,
    prompts: Sequence[Sequence[int]],
    batches: Iterable[int],
    *,
    gamma: int = 4,
    max_new_tokens: int = 32,
) -> dict[int, tuple[Measured, Measured]]:
    """Tokens a second of the first B prompts together, plain and with guesses, by B; greedy.

    Each batch is decoded twice, in turn with all others. The step that reads the prompts is left
    out. Rows end at different rounds, and the last one decides when the batch is done.

    Raises:
        ValueError: a batch of no rows, or of more than there are prompts; or one that ends in the
            step that reads the prompts.
    """
    batches = wholes("batches", batches, least=1, most=len(prompts))
    decode = partial(_decode_rows, model, drafter, gamma=gamma, max_new_tokens=max_new_tokens)
    runs = [
        lambda B=B, guessing=guessing: list(decode(prompts[:B], guessing=guessing))
        for B in batches
        for guessing in (False, True)
    ]
    list(decode(prompts[:1], guessing=True))  # warms up
    plain_and_guessing = map(_rate, zip(*in_turn([runs] * 2), strict=True))
    return dict(zip(batches, zip(*[plain_and_guessing] * 2, strict=True), strict=True))


def _decode_rows(
    model: Model,
    drafter: Drafter,
    rows: Sequence[Sequence[int]],
    *,
    gamma: int,
    max_new_tokens: int,
    guessing: bool,
) -> Iterator[Any]:
    if not guessing:
        return decode_cached(model, rows, max_new_tokens=max_new_tokens)
    return decode_speculative(
        model, rows, drafter=drafter, gamma=gamma, max_new_tokens=max_new_tokens
    )


def _rate(texts: Iterable[Sequence[Step]]) -> Measured:
    later = [step for steps in texts for step in steps[1:]]
    if not later:
        raise ValueError("all rows ended in the step that reads the prompts: too few new tokens")
    tokens = sum(len(row.tokens) for step in later for row in step.rows)
    spent = [step.seconds for step in later]
    return tokens / Measured.of([len(spent) * seconds for seconds in spent], sum(spent))
