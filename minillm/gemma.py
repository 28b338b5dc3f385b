"""Gemma 3, and where it differs from Llama: four norms a block, and layers that see a window only.

What attention and the MLP say is normed once more before it is added. A *window layer* sees the
last few hundred tokens, and its positions rotate by another base; every sixth layer sees all. The
embedding is multiplied by sqrt(C). A norm's weight is what the files add to 1
(`minillm.checkpoint.names`).

Dimensions: B batch, T new tokens, S cached + new keys, C width.

Source: arXiv 2503.19786.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from minillm.attention import Cache, causal_mask, visible_keys
from minillm.config import ModelConfig
from minillm.norm import RMSNorm
from minillm.rotary import Rotary, Rotation
from minillm.transformer import Block, Transformer

__all__ = ["Gemma", "GemmaBlock", "in_window", "transformer_of"]


def transformer_of(config: ModelConfig) -> Transformer:
    """The model of a configuration, with random weights."""
    return Gemma(config) if config.model_type == "gemma3_text" else Transformer(config)


class GemmaBlock(Block):
    """Attention, then the MLP, each normed before and after, and added to the residual stream."""

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__(config, layer)
        self.after_attention_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.after_mlp_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.has_window = layer in config.window_layers

    def forward(
        self, x: Tensor, rotation: Rotation, mask: Tensor | None, cache: Cache | None
    ) -> Tensor:
        said = self.attention(self.attention_norm(x), rotation, mask, cache)
        x = x + self.after_attention_norm(said)
        return x + self.after_mlp_norm(self.mlp(self.mlp_norm(x)))


class Gemma(Transformer):
    """A `Transformer` of such blocks."""

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.blocks = nn.ModuleList(GemmaBlock(config, i) for i in range(len(self.blocks)))
        near = replace(config, rope_theta=config.window_rope_theta, rope_scaling=None)
        self.window_rotary = Rotary(near)

    def hidden(
        self,
        tokens: Tensor,
        cache: Cache | None = None,
        *,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """As `Transformer.hidden`; of the cached tokens a window layer sees the last ones."""
        (B, T), config = tokens.shape, self.config
        cached = [0] * B if cache is None else list(cache.lengths)
        if len(cached) != B:
            raise ValueError(f"the cache has {len(cached)} rows, the tokens have {B}")
        x = self.embed(tokens) * config.hidden_size**0.5  # (B, T, C)
        visible = visible_keys(cached, T, mask, self.device)
        within = in_window(config.window, cached, T, positions, visible, self.device)
        far = self.rotary(cached, T, positions), visible
        near = self.window_rotary(cached, T, positions), within
        for block in self.blocks:
            x = block(x, *(near if block.has_window else far), cache)
        if cache is not None:
            cache.advance(T)
        return self.norm(x)


def in_window(
    window: int,
    cached: Sequence[int],
    T: int,
    positions: Tensor | None,
    visible: Tensor | None,
    device: torch.device,
) -> Bool[Tensor, "B 1 T S"]:
    """Which of the visible keys stand fewer than `window` positions before each new token.

    A cached key stands where it was stored, a new one at its position.
    """
    B, S = len(cached), max(cached) + T
    stands = torch.arange(S, device=device).expand(B, S)
    new = torch.tensor(cached, device=device)[:, None] + torch.arange(T, device=device)  # (B, T)
    if positions is not None:
        stands = stands.scatter(1, new, positions.to(device).expand(B, T))
    near = stands.gather(1, new)[:, :, None] - stands[:, None] < window  # (B, T, S)
    return near[:, None] & (causal_mask(T, S, device) if visible is None else visible)
