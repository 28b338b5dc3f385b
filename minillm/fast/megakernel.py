"""A small model's step as one call: weights that stay in the processor's own cache.

A draft of a million parameters needs some 60 microseconds to multiply them, and torch as long
again to be called a dozen times a layer. Compiled into one loop over layers, a step is one call.
It reads a quarter of the bytes, since the weights are rounded to eight bits and a scale for each
row: a draft may be rounded, as what it guesses is verified. And it skips neurons whose gate is
shut: their rows would be multiplied by zero.

The naive twin is the readable model with its matrices rounded; logits agree to 1e-4.

Dimensions: V vocabulary, H query heads, G key/value heads, D head dim, C width, F MLP width.

Source: the name and the idea are those of "Look Ma, No Bubbles!" (Hazy Research, 2025), there for
a whole model on a GPU.
"""

from typing import Any

import torch
from jaxtyping import Float, Int8
from torch import Tensor

from minillm.fast.kernels.step import step
from minillm.fast.plain import is_plain, plain_numbers
from minillm.kv_cache import KVCache
from minillm.modules import copied
from minillm.transformer import Block, Transformer
from minillm.whole import whole

__all__ = ["Megakernel"]

_BYTES = 4  # of a float32


class Megakernel:
    """A step of a small model for one token of one row.

    Args:
        model: in float32 on a CPU, with a relu gate and no biases; it stays as it is.

    Attributes:
        reference: the naive twin, `model` with its matrices rounded; changing it changes no step.

    Raises:
        ValueError: a model of another kind.
    """

    def __init__(self, model: Transformer):
        if not Megakernel.fits(model):
            raise ValueError(
                "a megakernel is made for the library's own model with a relu gate and no biases "
                "or hooks, in float32 on a CPU"
            )
        self.config = config = model.config
        self.reference = reference = _rounded(model)
        blocks: Any = list(reference.blocks)
        matrices = [matrix for block in blocks for matrix in _in_reading_order(block)]
        parts = [_eight_bits(matrix) for matrix in (*matrices, reference.head.weight)]
        self._integers, self._scales = (
            torch.cat([part.flatten() for part in kind]) for kind in zip(*parts, strict=True)
        )
        norms = [x for block in blocks for x in (block.attention_norm, block.mlp_norm)]
        self._norms = torch.stack([norm.weight for norm in (*norms, reference.norm)])
        self._embedding = reference.embed.weight.clone(memory_format=torch.contiguous_format)
        self._cos, self._sin = reference.rotary.cos.clone(), reference.rotary.sin.clone()
        H, G, D = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        C, F = config.hidden_size, config.intermediate_size
        self._sizes = config.num_hidden_layers, H, G, D, C, F, config.vocab_size
        room = 3 * C + F + (H + 2 * G) * D + len(self._cos)
        self._scratch = torch.empty(room, dtype=torch.float32, device="cpu")

    @staticmethod
    def fits(model: Transformer) -> bool:
        """Whether the loop computes what this model does: the library's own, part by part."""
        config = model.config
        biased = config.qk_norm or config.qkv_bias
        return is_plain(model) and config.hidden_act == "relu" and not biased

    def __call__(self, token: int, cache: KVCache) -> Float[Tensor, " V"]:
        """The logits behind a token, which the cache, of one row, then holds.

        Raises:
            ValueError: a token or position that the model does not know, or a cache without room
                or of another shape.
        """
        slots, (L, _, G, D, C, _, V) = cache.capacity, self._sizes
        if any(
            buffer.shape != (L, 1, G, slots, D) or not plain_numbers(buffer)
            for buffer in (cache.keys, cache.values)
        ):
            raise ValueError(f"the cache is not made for this model: {tuple(cache.keys.shape)}")
        [start] = cache.starts(1)
        token = whole("token", token, most=V - 1)
        if start >= len(self._cos):
            raise ValueError(f"position {start} is beyond the context of {len(self._cos)} tokens")
        logits = torch.empty(V, dtype=torch.float32, device="cpu")
        step(
            self._embedding.data_ptr() + _BYTES * token * C,
            self._integers.data_ptr(),
            self._scales.data_ptr(),
            self._norms.data_ptr(),
            self.config.rms_norm_eps,
            self._cos.data_ptr() + _BYTES * start * D,
            self._sin.data_ptr() + _BYTES * start * D,
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


def _rounded(model: Transformer) -> Transformer:
    """A copy whose matrices hold the numbers that the loop multiplies with."""
    rounded = copied(model).eval().requires_grad_(False)
    for name, weight in rounded.named_parameters():
        if weight.ndim == 2:
            rows = weight.T if name.endswith("down.weight") else weight
            integers, scales = _eight_bits(rows)
            rows.copy_(integers * scales[:, None])
    return rounded


def _in_reading_order(block: Block) -> list[Tensor]:
    """A block's matrices; up and down as (F, 2, C): of each neuron its row, then its column."""
    gate, up = block.mlp.gate_up.weight.chunk(2)
    neurons = torch.stack((up, block.mlp.down.weight.T), dim=1)
    return [block.attention.qkv.weight, block.attention.out.weight, gate, neurons]


def _eight_bits(rows: Float[Tensor, "*R K"]) -> tuple[Int8[Tensor, "*R K"], Float[Tensor, "*R"]]:
    """Integers and a scale for each row, the least that keeps the row within 127."""
    scales = rows.abs().amax(-1).clamp_min(torch.finfo(rows.dtype).tiny) / 127
    return (rows / scales[..., None]).round().to(torch.int8), scales
