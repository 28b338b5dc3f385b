"""Does a model go round in circles? The share of different 4-grams in what it writes.

Small models repeat themselves, above all at temperature 0. A loop is easy to guess, so that a
speed-up measured on loops says little: the share belongs beside every one.

Source: distinct n-grams, arXiv 1510.03055, section 5.1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from minillm.decoding import Model, collect, decode_cached, generators
from minillm.sampling import Sampler
from minillm.whole import whole

__all__ = ["Repetition", "distinct", "repetition"]


def distinct(tokens: Sequence[int], n: int = 4) -> float:
    """Different n-grams over all n-grams.

    Raises:
        ValueError: n below 1, or fewer than n tokens.

    >>> distinct([1, 2, 1, 2, 1, 2], n=2)
    0.4
    """
    n = whole("n", n, least=1)
    grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    if not grams:
        raise ValueError(f"{len(tokens)} tokens hold no {n}-gram")
    return len(set(grams)) / len(grams)


@dataclass(frozen=True)
class Repetition:
    """Shares of different 4-grams in some texts: their mean, the lowest, and those below 0.9."""

    mean: float
    lowest: float
    below_90_percent: int
    texts: int


def repetition(
    model: Model,
    prompts: Sequence[Sequence[int]],
    temperature: float,
    *,
    max_new_tokens: int = 200,
    seed: int = 0,
) -> Repetition:
    """Of texts that the model writes from each prompt; end-of-text does not stop it.

    Raises:
        ValueError: as `decode_cached`; or fewer than four tokens.
    """
    texts = collect(
        decode_cached(
            model,
            prompts,
            max_new_tokens=max_new_tokens,
            sampler=Sampler(temperature),
            generators=generators(seed, len(prompts)),
        )
    )
    shares = [distinct(text) for text in texts]
    mean = sum(shares) / len(shares)
    return Repetition(mean, min(shares), sum(share < 0.9 for share in shares), len(shares))
