"""When guessing pays: tokens of a round over the time of a round, predicted and measured.

To read in this order: `formulas`, `acceptance` (what a draft is worth), `gain` (predicted and
measured), `batch` (many texts at once).
"""

from minillm.speedup.batch import measure_batches
from minillm.speedup.formulas import AdaptiveGamma, best_gamma, expected_tokens, speedup
from minillm.speedup.gain import measure_gain

__all__ = [
    "AdaptiveGamma",
    "best_gamma",
    "expected_tokens",
    "measure_batches",
    "measure_gain",
    "speedup",
]
