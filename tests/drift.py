"""A machine whose clock is made up: passes take time, ever more of it, or now and then a lot."""

from collections.abc import Callable
from random import Random
from typing import Any
from unittest.mock import patch

from torch import Tensor

__all__ = ["Machine", "ratios_hold"]


class Machine:
    """A model whose every pass moves the clock, by how much its tokens and the hour say.

    Args:
        model: what runs.
        pace: from the time that has passed so far, how slow the machine is by now.
    """

    def __init__(self, model: Any, pace: Callable[[float], float] = lambda passed: 1.0):
        self.config, self.device, self.dtype, self.head = (
            model.config, model.device, model.dtype, model.head,
        )  # fmt: skip
        self.clock, self._model, self._pace, self._work = 0.0, model, pace, 0.0

    def hidden(self, tokens: Tensor, *given: Any, **more: Any) -> Tensor:
        work = 1 + tokens.numel() / 8
        self.clock += work * self._pace(self._work)
        self._work += work
        return self._model.hidden(tokens, *given, **more)

    def run(self, measure: Callable[[Any], Any]) -> Any:
        """What is measured on this machine."""
        with patch("time.perf_counter", lambda: self.clock):
            return measure(self)


def ratios_hold(model: Any, measure: Callable[[Any], dict[Any, float]]) -> None:
    """What `measure` says of a steady machine, it says of one that gets a fifth slower meanwhile.

    And it says something of one that is fifty times slower at any time.
    """
    steady = Machine(model)
    expected = steady.run(measure)
    slowing = Machine(model, lambda passed: 1 + 0.2 * passed / steady.clock)
    for name, ratio in slowing.run(measure).items():
        assert abs(ratio / expected[name] - 1) < 0.01, name
    chance = Random(0)
    busy = Machine(model, lambda passed: chance.choice((1.0, 1.0, 50.0)))
    assert busy.run(measure).keys() == expected.keys()
