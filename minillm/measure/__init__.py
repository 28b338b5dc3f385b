"""What a model and a machine do, measured: seconds, rates, losses, repetition, ranks.

`timing` compares two things run in turn; `machine` is this processor; `evaluation` and
`repetition` judge a model's text; `ranks` tests small experiments.
"""

from minillm.measure.evaluation import evaluate
from minillm.measure.machine import measure_machine
from minillm.measure.timing import compare, interleave

__all__ = ["compare", "evaluate", "interleave", "measure_machine"]
