"""Is a text the same in every batch? One prompt alone, and in batches of 2, 4, 8 rows, and so on.

A product of matrices is a sum, and a kernel may choose the order of its terms by the shape of the
batch. In floating point another order gives other last bits. A text changes where these bits
decide: where two logits are nearly equal. With kernels whose rows are independent, such as those of
`minillm.fast.layers`, every bit is the same in every batch; what that costs is told by the times.

Dimensions: N tokens of the text, V vocabulary.

Source: "Defeating nondeterminism in LLM inference" (Thinking Machines Lab, 2025).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch
from jaxtyping import Float
from torch import Tensor

from minillm.decoding import Model, decode_cached

__all__ = ["InBatch", "Invariance", "Tie", "in_batches"]


@dataclass(frozen=True)
class Tie:
    """A place in a text, and by how much the best logit led the second there."""

    place: int
    margin: float


@dataclass(frozen=True, eq=False)
class InBatch:
    """The text of a prompt in a batch.

    Attributes:
        size: of the batch.
        text: the new tokens.
        logits: what they were picked from.
        seconds: of a decode step, the median.
    """

    size: int
    text: tuple[int, ...]
    logits: Float[Tensor, "N V"]
    seconds: float


@dataclass(frozen=True)
class Invariance:
    """The same prompt in batches of several sizes, the first of them alone."""

    runs: tuple[InBatch, ...]

    @property
    def texts(self) -> int:
        """How many different texts there are."""
        return len({run.text for run in self.runs})

    @property
    def same_bits(self) -> bool:
        """Whether the logits of all batches agree bit for bit."""
        return all(run.logits.equal(self.runs[0].logits) for run in self.runs)

    @property
    def largest_error(self) -> float:
        """The largest difference of a logit from the one alone, up to where the texts part."""
        alone = self.runs[0]
        errors = [0.0]
        for run in self.runs:
            end = _agree(alone.text, run.text) + 1
            errors.append(float((run.logits[:end] - alone.logits[:end]).abs().max()))
        return max(errors)

    @property
    def nearest_tie(self) -> Tie:
        """Where the best logit alone leads by least."""
        margins = _margins(self.runs[0].logits)
        place = int(margins.argmin())
        return Tie(place, float(margins[place]))

    @property
    def first_parting(self) -> Tie | None:
        """The first place where any batch's text parts from the one alone; None if none does."""
        alone = self.runs[0]
        place = min(_agree(alone.text, run.text) for run in self.runs)
        if place == len(alone.text):
            return None
        return Tie(place, float(_margins(alone.logits)[place]))


def in_batches(
    model: Model,
    prompt: Sequence[int],
    beside: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
) -> Invariance:
    """Decode a prompt greedily alone, in batches of 2, 4, 8, ... rows, and beside all others.

    Args:
        model: any; its kernels and its dtype are what is examined.
        prompt: the first row of each batch.
        beside: the other rows; as long as the prompt they bring no padding with them.
        max_new_tokens: of each row.

    Raises:
        ValueError: as `decode_cached`, or one new token, which is no step of decoding.
    """
    if max_new_tokens < 2:
        raise ValueError(f"a step of decoding needs two new tokens, got {max_new_tokens}")
    rows = [prompt, *beside]
    sizes = [size for size in range(1, len(rows)) if size.bit_count() == 1]  # powers of two
    return Invariance(
        tuple(_in_batch(model, rows[:size], max_new_tokens) for size in (*sizes, len(rows)))
    )


def _in_batch(model: Model, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> InBatch:
    steps = list(decode_cached(model, prompts, max_new_tokens=max_new_tokens))
    rows = [step.rows[0] for step in steps]
    return InBatch(
        len(prompts),
        tuple(token for row in rows for token in row.tokens),
        torch.cat([row.logits for row in rows]).double().cpu(),
        median(step.seconds for step in steps[1:]),
    )


def _agree(a: Sequence[int], b: Sequence[int]) -> int:
    """Tokens from the beginning that two texts share."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y), len(a))


def _margins(logits: Float[Tensor, "N V"]) -> Float[Tensor, " N"]:
    best = logits.topk(2).values
    return best[:, 0] - best[:, 1]
