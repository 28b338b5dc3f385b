"""Lesson 05: what guessing gains over the number of guesses, a round's time and a batch.

They show what `minillm.speedup` has measured.
"""

from widgets.speedup.gain import BatchExplorer, GainExplorer, SplitExplorer

__all__ = ["BatchExplorer", "GainExplorer", "SplitExplorer"]
