"""Rotary embedding: a position enters as a rotation of queries and keys.

Each pair of a head's dimensions turns by an angle that grows with the position, so that a score
knows how far two tokens are apart, and not where they stand.

Dimensions: B batch, T new tokens, D head dim.

Source: arXiv 2104.09864.
"""

import torch
from einops import rearrange
from torch import Tensor, nn

from minillm.config import ModelConfig

__all__ = ["Rotary", "Rotation", "rotate"]


class Rotary(nn.Module):
    """Cosines and sines of the rotary embedding for every position, (positions, D) each."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig):
        super().__init__()
        pairs = torch.arange(0, config.head_dim, 2, device="cpu", dtype=torch.float32)
        frequency = config.rope_theta ** -(pairs / config.head_dim)
        scaling, size = config.rope_scaling, 1.0
        if scaling is not None:
            frequency, size = scaling.scaled(frequency, config.rope_theta), scaling.attention
        position = torch.arange(config.max_position_embeddings, device="cpu", dtype=torch.float32)
        angle = position[:, None] * frequency
        cos, sin = angle.cos() * size, angle.sin() * size
        self.register_buffer("cos", torch.cat((cos, cos), -1), persistent=False)
        self.register_buffer("sin", torch.cat((-sin, sin), -1), persistent=False)

    def forward(self, cached: list[int], T: int, positions: Tensor | None) -> "Rotation":
        """The rows for T new tokens at `positions`, by default right after the cached ones."""
        first, last = 0, max(cached) + T - 1
        if positions is not None:
            first, last = torch.stack(positions.aminmax()).tolist()
        if first < 0:
            raise ValueError(f"a position must be at least 0, got {first}")
        if last >= len(self.cos):
            raise ValueError(f"position {last} is beyond the context of {len(self.cos)} tokens")
        if positions is None and len(set(cached)) == 1:
            return self.cos[cached[0] : cached[0] + T], self.sin[cached[0] : cached[0] + T]
        if positions is None:
            positions = torch.tensor(cached)[:, None] + torch.arange(T)
        positions = positions.to(self.cos.device)
        if positions.ndim == 1:
            return self.cos[positions], self.sin[positions]
        return self.cos[positions][:, None], self.sin[positions][:, None]  # (B, 1, T, D)


Rotation = tuple[Tensor, Tensor]  # cosines and sines, (T, D) or (B, 1, T, D)


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn each pair (x[i], x[i + D/2]) by its position's angle; x is (B, heads, T, D).

    The minus sign that a rotation needs stands in the first half of the sines.
    """
    cos, sin = rotation
    first, second = rearrange(x, "... (half d) -> half ... d", half=2)
    return torch.addcmul(x * cos, torch.cat((second, first), dim=-1), sin)
