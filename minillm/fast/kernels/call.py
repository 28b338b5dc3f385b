"""What a call of `minillm.fast.kernels.layers` is about: one record of addresses and sizes."""

import numpy as np

__all__ = [
    "ATTEND",
    "BYTES",
    "CALL",
    "DOWN",
    "EACH",
    "GATE_UP",
    "HEAD",
    "KINDS",
    "MOST",
    "OUT",
    "QKV",
]

MOST = 64  # rows of a call
BYTES = 4  # of a float32
QKV, ATTEND, OUT, GATE_UP, DOWN, HEAD = KINDS = range(6)  # of phases; five of each layer
EACH = (
    *("first", "last", "threads", "B", "T", "slots", "x", "logits"),
    *("keys", "values", "cos", "sin", "mask", "mask_turn", "embedded"),
    *("tables", "row_blocks", "blocks"),
)
_SAME = (
    *("phases", "norms", "qkv", "read", "gated", "own", "own_bytes", "width", "silu", "skips"),
    *("opened", "layer_bytes", "scale_bytes", "room", "places", "steps", "codes"),
    *("L", "H", "G", "D", "C"),
)
CALL = np.dtype(
    [("number", np.int64)]  # first, where threads look for the next call
    + [(name, np.int64) for name in EACH]  # of this call
    + [("starts", np.int64, (MOST,)), ("turns", np.int64, (MOST,))]
    + [(name, np.int64) for name in _SAME]  # of the model
    + [(name, np.int64, (len(KINDS),)) for name in ("parts", "matrices", "scales")]
    + [("eps", np.float32)],
    align=True,
)
