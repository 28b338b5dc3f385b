"""Count the work of a forward pass: floating-point operations for given tokens and cache.

Dimensions: T new tokens, S cached + new keys, H query heads, D head dim.
"""

from minillm.config import ModelConfig

__all__ = ["forward_flops"]


def forward_flops(config: ModelConfig, new: int, cached: int = 0) -> int:
    """Multiplications and additions of the matrices and of attention over visible keys.

    One row of the batch; logits of the last token only; norms, rotations and activations, which
    are small beside them, are not counted.

    >>> tiny = ModelConfig(vocab_size=8, hidden_size=4, num_hidden_layers=1, num_attention_heads=2,
    ...                    num_key_value_heads=1, head_dim=2, intermediate_size=6)
    >>> forward_flops(tiny, new=1, cached=2)  # 2 x (32 + 16 + 72) + 2 x 32 + 4 x 2 x 2 x 3
    352
    """
    C, D = config.hidden_size, config.head_dim
    H, G = config.num_attention_heads, config.num_key_value_heads
    attention_weights = C * (H + 2 * G) * D + H * D * C
    mlp_weights = 3 * C * config.intermediate_size
    visible = new * cached + new * (new + 1) // 2  # keys seen, summed over the new tokens
    per_layer = 2 * new * (attention_weights + mlp_weights) + 4 * H * D * visible
    return config.num_hidden_layers * per_layer + 2 * C * config.vocab_size
