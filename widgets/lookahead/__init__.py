"""Lesson 08: who sees whom in a pass, a run pass by pass, and what it gains."""

from widgets.lookahead.explorers import LookaheadExplorer, MaskExplorer
from widgets.lookahead.gain import LookaheadGainExplorer, measure_settings
from widgets.lookahead.mask import mask_film
from widgets.lookahead.run import found_in_text, run_film

__all__ = [
    "LookaheadExplorer",
    "LookaheadGainExplorer",
    "MaskExplorer",
    "found_in_text",
    "mask_film",
    "measure_settings",
    "run_film",
]
