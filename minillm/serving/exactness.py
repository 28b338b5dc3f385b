"""Does serving change a text? Each request beside the others against the same request alone.

A wrong block may go unseen for long: whoever reads it may be lucky. So the ledger is examined too,
behind every step: each block has as many holders as tables and known beginnings name it.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from minillm.serving.engine import Engine
from minillm.serving.record import Moment, Record
from minillm.serving.replay import follow, one_each
from minillm.serving.workload import Asked

__all__ = ["Exactness", "examine"]


@dataclass(frozen=True)
class Exactness:
    """What was found.

    Attributes:
        requests: that were asked.
        equal: those whose text is that of their single run.
        steps: of the engine.
        miscounted: steps behind which a block's count was not the number of its holders.
        stopped: the error that ended it all; None where every request was served.
    """

    requests: int
    equal: int
    steps: int
    miscounted: int
    stopped: str | None

    @property
    def exact(self) -> bool:
        """Whether nothing was found."""
        return self.equal == self.requests and not self.miscounted and self.stopped is None


def examine(
    engine: Engine, asked: Sequence[Asked], alone: Callable[[Asked], list[int]]
) -> Exactness:
    """Serve the requests and compare.

    Args:
        engine: a fresh one.
        asked: sorted by arrival, in steps.
        alone: the text of a request's single run.
    """
    records, stopped = [Record({})], None
    try:
        records.extend(follow(engine, asked, one_each))
    except Exception as error:  # a defect may raise anything
        stopped = f"{type(error).__name__}: {error}"
    record = records[-1]
    equal = sum(served.tokens == alone(served.asked) for served in record.requests.values())
    miscounted = sum(map(_is_miscounted, record.moments))
    return Exactness(len(asked), equal, len(record.moments), miscounted, stopped)


def _is_miscounted(moment: Moment) -> bool:
    holders = Counter(moment.remembered)
    for blocks, _ in moment.tables.values():
        holders.update(blocks)
    return any(holders[block] != count for block, count in enumerate(moment.holders))
