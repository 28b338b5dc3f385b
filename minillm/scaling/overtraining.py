"""Does a model trained on more tokens lose more when it is quantized? Points, and tests by rank.

Small models, trained for this question by `minillm hypothesis` (`minillm.commands.hypothesis`), are
rounded to 2, 3 and 4 bits at several points of their training. `trend` asks of each arm whether
the loss so added grows with the tokens, `decay_effect` whether at equal tokens a model whose
learning rate was lowered to zero loses more than one whose rate was not.

Papers: yes, with the tokens (arXiv 2411.04330, 2411.17691); no, with the decay of the learning rate
(arXiv 2510.06213).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from minillm.data import recorded
from minillm.measure.ranks import RankTest, page, signed_rank

__all__ = ["FEW_BITS", "FewBits", "Point", "Rate", "Text", "decay_effect", "read", "trend"]

Text = Literal["unique", "repeated"]
Rate = Literal["constant", "decayed"]
FewBits = Literal["int2", "int3", "int4"]
FEW_BITS: tuple[FewBits, ...] = ("int2", "int3", "int4")


@dataclass(frozen=True)
class Point:
    """A model of the experiment.

    Attributes:
        seed: of its first weights and the order of its rows.
        text: whether it read each token once, or a quarter of them up to four times.
        rate: whether the learning rate was as high as ever, or had just fallen to zero.
        tokens: how many it read.
        loss: on held-out text, in nats a token.
        rounded: the same with weights in a format.
    """

    seed: int
    text: Text
    rate: Rate
    tokens: int
    loss: float
    rounded: dict[FewBits, float]

    def added(self, form: FewBits) -> float:
        """Loss that rounding adds, in nats a token."""
        return self.rounded[form] - self.loss


def trend(points: Sequence[Point], text: Text, rate: Rate, form: FewBits) -> RankTest:
    """Page's test that the loss added grows with the tokens; a row of it is a seed."""
    arm = [point for point in points if (point.text, point.rate) == (text, rate)]
    return page([[point.added(form) for point in row] for row in _by_seed(arm)])


def decay_effect(
    points: Sequence[Point], text: Text, form: FewBits, tokens: int | None = None
) -> RankTest:
    """Wilcoxon's test that decay of the rate raises the loss added, pairs at equal seed and tokens.

    Args:
        points: of all arms.
        text: of the arms that are compared.
        form: of the rounded weights.
        tokens: only pairs that read as many: one of each seed, independent of the others; all
            pairs together are more, but those of one seed share their beginning.

    Raises:
        ValueError: a point without its pair, or no pair at all.
    """
    constant, decayed = (
        {
            (point.seed, point.tokens): point.added(form)
            for point in points
            if (point.text, point.rate) == (text, rate) and tokens in (None, point.tokens)
        }
        for rate in ("constant", "decayed")
    )
    if constant.keys() != decayed.keys():
        raise ValueError("the two arms have other seeds or tokens: their points make no pairs")
    return signed_rank([decayed[pair] - constant[pair] for pair in constant])


def _by_seed(points: Iterable[Point]) -> list[list[Point]]:
    """A row for each seed, its tokens rising."""
    rows: dict[int, list[Point]] = {}
    for point in sorted(points, key=lambda point: (point.seed, point.tokens)):
        rows.setdefault(point.seed, []).append(point)
    return list(rows.values())


def read() -> list[Point]:
    """The points that the package holds."""
    return [Point(**point) for point in recorded.read("hypothesis")["points"]]
