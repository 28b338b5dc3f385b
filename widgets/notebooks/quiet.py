"""Is the machine as quiet as it was? The plain loop is timed before and after each lesson."""

import math
from collections.abc import Callable

from minillm.checkpoint import load
from minillm.fast import optimized
from minillm.measure.machine import measure_tokens

__all__ = ["Quiet", "plain_loop"]

_OFF = 1.15  # times the record: a run beside it is of a busy machine
_STEPS = 300


def plain_loop() -> Callable[[], float]:
    """A measurement of the shipped model's fastest step, in seconds."""
    model = optimized(load("stories")[0])
    return lambda: measure_tokens(model, [1], cached=64, repeats=_STEPS)[1]


class Quiet:
    """Keeps the record, the fastest step of this run, and holds every lesson against it.

    >>> steps = iter([1.0, 1.1, 1.0, 2.0])
    >>> quiet = Quiet(lambda: next(steps))
    >>> quiet.disturbed_during(lambda: None), quiet.disturbed_during(lambda: None)
    (None, 'a step took 2000.00 ms beside this lesson, 1000.00 ms at best')
    """

    def __init__(self, step: Callable[[], float]):
        self._step, self._record = step, math.inf

    def disturbed_during(self, run: Callable[[], object]) -> str | None:
        """Run a lesson; what shows that the machine was busy before or after it."""
        before, _, after = self._step(), run(), self._step()
        self._record = min(self._record, before, after)
        slower = max(before, after)
        if slower <= _OFF * self._record:
            return None
        times = f"{1000 * slower:.2f} ms beside this lesson, {1000 * self._record:.2f} ms at best"
        return f"a step took {times}"
