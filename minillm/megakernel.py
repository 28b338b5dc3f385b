"""A small model's step as one call: weights that stay in the processor's own cache.

A draft of a million parameters needs some 60 microseconds to multiply them, and torch as long
again to be called a dozen times a layer. Compiled into one loop over layers, a step is one call.
It reads half the bytes, since the weights are rounded to bfloat16: a draft may be rounded, as what
it guesses is verified. And it skips neurons whose gate is shut: their rows would be multiplied
by zero.

The naive twin is the readable model with its matrices rounded to bfloat16; logits agree to 1e-4.

Dimensions: V vocabulary, H query heads, G key/value heads, D head dim, C width, F MLP width.

Source: the name and the idea are those of "Look Ma, No Bubbles!" (Hazy Research, 2025), there for
a whole model on a GPU.
"""

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from minillm.attention import Attend, Attention
from minillm.fused import plain_numbers
from minillm.kv_cache import KVCache
from minillm.step_loop import step
from minillm.transformer import MLP, Block, Transformer

__all__ = ["Megakernel"]

_BYTES = 4  # of a float32


class Megakernel:
    """A step of a small model for one token of one row.

    Args:
        model: in float32 on a CPU, with a relu gate; it stays as it is.

    Attributes:
        twin: the naive twin, `model` with its matrices rounded.

    Raises:
        ValueError: a model of another kind.
    """

    def __init__(self, model: Transformer):
        if not Megakernel.fits(model):
            raise ValueError(
                "a megakernel is made for the library's own blocks with a relu gate, "
                "in float32 on a CPU"
            )
        self.twin = twin = _rounded(model)
        self.config = config = model.config
        blocks: Any = list(twin.blocks)
        matrices = [matrix for block in blocks for matrix in _in_reading_order(block)]
        norms = [x for block in blocks for x in (block.attention_norm, block.mlp_norm)]
        self._matrices = torch.cat([_bits(matrix) for matrix in (*matrices, twin.head.weight)])
        self._norms = torch.stack([norm.weight.detach() for norm in (*norms, twin.norm)])
        H, G, D = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        C, F = config.hidden_size, config.intermediate_size
        self._sizes = config.num_hidden_layers, H, G, D, C, F, config.vocab_size
        room = 3 * C + F + (H + 2 * G) * D + config.max_position_embeddings
        self._scratch = torch.empty(room, dtype=torch.float32)

    @staticmethod
    def fits(model: Transformer) -> bool:
        """Whether the loop computes what this model does."""
        return (
            type(model) is Transformer
            and model.device.type == "cpu"
            and model.dtype == torch.float32
            and all(_fits(block) for block in model.blocks)
        )

    def __call__(self, token: int, cache: KVCache) -> Float[Tensor, " V"]:
        """The logits behind a token, which the cache, of one row, then holds.

        Raises:
            ValueError: a token or position that the model does not know, or a cache without room
                or of another shape.
        """
        slots, rotary, (L, _, G, D, C, _, V) = cache.capacity, self.twin.rotary, self._sizes
        if cache.keys.shape != (L, 1, G, slots, D) or not plain_numbers(cache.keys):
            raise ValueError(f"the cache is not made for this model: {tuple(cache.keys.shape)}")
        [start] = cache.room(1)
        if not (0 <= token < V and start < len(rotary.cos)):
            raise ValueError(f"token {token} at position {start} is beyond what the model knows")
        logits = torch.empty(V, dtype=torch.float32)
        step(
            self.twin.embed.weight.data_ptr() + _BYTES * token * C,
            self._matrices.data_ptr(),
            self._norms.data_ptr(),
            self.config.rms_norm_eps,
            rotary.cos.data_ptr() + _BYTES * start * D,
            rotary.sin.data_ptr() + _BYTES * start * D,
            cache.keys.data_ptr(),
            cache.values.data_ptr(),
            start,
            slots,
            *self._sizes,
            self._scratch.data_ptr(),
            logits.data_ptr(),
        )
        cache.advance(1)
        return logits


def _fits(block: nn.Module) -> bool:
    if type(block) is not Block or type(block.attention) is not Attention:
        return False
    attention, mlp = block.attention, block.mlp
    return (
        type(mlp) is MLP
        and type(mlp.act) is nn.ReLU
        and type(attention.attend) is Attend
        and attention.qk_norm is None
        and attention.qkv.bias is None
        and not any(x._forward_hooks or x._forward_pre_hooks for x in block.modules())
    )


def _rounded(model: Transformer) -> Transformer:
    """A copy whose matrices are in bfloat16's numbers."""
    twin = copy.deepcopy(model).eval()
    for weight in twin.parameters():
        weight.requires_grad_(False)
        if weight.ndim == 2:
            weight.copy_(weight.to(torch.bfloat16))
    return twin


def _in_reading_order(block: Block) -> list[Tensor]:
    """A block's matrices; up and down as (F, 2, C): of each neuron its row, then its column."""
    gate, up = block.mlp.gate_up.weight.chunk(2)
    neurons = torch.stack((up, block.mlp.down.weight.T), dim=1)
    return [block.attention.qkv.weight, block.attention.out.weight, gate, neurons]


def _bits(matrix: Tensor) -> Tensor:
    return matrix.to(torch.bfloat16).flatten()
