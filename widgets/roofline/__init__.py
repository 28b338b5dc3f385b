"""Lesson 03: where the phases of inference stand, and when a batch is free."""

from widgets.roofline.free_batch import FreeBatchExplorer, free_batch_chart
from widgets.roofline.phases import Roof, RooflineExplorer, roofline_chart

__all__ = [
    "FreeBatchExplorer",
    "Roof",
    "RooflineExplorer",
    "free_batch_chart",
    "roofline_chart",
]
