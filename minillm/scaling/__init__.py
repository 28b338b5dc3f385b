"""Laws of size and bits: few weights in many bits or many in few, and does longer training hurt?

`kbit` holds the losses of a family at several precisions; `overtraining` the experiment on how
training tokens change what rounding costs.
"""

from minillm.scaling import kbit, overtraining

__all__ = ["kbit", "overtraining"]
