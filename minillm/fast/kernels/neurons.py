"""A gated MLP's open neurons, read one after the other; nothing is gathered."""

import numba
import numpy as np

from minillm.fast.kernels.memory import jitted, pointer

__all__ = ["open_neurons"]


@jitted
def open_neurons(x: int, gate: int, neurons: int, out: int, R: int, C: int, F: int) -> int:
    """Add to out what the neurons with an open gate say of x; how many any row has opened.

    Arguments are addresses and sizes, as in `minillm.fast.kernels.float32`: x and out are (R, C),
    gate is (R, F), neurons are (F, 2, C). Each neuron is read once, for all rows.
    """
    xs = numba.carray(pointer(x), (R, C))
    gates = numba.carray(pointer(gate), (R, F))
    weights = numba.carray(pointer(neurons), (F, 2, C))
    outs = numba.carray(pointer(out), (R, C))
    read = 0
    for f in range(F):
        wanted = 0
        for r in range(R):
            if gates[r, f] != np.float32(0):
                wanted = 1
                said = np.float32(0)
                for c in range(C):
                    said += weights[f, 0, c] * xs[r, c]
                said *= gates[r, f]
                for c in range(C):
                    outs[r, c] += said * weights[f, 1, c]
        read += wanted
    return read
