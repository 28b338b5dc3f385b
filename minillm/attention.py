"""Attention: each new token asks all tokens it may see, and mixes their values by the answers.

A token's query meets the keys of the tokens it sees; the softmax of the scores weighs their values.
Query heads share keys and values in groups, positions enter as rotations of queries and keys.
Where a cache is given, old keys and values come from it and only the new ones are computed.

Dimensions: B batch, T new tokens, S cached + new keys, H query heads, G key/value heads,
D head dim, C width.

Source: grouped-query attention (arXiv 2305.13245).
"""

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from minillm.config import ModelConfig
from minillm.norm import RMSNorm
from minillm.rotary import Rotation, rotate

__all__ = [
    "Attend",
    "Attention",
    "Cache",
    "attention_weights",
    "visible_keys",
]


class Cache(Protocol):
    """What models and decoders ask of a cache; `minillm.kv_cache.KVCache` is the plain one."""

    lengths: tuple[int, ...]  # tokens that each row holds

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]: ...

    def advance(self, count: int) -> None: ...

    def truncate(self, lengths: Sequence[int]) -> None: ...

    def keep(self, rows: Sequence[Sequence[int]]) -> None: ...


class Attend(nn.Module):
    """Softmax attention without parameters: the place to hook to see q, k and v.

    q is (B, H, T, D), k and v are (B, G, S, D), mask is (..., T, S) with True = visible. Without
    a mask attention is causal: the new tokens are the last T keys, and all others are visible.
    A hook that keeps k or v must copy them: of a cache they are views, which later steps fill.
    """

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        (_, H, T, _), G = q.shape, k.shape[1]
        if T == 1:  # the query heads of a group are so many queries of the same keys
            q = rearrange(q, "b (g n) 1 d -> b g n d", g=G)
            mixed = F.scaled_dot_product_attention(q, k, v, mask)
            return rearrange(mixed, "b g n d -> b (g n) 1 d")
        if mask is None and T < k.shape[2]:
            mask = causal_mask(T, k.shape[2], q.device)
        grouped = H != G
        if grouped and q.device.type == "mps":  # torch 2.6 aborts there (pytorch#149132)
            k, v = (repeat(x, "b g s d -> b (g n) s d", n=H // G) for x in (k, v))
            grouped = False
        return F.scaled_dot_product_attention(
            q, k, v, mask, is_causal=mask is None, enable_gqa=grouped
        )


def causal_mask(T: int, S: int, device: torch.device) -> Bool[Tensor, "T S"]:
    """What each of the last T of S tokens sees: itself and all before it."""
    return torch.ones(T, S, dtype=torch.bool, device=device).tril(S - T)


def attention_weights(
    q: Float[Tensor, "B H T D"], k: Float[Tensor, "B G S D"], mask: Bool[Tensor, "*B T S"] | None
) -> Float[Tensor, "B H T S"]:
    """The weights that the fused kernel hides, from the inputs of `Attend`."""
    T, S = q.shape[2], k.shape[2]
    if mask is None:
        mask = causal_mask(T, S, q.device)
    k = repeat(k, "b g s d -> b (g n) s d", n=q.shape[1] // k.shape[1])
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    return scores.masked_fill(~mask, float("-inf")).softmax(dim=-1)


class QKNorm(nn.Module):
    """Qwen3's RMSNorm of every query and key, one weight for queries and one for keys."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.heads = [config.num_attention_heads, config.num_key_value_heads]
        self.q = RMSNorm(config.head_dim, config.rms_norm_eps)
        self.k = RMSNorm(config.head_dim, config.rms_norm_eps)

    def forward(self, qk: Tensor) -> Tensor:
        q, k = qk.split(self.heads, dim=1)
        return torch.cat((self.q(q), self.k(k)), dim=1)


class Attention(nn.Module):
    """Each query head reads the keys and values of its group; q, k and v are one matrix."""

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        C, D = config.hidden_size, config.head_dim
        H, G = config.num_attention_heads, config.num_key_value_heads
        self.layer, self.head_dim = layer, D
        self.query_heads, self.kv_heads = H, G
        self.qkv = nn.Linear(C, (H + 2 * G) * D, bias=config.qkv_bias)
        self.out = nn.Linear(H * D, C, bias=False)
        self.qk_norm = QKNorm(config) if config.qk_norm else None
        self.rotates = layer not in config.layers_without_rope
        self.attend = Attend()

    def forward(
        self, x: Tensor, rotation: Rotation, mask: Tensor | None, cache: Cache | None
    ) -> Tensor:
        heads = rearrange(self.qkv(x), "b t (h d) -> b h t d", d=self.head_dim)  # h: q, k and v
        qk, v = heads.split([self.query_heads + self.kv_heads, self.kv_heads], dim=1)
        if self.qk_norm is not None:
            qk = self.qk_norm(qk)
        if self.rotates:
            qk = rotate(qk, rotation)
        q, k = qk.split([self.query_heads, self.kv_heads], dim=1)
        if cache is not None:
            k, v = cache.append(self.layer, k, v)  # (B, G, S, D)
        return self.out(rearrange(self.attend(q, k, v, mask), "b h t d -> b t (h d)"))


def visible_keys(
    cached: list[int], T: int, mask: Tensor | None, device: torch.device
) -> Tensor | None:
    """Extend a mask among T new tokens to all S = max(cached) + T keys of each row.

    Row b's new tokens stand in the slots from cached[b] on; what lies behind them is stale. The
    result is (T, S) or (B, 1, T, S), or None where attention is causal and no row has stale slots.
    """
    longest, equal = max(cached), len(set(cached)) == 1
    if mask is None:
        if equal:
            return None
        mask = causal_mask(T, T, device)
    if equal:
        past = mask.new_ones(*mask.shape[:-1], longest)
        mask = torch.cat((past, mask), dim=-1)
        return mask if mask.ndim == 2 else mask[:, None]
    start = torch.tensor(cached, device=device)[:, None]  # (B, 1)
    new = torch.arange(longest + T, device=device) - start  # (B, S) index among the new tokens
    among_new = mask.expand(len(cached), T, T).gather(
        2, repeat(new.clamp(0, T - 1), "b s -> b t s", t=T)
    )
    visible = (new < 0)[:, None] | among_new & (new < T)[:, None]
    return visible[:, None]  # (B, 1, T, S)
