"""A block with its small operations fused: on a CPU, in float32, between the same matrices.

One token's norm is a microsecond of arithmetic, but each call into torch costs a few, and more
after a matrix has streamed through the caches and swept its code out. So what lies between two
matrices becomes one compiled loop (`minillm.fast.kernels.float32`).

Dimensions: B batch, T new tokens, S cached + new keys, R rows (B x T), H query heads,
G key/value heads, D head dim, C width, F MLP width.
"""

from functools import lru_cache
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from minillm.attention import Attend, Attention, Cache, causal_mask
from minillm.fast.kernels import float32
from minillm.fast.linear import Kernel, KernelLinear
from minillm.fast.plain import plain_numbers
from minillm.kv_cache import KVCache
from minillm.norm import RMSNorm
from minillm.rotary import Rotation
from minillm.transformer import MLP, Block

__all__ = ["FusedBlock", "FusedNorm"]

_FEW = 1024  # queries times keys up to which one thread is faster than sharing them out
_BYTES = 4  # of a float32
_GATES = {nn.ReLU: float32.gate_relu, nn.SiLU: float32.gate_silu}


class FusedBlock(nn.Module):
    """`minillm.transformer.Block`, its naive twin, in a third of the calls.

    It writes into a `KVCache` of its own dtype. With any other cache, or none, under autocast, or
    with positions that are not one for each token, the twin runs.
    """

    def __init__(self, plain: Block):
        super().__init__()
        self.plain = plain
        attention = plain.attention
        self._qkv, self._out = _kernels(attention.qkv, attention.out)
        self._take_mlp(plain.mlp)
        self._norms = [plain.attention_norm.weight, plain.mlp_norm.weight]
        self._eps = plain.mlp_norm.eps
        self._heads = attention.query_heads, attention.kv_heads, attention.head_dim
        self._layer = attention.layer
        self._scratch = torch.empty(_FEW, dtype=torch.float32, device="cpu")

    @classmethod
    def fits(cls, block: nn.Module) -> TypeGuard[Block]:
        """Whether the loops compute what this block does: the library's own, part by part."""
        if type(block) is not Block or type(block.attention) is not Attention:
            return False
        attention, norms = block.attention, (block.attention_norm, block.mlp_norm)
        return (
            cls._fits_mlp(block.mlp)
            and type(attention.attend) is Attend
            and attention.qk_norm is None
            and attention.rotates
            and all(type(norm) is RMSNorm and plain_numbers(norm.weight) for norm in norms)
            and _are_fast(attention.qkv, attention.out)
            and not any(x._forward_hooks or x._forward_pre_hooks for x in block.modules())
        )

    @staticmethod
    def _fits_mlp(mlp: nn.Module) -> bool:
        return type(mlp) is MLP and type(mlp.act) in _GATES and _are_fast(mlp.gate_up, mlp.down)

    def _take_mlp(self, mlp: MLP) -> None:
        self._gate_up, self._down = _kernels(mlp.gate_up, mlp.down)
        self._gate = _GATES[type(mlp.act)]

    def forward(
        self, x: Tensor, rotation: Rotation, mask: Tensor | None, cache: Cache | None
    ) -> Tensor:
        if not self._writes_to(cache, x, rotation):
            return self.plain(x, rotation, mask, cache)
        B, T, C = x.shape
        rows, eps = B * T, self._eps
        before_attention, before_mlp = (weight.data_ptr() for weight in self._norms)
        x = x.contiguous().view(rows, C)  # of two dimensions: the shortest way through torch
        normed = torch.empty_like(x)
        x_address, normed_address = x.data_ptr(), normed.data_ptr()
        float32.norm(x_address, before_attention, eps, normed_address, rows, C)
        y = self._out(self._attend(self._qkv(normed), B, T, rotation, mask, cache))
        float32.add_and_norm(x_address, y.data_ptr(), before_mlp, eps, normed_address, rows, C)
        return self._feed_forward(normed, y).view(B, T, C)

    def _writes_to(self, cache: Cache | None, x: Tensor, rotation: Rotation) -> TypeGuard[KVCache]:
        """Whether the loops compute what these inputs ask for, and write it into the cache."""
        B, T, _ = x.shape
        D = self._heads[2]
        return (
            type(cache) is KVCache
            and x.dtype == cache.keys.dtype == rotation[0].dtype == torch.float32
            and rotation[0].shape in ((T, D), (B, 1, T, D))
            and not torch.is_autocast_enabled("cpu")
        )

    def _memory(self, cache: KVCache, B: int) -> tuple[int, int, int]:
        """Where this layer's keys and values begin, and the bytes of a row of either.

        Raises:
            ValueError: the cache is of another model or batch.
        """
        _, G, D = self._heads
        L, rows, groups, slots, size = cache.keys.shape
        if (
            (rows, groups, size) != (B, G, D)
            or self._layer >= L
            or cache.values.shape != cache.keys.shape
            or not (plain_numbers(cache.keys) and plain_numbers(cache.values))
        ):
            raise ValueError(f"the cache is not made for this model: {tuple(cache.keys.shape)}")
        stored = G * slots * D * _BYTES
        first = self._layer * B * stored
        return cache.keys.data_ptr() + first, cache.values.data_ptr() + first, stored

    def _feed_forward(self, normed: Tensor, y: Tensor) -> Tensor:
        """What the MLP says of `normed`, added to y; all (R, C)."""
        both = self._gate_up(normed)  # (R, 2F)
        rows, F = len(both), both.shape[-1] // 2
        self._gate(both.data_ptr(), rows, F)
        return self._down(both[:, :F]).add_(y)

    def _attend(
        self, qkv: Tensor, B: int, T: int, rotation: Rotation, mask: Tensor | None, cache: KVCache
    ) -> Tensor:
        """From (R, (H + 2G) D) to (R, H D)."""
        H, G, D = self._heads
        keys, values, stored = self._memory(cache, B)
        starts, slots = cache.starts(T), cache.capacity
        q, c, s = qkv.data_ptr(), rotation[0].data_ptr(), rotation[1].data_ptr()
        S = max(starts) + T
        few = mask is None and B * T * S <= _FEW
        row, turn = T * (H + 2 * G) * D * _BYTES, 0
        if rotation[0].ndim > 2:  # rows with positions of their own
            turn = T * D * _BYTES
        for start in starts:
            here = q, c, s, keys, values, start, slots, T, H, G, D
            if few:
                float32.attend(*here, self._scratch.data_ptr())
            else:
                float32.rotate_and_store(*here)
            q, c, s = q + row, c + turn, s + turn
            keys, values = keys + stored, values + stored
        if few:
            return qkv[:, : H * D]
        width = (H + 2 * G) * D
        queries = qkv.as_strided((B, H, T, D), (T * width, D, width, 1))
        k = cache.keys[self._layer].narrow(2, 0, S)
        v = cache.values[self._layer].narrow(2, 0, S)
        if mask is None and T < S:  # the heads of a group are so many queries of the same keys
            queries = queries.reshape(B, G, H // G * T, D)
            mixed = scaled_dot_product_attention(queries, k, v, _causal_bias(T, S, H // G))
            mixed = mixed.reshape(B, H, T, D)
        else:
            mixed = self.plain.attention.attend(queries, k, v, mask)
        return mixed.transpose(1, 2).reshape(B * T, H * D)


def _are_fast(*matrices: nn.Module) -> bool:
    return all(isinstance(matrix, KernelLinear) for matrix in matrices)


def _kernels(*matrices: Any) -> list[Kernel]:
    return [matrix.kernel for matrix in matrices]


class FusedNorm(nn.Module):
    """`minillm.norm.RMSNorm`, its naive twin, in one call; of float32, which the twin leaves."""

    def __init__(self, plain: RMSNorm):
        super().__init__()
        self.plain = plain

    @staticmethod
    def fits(norm: nn.Module) -> TypeGuard[RMSNorm]:
        """Whether the loop computes what this module does."""
        hooked = norm._forward_hooks or norm._forward_pre_hooks
        return type(norm) is RMSNorm and not hooked and plain_numbers(norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return self.plain(x)
        x, weight = x.contiguous(), self.plain.weight
        out, C = torch.empty_like(x), x.shape[-1]
        rows = x.numel() // C
        float32.norm(x.data_ptr(), weight.data_ptr(), self.plain.eps, out.data_ptr(), rows, C)
        return out


@lru_cache(maxsize=1)
def _causal_bias(T: int, S: int, heads: int) -> Tensor:
    """What a causal mask adds to the scores of a group's heads, in every block of a pass."""
    with torch.inference_mode(False):  # whose tensors could not be used elsewhere
        hidden = ~causal_mask(T, S, torch.device("cpu")).repeat(heads, 1)  # (heads T, S)
        bias = torch.zeros(hidden.shape, dtype=torch.float32, device="cpu")
        return bias.masked_fill_(hidden, float("-inf"))
