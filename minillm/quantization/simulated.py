"""Simulated quantization: the numbers of few bits, held in floats, to measure what they cost."""

import copy

import torch

from minillm.quantization.model import matrices
from minillm.quantization.rounding import Spec, dequantize, quantize
from minillm.transformer import Transformer

__all__ = ["rounded"]


def rounded(model: Transformer, spec: Spec, *, embedding: bool = True) -> Transformer:
    """A plain model with its matrices rounded to nearest, and in floats again.

    It computes what `minillm.quantization.quantize_model` does, without unpacking in each pass.

    Args:
        model: stays as it is.
        spec: of every matrix.
        embedding: round it, and the head, as well.
    """
    copied = copy.deepcopy(model)
    for name, weight in matrices(copied).items():
        if embedding or name not in ("embed", "head"):
            with torch.no_grad():
                weight.copy_(dequantize(quantize(weight, spec)))
    return copied
