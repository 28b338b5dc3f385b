"""The findings by name, from which lesson they are, and what was recorded of two models.

`minillm findings stories smollm2 --out public_model.json` measured the points that the package
holds. A finding is measured by one function on both models, so that "predicted" and "measured" mean
the same.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from minillm.data import recorded
from minillm.measure.noise import Measured
from minillm.public_model import again, costs, guessing, inside
from minillm.public_model.subject import Subject

__all__ = ["FINDINGS", "Finding", "Point", "measured", "read"]

RECORD = "public_model"  # in minillm/data


@dataclass(frozen=True)
class Finding:
    """A number of the course that another model has as well.

    Attributes:
        lesson: where the course found it; 15 where it is new.
        what: in words.
        measure: its values, by what they depend on (a layer, a kind of text, a number of tokens).
        timed: whether a clock decides; counts are the same whenever they are taken.
    """

    lesson: str
    what: str
    measure: Callable[[Subject], Mapping[Any, float]]
    timed: bool = False


@dataclass(frozen=True)
class Point:
    """What one model gave for one finding.

    Attributes:
        finding: a name in `FINDINGS`.
        model: as it was loaded.
        at: what the values depend on.
        values: one for each.
        ends: of their intervals, where a clock gave them.
    """

    finding: str
    model: str
    at: tuple[str | int, ...]
    values: tuple[float, ...]
    ends: tuple[tuple[float, float], ...] = ()

    @property
    def by(self) -> dict[str | int, float]:
        """The values by what they depend on; with intervals, where a clock gave them."""
        values: Iterable[float] = self.values
        if self.ends:
            values = (Measured(x, *ends) for x, ends in zip(values, self.ends, strict=True))
        return dict(zip(self.at, values, strict=True))


FINDINGS = {
    "cache": Finding("02", "bytes that a token takes in the cache", costs.cache_bytes),
    "recomputed": Finding(
        "01", "a token without a cache, in tokens with one", costs.recomputed, timed=True
    ),
    "together": Finding(
        "03", "a pass over m tokens, in passes over one", costs.together, timed=True
    ),
    "lookup": Finding("08", "tokens a pass, prompt lookup", guessing.prompt_lookup),
    "matches": Finding("05", "share of passes with a guess, prompt lookup", guessing.matches),
    "in time": Finding(
        "05", "times as fast as the plain loop, prompt lookup", guessing.in_time, timed=True
    ),
    "same text": Finding("04", "share of texts that are the plain loop's", guessing.same_text),
    "exit": Finding("15", "tokens a pass, early exit at half the layers", guessing.exit_early),
    "jacobi": Finding("07", "tokens a pass, Jacobi", guessing.jacobi),
    "lookahead": Finding("08", "tokens a pass, lookahead", guessing.lookahead),
    "zeros": Finding("09", "share of the gates", inside.zeros),
    "sinks": Finding("15", "attention on the first token, by layer", inside.sinks),
    "massive": Finding("15", "largest activation, in medians, by layer", inside.massive),
    "massive places": Finding("15", "token that holds it, by layer", inside.massive_places),
    "key channels": Finding(
        "15", "largest channel of the keys, in medians, by layer", inside.key_outliers
    ),
    "keys": Finding("15", "error of keys in 4 bits, scales along", inside.key_rounding),
    "values": Finding("15", "error of values in 4 bits, scales along", inside.value_rounding),
    "again": Finding("10", "KL that rounding adds, nats a token", again.rounding_again),
}


def measured(
    name: str, subject: Subject, findings: Mapping[str, Finding] = FINDINGS
) -> Iterator[Point]:
    """Each finding on a model, one after the other."""
    for finding, how in findings.items():
        by = how.measure(subject)
        ends = tuple((x.low, x.high) for x in by.values() if isinstance(x, Measured))
        yield Point(finding, name, tuple(by), tuple(map(float, by.values())), ends)


def read() -> dict[tuple[str, str], Point]:
    """The recorded points by finding and model."""
    points = [
        Point(
            point["finding"],
            point["model"],
            tuple(point["at"]),
            tuple(point["values"]),
            tuple((low, high) for low, high in point["ends"]),
        )
        for point in recorded.read(RECORD)["points"]
    ]
    return {(point.finding, point.model): point for point in points}
