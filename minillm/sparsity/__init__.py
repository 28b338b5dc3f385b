"""Zeros that need no work: counted, made, skipped.

To read in this order: `counting` (how many there are), `neurons` (whose they are), `pruning` (more
of them, at a loss), `skipping` (none is read; `minillm.fast` makes it fast).
"""

from minillm.sparsity.counting import observe
from minillm.sparsity.neurons import firing_rates
from minillm.sparsity.pruning import cats, top_k_attention
from minillm.sparsity.skipping import SkippingMLP, mlp_bytes

__all__ = ["SkippingMLP", "cats", "firing_rates", "mlp_bytes", "observe", "top_k_attention"]
