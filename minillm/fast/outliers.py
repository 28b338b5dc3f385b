"""Outlier channels left in floats, the rest in int8: the product that LLM.int8 splits.

A few channels carry outliers. Their columns of the weights, well below one in a hundred, are
multiplied as floats; with them gone, the rows of the rest have small steps.

bitsandbytes looks for the channels anew in each batch (any |x| >= 6), so that a row's result may
depend on the rows beside it. Here they are fixed beforehand, from a calibration text.

Dimensions: R rows (tokens), N outputs, K inputs, O outlier channels.

Source: LLM.int8 (arXiv 2208.07339).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from minillm.fast.int8_linear import Int8DynamicLinear
from minillm.quantization.rounding import quantize
from minillm.quantization.spec import Spec
from minillm.whole import wholes

__all__ = ["THRESHOLD", "OutlierLinear", "outlier_channels"]

THRESHOLD = 6.0


def outlier_channels(peaks: Float[Tensor, " K"], threshold: float = THRESHOLD) -> list[int]:
    """The channels whose largest magnitude reaches a threshold."""
    return (peaks >= threshold).nonzero()[:, 0].tolist()


class OutlierLinear(nn.Module):
    """y = x W^T + bias, the columns of some channels in float32, the others in int8.

    Args:
        plain: the naive twin.
        channels: which inputs stay floats.

    Raises:
        ValueError: a channel that the layer does not have.
    """

    def __init__(self, plain: nn.Linear, channels: Sequence[int]):
        super().__init__()
        weight = plain.weight.detach()
        self.channels = sorted(set(wholes("channels", channels, most=plain.in_features - 1)))
        self.columns = weight[:, self.channels].float()  # (N, O)
        rest = weight.clone()
        rest[:, self.channels] = 0
        matrix = quantize(rest, Spec("int8"))
        integers = matrix.codes.view(torch.int8)
        self.rest = Int8DynamicLinear(integers, matrix.grid.scales[:, 0], plain.bias)

    def forward(self, x: Float[Tensor, "*R K"]) -> Float[Tensor, "*R N"]:
        small = x.clone()
        small[..., self.channels] = 0
        outliers = F.linear(x[..., self.channels].float(), self.columns)
        return self.rest(small) + outliers.to(x.dtype)
