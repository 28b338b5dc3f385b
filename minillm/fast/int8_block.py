"""A block over products of integers, with one call between two of them.

`minillm.fast.int8_linear.Int8DynamicLinear` gets floats and gives floats; around each product it
rounds and rescales in calls of its own. Here these belong to the loop between two products, so that
a block is four products and five calls.

Dimensions: T new tokens, H query heads, G key/value heads, D head dim, C width, F MLP width.
"""

from functools import partial
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from minillm.attention import Cache
from minillm.fast.block import FusedBlock
from minillm.fast.int8_linear import Int8DynamicLinear, integer_sums
from minillm.fast.kernels import int8
from minillm.rotary import Rotation
from minillm.transformer import Block

__all__ = ["Int8Block"]


class Int8Block(FusedBlock):
    """`minillm.fast.block.FusedBlock`, its naive twin, over four `Int8DynamicLinear`.

    It is for one row with a cache; for all else the twin runs. Rounding turns a difference in the
    last bit into one of a whole step now and then, so that nothing here may depend on how many
    tokens a pass reads: attention is the same loop for one token and for hundreds, where the twin
    would change its kernel. A token's result is the same in any pass, bit for bit.
    """

    def __init__(self, plain: Block):
        super().__init__(plain)
        attention, mlp = plain.attention, plain.mlp
        layers: Any = attention.qkv, attention.out, mlp.gate_up, mlp.down
        self._integers = [layer.integers for layer in layers]
        self._scales = [layer.scales for layer in layers]
        self._make_room(1)

    @classmethod
    def fits(cls, block: nn.Module) -> TypeGuard[Block]:
        """Whether its matrices are int8 on the host, its gate relu, and no bias."""
        if not super().fits(block) or type(block.mlp.act) is not nn.ReLU:
            return False
        attention, mlp = block.attention, block.mlp
        layers: Any = attention.qkv, attention.out, mlp.gate_up, mlp.down
        return all(
            type(x) is Int8DynamicLinear and x.integers.is_cpu and x.bias is None for x in layers
        )

    def _make_room(self, T: int) -> None:
        """What lies between the products, kept for as many tokens again."""
        width, C = (len(integers) for integers in self._integers[:2])
        K = [integers.shape[1] for integers in self._integers]
        make = partial(torch.empty, device="cpu")
        self._codes = [make(T, k, dtype=torch.int8) for k in K]
        self._floats = [make(T, n, dtype=torch.float32) for n in (1, width, C, C, 2 * K[3])]

    def forward(
        self, x: Tensor, rotation: Rotation, mask: Tensor | None, cache: Cache | None
    ) -> Tensor:
        B, T, C = x.shape
        H, G, D = self._heads
        one_row = B == 1 and rotation[0].shape == (T, D) and mask is None
        if not (one_row and self._writes_to(cache, x, rotation)):
            return super().forward(x, rotation, mask, cache)
        keys, values, _ = self._memory(cache, B)
        [start] = cache.starts(T)
        if start + T > len(self._scratch):
            self._scratch = self._scratch.new_empty(cache.capacity)
        if T != len(self._codes[0]):
            self._make_room(T)
        x, eps = x.clone(memory_format=torch.contiguous_format), self._eps
        at = x.data_ptr()
        steps, qkv, said, normed, both = (floats.data_ptr() for floats in self._floats)
        codes = [codes.data_ptr() for codes in self._codes]
        scales = [scales.data_ptr() for scales in self._scales]
        norms = [weight.data_ptr() for weight in self._norms]
        int8.norm_and_round(at, norms[0], eps, normed, codes[0], steps, T, C)
        sums = self._sums(0)
        int8.attend_and_round(
            sums.data_ptr(), steps, scales[0], qkv,
            rotation[0].data_ptr(), rotation[1].data_ptr(), keys, values,
            start, cache.capacity, T, H, G, D, self._scratch.data_ptr(), codes[1],
        )  # fmt: skip
        sums = self._sums(1)
        int8.add_norm_and_round(
            sums.data_ptr(), steps, scales[1], said, at, norms[1], eps, normed, codes[2], T, C
        )
        sums, F = self._sums(2), self._codes[3].shape[1]
        int8.gate_and_round(sums.data_ptr(), steps, scales[2], both, codes[3], T, F)
        sums = self._sums(3)
        int8.add(sums.data_ptr(), steps, scales[3], said, at, T, C)
        return x

    def _sums(self, matrix: int) -> Tensor:
        return integer_sums(self._codes[matrix], self._integers[matrix])
