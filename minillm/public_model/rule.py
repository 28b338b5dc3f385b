"""Does a finding hold elsewhere? One rule for all."""

from minillm.measure.noise import Measured

__all__ = ["NEAR", "rule", "verdict"]

NEAR = 1.25  # a measured effect within this factor of the predicted one is the same


def verdict(predicted: float, measured: float, nothing: float, *, one_sided: bool = False) -> str:
    """One of "holds", "in direction", "does not hold"; "not decided" where an interval has two.

    Args:
        predicted: by an earlier lesson.
        measured: elsewhere.
        nothing: the value at which there would be no effect, such as a speedup of 1.
        one_sided: the number cannot lie on the other side of `nothing`, so that its direction is
            known beforehand and is no finding.

    >>> verdict(2.0, 1.9, nothing=1.0), verdict(2.0, 1.2, nothing=1.0), verdict(2.0, 0.8, 1.0)
    ('holds', 'in direction', 'does not hold')
    >>> verdict(2.0, 1.2, nothing=1.0, one_sided=True)  # tokens a pass are never below 1
    'does not hold'
    """
    said = {rule(p, m, nothing, one_sided) for p in _within(predicted) for m in _within(measured)}
    return said.pop() if len(said) == 1 else "not decided"


def _within(x: float) -> tuple[float, ...]:
    return (x.low, x, x.high) if isinstance(x, Measured) else (x,)


def rule(predicted: float, measured: float, nothing: float, one_sided: bool) -> str:
    """The verdict on two numbers without a doubt: an effect is a number less that of no effect."""
    there, here = predicted - nothing, measured - nothing
    if there == here:
        return "holds"
    if there * here <= 0:
        return "does not hold"
    least, most = sorted((abs(there), abs(here)))
    if most <= NEAR * least:
        return "holds"
    return "does not hold" if one_sided else "in direction"
