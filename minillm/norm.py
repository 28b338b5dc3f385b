"""RMSNorm: bring every vector to the same root mean square, then weigh its components.

Source: arXiv 1910.07467.
"""

import torch
from torch import Tensor, nn

__all__ = ["RMSNorm"]


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last axis, in float32 or better.

    It is `torch.nn.RMSNorm`, its naive twin, up to the rounding of eps, in half as many
    operations: on one token each operation costs more than its arithmetic. With C components,
    sqrt(mean(x^2) + eps) is hypot(|x|, sqrt(C eps)) / sqrt(C).
    """

    floor: Tensor

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps
        self.root = width**0.5
        self.register_buffer(
            "floor", torch.tensor([eps**0.5 * self.root], device="cpu"), persistent=False
        )

    def forward(self, x: Tensor) -> Tensor:
        precise = torch.promote_types(x.dtype, torch.float32)
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=precise)
        return (x * (self.weight * self.root / torch.hypot(norm, self.floor))).to(x.dtype)
