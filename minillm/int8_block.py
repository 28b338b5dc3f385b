"""A block over products of integers, with one call between two of them.

`minillm.int8.Int8Rows` gets floats and gives floats; around each product it rounds and rescales in
calls of its own. Here these belong to the loop between two products, so that a block is four
products and five calls.

Dimensions: T new tokens, H query heads, G key/value heads, D head dim, C width, F MLP width.
"""

from functools import partial
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from minillm import int8_loops
from minillm.attention import Cache, Rotation
from minillm.fused import FusedBlock, plain_numbers
from minillm.int8 import INT_MM, Int8Rows
from minillm.kv_cache import KVCache
from minillm.transformer import Block

__all__ = ["Int8Block"]


class Int8Block(FusedBlock):
    """`minillm.fused.FusedBlock`, its naive twin, over four `Int8Rows`.

    It is for one row with a cache; for all else the twin runs. Rounding turns a difference in the
    last bit into one of a whole step now and then, so that nothing here may depend on how many
    tokens a pass reads: attention is the same loop for one token and for hundreds, where the twin
    would change its kernel. A token's result is the same in any pass, bit for bit.
    """

    def __init__(self, plain: Block):
        super().__init__(plain)
        attention, mlp = plain.attention, plain.mlp
        layers: Any = attention.qkv, attention.out, mlp.gate_up, mlp.down
        self._columns = [layer.integers.T for layer in layers]
        self._scales = [layer.scales for layer in layers]
        self._make_room(1)

    @classmethod
    def fits(cls, block: nn.Module) -> TypeGuard[Block]:
        """Whether its matrices are `Int8Rows` with exact sums, its gate relu, and no bias."""
        if not super().fits(block) or type(block.mlp.act) is not nn.ReLU:
            return False
        attention, mlp = block.attention, block.mlp
        layers: Any = attention.qkv, attention.out, mlp.gate_up, mlp.down
        return all(type(x) is Int8Rows and x.name == INT_MM and x.bias is None for x in layers)

    def _make_room(self, T: int) -> None:
        """What lies between the products, kept for as many tokens again."""
        width, C = (columns.shape[1] for columns in self._columns[:2])
        K = [columns.shape[0] for columns in self._columns]
        make = partial(torch.empty, device="cpu")
        self._codes = [make(T, k, dtype=torch.int8) for k in K]
        self._floats = [make(T, n, dtype=torch.float32) for n in (1, width, C, C, 2 * K[3])]

    def forward(
        self, x: Tensor, rotation: Rotation, mask: Tensor | None, cache: Cache | None
    ) -> Tensor:
        B, T, C = x.shape
        H, G, D = self._heads
        if (
            B > 1
            or mask is not None
            or type(cache) is not KVCache
            or not x.dtype == cache.keys.dtype == rotation[0].dtype == torch.float32
            or rotation[0].shape != (T, D)
            or (*cache.keys.shape[1:3], cache.keys.shape[4]) != (1, G, D)
            or cache.values.shape != cache.keys.shape
            or not (plain_numbers(cache.keys) and plain_numbers(cache.values))
            or self._layer >= len(cache.keys)
            or torch.is_autocast_enabled("cpu")
        ):
            return super().forward(x, rotation, mask, cache)
        [start] = cache.room(T)
        if start + T > len(self._scratch):
            self._scratch = self._scratch.new_empty(cache.capacity)
        if T != len(self._codes[0]):
            self._make_room(T)
        x, slots, eps = (
            x.clone(memory_format=torch.contiguous_format),
            cache.keys.shape[3],
            self._eps,
        )
        at, first = x.data_ptr(), 4 * self._layer * G * slots * D
        steps, qkv, said, normed, both = (floats.data_ptr() for floats in self._floats)
        codes = [codes.data_ptr() for codes in self._codes]
        scales = [scales.data_ptr() for scales in self._scales]
        norms = [weight.data_ptr() for weight in self._norms]
        int8_loops.norm_and_round(at, norms[0], eps, normed, codes[0], steps, T, C)
        sums = self._sums(0)
        int8_loops.attend_and_round(
            sums.data_ptr(), steps, scales[0], qkv,
            rotation[0].data_ptr(), rotation[1].data_ptr(),
            cache.keys.data_ptr() + first, cache.values.data_ptr() + first,
            start, slots, T, H, G, D, self._scratch.data_ptr(), codes[1],
        )  # fmt: skip
        sums = self._sums(1)
        int8_loops.add_norm_and_round(
            sums.data_ptr(), steps, scales[1], said, at, norms[1], eps, normed, codes[2], T, C
        )
        sums, F = self._sums(2), self._codes[3].shape[1]
        int8_loops.gate_and_round(sums.data_ptr(), steps, scales[2], both, codes[3], T, F)
        sums = self._sums(3)
        int8_loops.add(sums.data_ptr(), steps, scales[3], said, at, T, C)
        return x

    def _sums(self, matrix: int) -> Tensor:
        return torch._int_mm(self._codes[matrix], self._columns[matrix])
