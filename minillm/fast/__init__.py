"""The same models, fast on this machine: whole modules swapped, one readable forward pass kept.

To read in this order: `linear` (one matrix, several kernels), `block` (what lies between matrices,
fused), `model` (both, over a whole model), `skipping_model`, `int8_linear`, `int8_block` and
`int8_model` (eight bits), `outliers`, `megakernel` and `draft` (a small model in one call).

The order of the tricks: prune or quantize the readable model, then optimize it. Each fast module
names its naive twin and runs it where the loops do not fit.
"""

from minillm.fast.draft import Int8Draft
from minillm.fast.int8_model import optimized_int8
from minillm.fast.model import optimized
from minillm.fast.skipping_model import skipping

__all__ = ["Int8Draft", "optimized", "optimized_int8", "skipping"]
