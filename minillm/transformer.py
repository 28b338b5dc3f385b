"""A Llama-family decoder: the one forward pass that every lesson runs.

Tokens become vectors; each block adds what attention and a gated MLP have to say; the head turns
the last vectors into scores for the next token. The model holds weights only: what it has already
seen lives in a cache that is passed in (`minillm.kv_cache`).

Dimensions: B batch, T new tokens, C width, F MLP width, V vocabulary.

Sources: Llama (arXiv 2302.13971); gated MLP (arXiv 2002.05202).
"""

from collections.abc import Callable
from functools import partial

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from minillm.attention import Attention, Cache, visible_keys
from minillm.config import ModelConfig
from minillm.norm import RMSNorm
from minillm.rotary import Rotary, Rotation

__all__ = ["MLP", "Block", "Transformer"]

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "gelu_pytorch_tanh": partial(nn.GELU, approximate="tanh"),
}


class MLP(nn.Module):
    """down(act(gate(x)) * up(x)); gate and up are one matrix, gate first."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.gate_up = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.act = _ACTIVATIONS[config.hidden_act]()
        self.down = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = rearrange(self.gate_up(x), "... (two f) -> two ... f", two=2)
        return self.down(self.act(gate) * up)


class Block(nn.Module):
    """Attention, then the MLP, each added to the residual stream."""

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        self.attention_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.attention = Attention(config, layer)
        self.mlp_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)

    def forward(
        self, x: Tensor, rotation: Rotation, mask: Tensor | None, cache: Cache | None
    ) -> Tensor:
        x = x + self.attention(self.attention_norm(x), rotation, mask, cache)
        return x + self.mlp(self.mlp_norm(x))


class Transformer(nn.Module):
    """`model(tokens, cache)` gives the logits after every new token.

    Attributes:
        name: what it was loaded by; empty for one that was not.
    """

    name = ""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        vectors = torch.empty(config.vocab_size, config.hidden_size)
        if not vectors.is_meta:  # where a draw would import torch's symbolic shapes: 60 MB
            vectors.normal_()
        self.embed = nn.Embedding.from_pretrained(vectors, freeze=False)
        self.blocks = nn.ModuleList(Block(config, i) for i in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.head.weight = self.embed.weight
        self.rotary = Rotary(config)

    @property
    def device(self) -> torch.device:
        return self.embed.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.embed.weight.dtype

    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        cache: Cache | None = None,
        *,
        positions: Int[Tensor, "*P T"] | None = None,
        mask: Bool[Tensor, "*M T T"] | None = None,
    ) -> Float[Tensor, "B T V"]:
        """Scores of the token after each new token: `head` of `hidden`."""
        return self.head(self.hidden(tokens, cache, positions=positions, mask=mask))

    def hidden(
        self,
        tokens: Int[Tensor, "B T"],
        cache: Cache | None = None,
        *,
        positions: Int[Tensor, "*P T"] | None = None,
        mask: Bool[Tensor, "*M T T"] | None = None,
    ) -> Float[Tensor, "B T C"]:
        """The vectors that the head reads, one per new token.

        Args:
            tokens: the new tokens of each row; the cache holds those before them.
            cache: appended to, and advanced by T when the pass is complete.
            positions: where the new tokens stand; by default right after the cached ones.
            mask: which new tokens (last axis) each new token sees, True = visible; causal by
                default. Cached tokens are always visible.

        Raises:
            ValueError: a position below 0 or beyond the context, a cache of another batch, or one
                without room for T more tokens.
        """
        cached = [0] if cache is None else list(cache.lengths)
        if cache is not None and len(cached) != len(tokens):
            raise ValueError(f"the cache has {len(cached)} rows, the tokens have {len(tokens)}")
        x = self.embed(tokens)  # (B, T, C)
        rotation = self.rotary(cached, tokens.shape[1], positions)
        visible = visible_keys(cached, tokens.shape[1], mask, self.device)
        for block in self.blocks:
            x = block(x, rotation, visible, cache)
        if cache is not None:
            cache.advance(tokens.shape[1])
        return self.norm(x)
