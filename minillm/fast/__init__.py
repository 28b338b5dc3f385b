"""The same models, fast on this machine: whole modules swapped, one readable forward pass kept.

To read in this order: `layers` (a step as one call), `layout` (its matrices) and `team` (its
threads); `linear` (one matrix, several kernels) and `block` (what lies between matrices, fused);
`model` (the faster of the two ways), `skipping_model`, `int8_linear` and `int8_model` (eight bits),
`outliers`, `draft` (a small draft in eight bits).

The order of the tricks: prune or quantize the readable model, then optimize it. Each fast module
names its naive twin and runs it where the loops do not fit.
"""

from minillm.fast.draft import Int8Draft, draft_of
from minillm.fast.int8_model import optimized_int8
from minillm.fast.model import optimized
from minillm.fast.skipping_model import skipping

__all__ = ["Int8Draft", "draft_of", "optimized", "optimized_int8", "skipping"]
