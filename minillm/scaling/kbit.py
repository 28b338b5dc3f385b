"""A large model in few bits, or a small one in many? Loss against bits stored.

Two models that take the same memory may be a small one in 8 bits and one of twice its size in 4.
Which predicts better is a matter of measuring a family, models that differ in size alone, each at
several precisions. `best_at` reads the answer off: at a number of bits, the precision with the
lowest loss. A model of just that size seldom exists, so the loss of a precision is interpolated
between the two sizes next to it, along the logarithm of the bits.

What is stored are codes, scales and zero points, norms in 16 bits, and the embedding, which serves
as head too. In a small model it is a large share, in a large one next to nothing: so everything is
counted once with the embedding rounded and counted like the rest, once with it left in 16 bits
and left out of the count. `minillm kbit` records it all (`minillm.commands.kbit`).

Source: arXiv 2212.09720, which finds 4 bits best almost everywhere from 19M to 176B parameters.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from jaxtyping import Int
from torch import Tensor

from minillm.data import recorded
from minillm.measure.evaluation import evaluate
from minillm.quantization.model import matrices
from minillm.quantization.simulated import rounded
from minillm.quantization.spec import Granularity, Spec
from minillm.transformer import Transformer

__all__ = [
    "PRECISIONS",
    "KBit",
    "best_at",
    "frontier",
    "loss_at",
    "measure",
    "read",
    "stored_bits",
]

PRECISIONS = (2, 3, 4, 8, 16)


@dataclass(frozen=True)
class KBit:
    """A model at one precision.

    Attributes:
        model: its name.
        bits: of a weight, scales not counted; 16 is float16, as shipped.
        embedding: whether the embedding is rounded, and counted, like the rest.
        stored: bits of all that is counted.
        loss: on held-out text, in nats a token.
    """

    model: str
    bits: int
    embedding: bool
    stored: int
    loss: float


def stored_bits(model: Transformer, spec: Spec | None, *, embedding: bool = True) -> int:
    """Of matrices in few bits, or in 16 without a spec, and norms in 16; the embedding, or not."""
    counted = {
        name: weight
        for name, weight in matrices(model).items()
        if embedding or name not in ("embed", "head")
    }
    norms = sum(16 * p.numel() for p in model.parameters() if p.ndim == 1)
    return norms + sum(
        16 * weight.numel() if spec is None else 8 * spec.nbytes(*weight.shape)
        for weight in counted.values()
    )


def measure(
    name: str, model: Transformer, tokens: Int[Tensor, " N"], group: Granularity = "channel"
) -> Iterator[KBit]:
    """A model at every precision, with its embedding and without; integers with zero points."""
    plain = evaluate(model, tokens).loss
    for embedding in (True, False):
        for bits in PRECISIONS:
            spec = None if bits == 16 else Spec(f"int{bits}", group, symmetric=False)
            stored, loss = stored_bits(model, spec, embedding=embedding), plain
            if spec is not None:
                loss = evaluate(rounded(model, spec, embedding=embedding), tokens).loss
            yield KBit(name, bits, embedding, stored, loss)


def loss_at(points: Sequence[KBit], bits: int, stored: float) -> float | None:
    """The loss of a precision at a number of stored bits; None beyond its smallest and largest.

    Raises:
        ValueError: points of both ways to count the embedding.

    >>> family = [KBit("small", 4, True, 100, 3.0), KBit("large", 4, True, 10_000, 2.0)]
    >>> loss_at(family, 4, 1000)
    2.5
    """
    if len({point.embedding for point in points}) > 1:
        raise ValueError("points with the embedding and without it are two laws: take one of them")
    best_last = sorted(points, key=lambda point: -point.loss)
    sizes = {point.stored: point.loss for point in best_last if point.bits == bits}
    for (low, worse), (high, better) in pairwise(sorted(sizes.items())):
        if low <= stored <= high:
            way = math.log(stored / low) / math.log(high / low)
            return worse + way * (better - worse)
    return None


def best_at(points: Sequence[KBit], stored: float) -> int | None:
    """The precision with the lowest loss at a number of stored bits.

    None unless it was set against the precisions next to it: beyond the largest model of a family,
    more bits a weight win for want of a larger model in fewer.
    """
    found = {bits: loss_at(points, bits, stored) for bits in PRECISIONS}
    losses = {bits: loss for bits, loss in found.items() if loss is not None}
    if not losses:
        return None
    best = min(losses, key=losses.__getitem__)
    place = PRECISIONS.index(best)
    rivals = PRECISIONS[max(place - 1, 0) : place + 2]
    return best if set(rivals) <= losses.keys() else None


def frontier(points: Sequence[KBit]) -> list[KBit]:
    """The points that no other beats with as few bits, from the smallest on; nothing in between."""
    kept = list[KBit]()
    for point in sorted(points, key=lambda point: (point.stored, point.loss)):
        if not kept or point.loss < kept[-1].loss:
            kept.append(point)
    return kept


def read() -> list[KBit]:
    """The points that the package holds, of the family of `stories`."""
    return [KBit(**point) for point in recorded.read("kbit")["points"]]
