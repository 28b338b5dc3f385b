"""Fewer bits: tables of values, scales for groups of weights, models stored in both.

To read in this order: `formats` (a table of values), `packing` (codes to bytes), `spec` (how
weights are stored), `rounding` (numbers to codes and scales), `layers`, `model` and `saved`,
`simulated` (the same in floats), `smoothing` (outliers moved into weights), `record` (what all
formats cost, measured once).
"""

from minillm.quantization.formats import FORMATS
from minillm.quantization.model import quantize_model
from minillm.quantization.rounding import quantize
from minillm.quantization.saved import load_quantized, save_quantized
from minillm.quantization.spec import Spec

__all__ = ["FORMATS", "Spec", "load_quantized", "quantize", "quantize_model", "save_quantized"]
