"""The same eight bits, faster: an int8 model on kernels that read bytes, in fused blocks.

`optimized_int8` is to a model in int8 what `minillm.fast.model` is to one in float32; the naive
twin is the quantized model, which unpacks its matrices each time.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minillm.fast.int8_linear import Int8DynamicLinear, Int8WeightOnlyLinear
from minillm.fast.layers import Layers
from minillm.fast.model import FastTransformer, fuse_blocks, stay
from minillm.modules import copied
from minillm.quantization.layers import QuantEmbedding, QuantLinear
from minillm.quantization.model import QuantizedTransformer
from minillm.quantization.spec import Spec
from minillm.transformer import Transformer

__all__ = ["INT8", "optimized_int8"]

INT8 = Spec("int8", group="channel")


class _Rows(nn.Module):
    """`minillm.quantization.layers.QuantEmbedding`, its naive twin, in fewer operations."""

    def __init__(self, plain: Any):
        super().__init__()
        matrix = plain.quantized
        self.packed, self._scales = plain.packed, matrix.grid.scales
        self._integers = matrix.codes.view(torch.int8)

    def forward(self, tokens: Tensor) -> Tensor:
        return F.embedding(tokens, self._integers) * F.embedding(tokens, self._scales)


def optimized_int8(model: QuantizedTransformer, *, round_activations: bool) -> Transformer:
    """A copy that multiplies bytes; it shares the model's weights.

    Args:
        model: in int8 with a scale for each channel; it stays as it is.
        round_activations: multiply integers with integers
            (`minillm.fast.int8_linear.Int8DynamicLinear`), not with numbers
            (`minillm.fast.int8_linear.Int8WeightOnlyLinear`).

    Raises:
        ValueError: a model in another format, or on another device than the CPU.
    """
    if model.device.type != "cpu":
        raise ValueError(f"the kernels are for the CPU, the model is on {model.device}")
    for name, layer in model.named_modules():
        if isinstance(layer, QuantLinear | QuantEmbedding) and layer.spec != INT8:
            raise ValueError(f"int8 per channel is needed, {name} is in {layer.spec}")
    kind = Int8DynamicLinear if round_activations else Int8WeightOnlyLinear
    fast: Transformer = copied(model, {tensor: tensor for tensor in model.buffers()})
    fast.set_submodule("embed", _Rows(model.embed))
    for name, layer in list(fast.named_modules()):
        if isinstance(layer, QuantLinear):
            matrix = layer.quantized
            integers, scales = matrix.codes.view(torch.int8), matrix.grid.scales[:, 0]
            fast.set_submodule(name, kind(integers, scales, layer.bias))
    if Layers.fits(fast):
        return FastTransformer(fast)
    fuse_blocks(fast)
    fast._apply = stay  # type: ignore[method-assign]
    return fast
