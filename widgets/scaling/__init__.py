"""Lesson 12: loss against bits stored, and loss that rounding adds against tokens.

Both draw points that commands of `minillm` recorded: `minillm kbit` and `minillm hypothesis`.
"""

from widgets.scaling.hypothesis import HypothesisExplorer, probability
from widgets.scaling.law import LawExplorer, losses_at

__all__ = ["HypothesisExplorer", "LawExplorer", "losses_at", "probability"]
