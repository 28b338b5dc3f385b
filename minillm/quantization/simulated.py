"""Simulated quantization: the numbers of few bits, held in floats, to measure what they cost."""

import torch

from minillm.modules import copied
from minillm.quantization.model import matrices
from minillm.quantization.rounding import dequantize, quantize
from minillm.quantization.spec import Spec
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
    twin = copied(model)
    for name, weight in matrices(twin).items():
        if embedding or name not in ("embed", "head"):
            with torch.no_grad():
                weight.copy_(dequantize(quantize(weight, spec)))
    return twin
