"""Lesson 14: the block table live, a timeline of steps, load against the rate of arrivals."""

from widgets.serving.rates import RateExplorer, Rates, measured_load
from widgets.serving.tables import BlockTableExplorer
from widgets.serving.timeline import TimelineExplorer

__all__ = [
    "BlockTableExplorer",
    "RateExplorer",
    "Rates",
    "TimelineExplorer",
    "measured_load",
]
