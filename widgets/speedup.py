"""Explorers of what guessing gains: over the number of guesses, over a round's time, over a batch.

They show what `minillm.speedup` has measured.
"""

from widgets.speedup_gain import BatchExplorer, GainExplorer, SplitExplorer

__all__ = ["BatchExplorer", "GainExplorer", "SplitExplorer"]
