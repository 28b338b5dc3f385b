"""What each trick gains on this machine, and what was found equal: the rows of `minillm bench`.

Both sides of a row run in turn in one process; the ratio is above 1 where ours is faster.
`minillm.measure.timing` says how ratio and interval are made, `minillm.bench.rows` how to add a
row.
"""

from minillm.bench import (  # register their rows
    decoding,
    machine,
    optimized,
    parallel,
    quantization,
    serving,
    sparsity,
    speculative,
)
from minillm.bench.rows import ROWS, BenchRow, measure

__all__ = ["ROWS", "BenchRow", "measure"]

_ROW_MODULES = (
    decoding,
    optimized,
    parallel,
    speculative,
    sparsity,
    quantization,
    serving,
    machine,
)
