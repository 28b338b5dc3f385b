"""Lookahead decoding: keep the n-grams that Jacobi's iterations throw away, and verify them.

To read in this order: `window` and `pool` (where guesses come from), `mask` (who may look at
whom), `reads` (one pass), `verification` (which guess goes furthest), `decode`.
"""

from minillm.lookahead.decode import decode_lookahead
from minillm.lookahead.mask import lookahead_layout
from minillm.lookahead.pool import NGramPool
from minillm.lookahead.verification import agree
from minillm.lookahead.window import Window

__all__ = ["NGramPool", "Window", "agree", "decode_lookahead", "lookahead_layout"]
