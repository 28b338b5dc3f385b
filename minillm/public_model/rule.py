"""Does a finding hold elsewhere? One rule for all."""

from minillm.measure.noise import Measured

__all__ = ["NEAR", "rule", "verdict"]

NEAR = 1.25  # a measured effect within this factor of the predicted one is the same


def verdict(predicted: float, measured: float, nothing: float) -> str:
    """One of "holds", "in direction", "does not hold"; "not decided" where an interval has two.

    Args:
        predicted: by an earlier lesson.
        measured: elsewhere.
        nothing: the value at which there would be no effect, such as a speedup of 1.

    >>> verdict(2.0, 1.9, nothing=1.0), verdict(2.0, 1.2, nothing=1.0), verdict(2.0, 0.8, 1.0)
    ('holds', 'in direction', 'does not hold')
    """
    said = {rule(p, m, nothing) for p in _within(predicted) for m in _within(measured)}
    return said.pop() if len(said) == 1 else "not decided"


def _within(x: float) -> tuple[float, ...]:
    return (x.low, x, x.high) if isinstance(x, Measured) else (x,)


def rule(predicted: float, measured: float, nothing: float) -> str:
    """The verdict on two numbers without a doubt: an effect is a number less that of no effect."""
    there, here = predicted - nothing, measured - nothing
    if there == here:
        return "holds"
    if there * here <= 0:
        return "does not hold"
    least, most = sorted((abs(there), abs(here)))
    return "holds" if most <= NEAR * least else "in direction"
