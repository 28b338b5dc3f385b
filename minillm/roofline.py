"""How long does a forward pass take? As long as its arithmetic or its reading, whichever is slower.

A processor multiplies while it reads, so a pass takes the longer of the two: its FLOPs at the rate
of the arithmetic, or its bytes at the bandwidth of the memory. A single new token needs every
weight for two FLOPs each, and waits for memory. More tokens in the same pass use the same reading:
they are free until their arithmetic takes as long. Where that point lies is a property of the
machine; which side a pass stands on, is one of its FLOPs per byte.

Dimensions: L layers, H query heads, G key/value heads, D head dim, C width, F MLP width,
V vocabulary.

Sources: the roofline model (Williams, Waterman, Patterson, Communications of the ACM 52(4), 2009);
"Transformer inference tricks" (Finbarr Timbers, 2023).
"""

from dataclasses import dataclass

from minillm.config import ModelConfig
from minillm.whole import whole

__all__ = ["Work", "free_tokens", "seconds", "work"]


@dataclass(frozen=True)
class Work:
    """What one forward pass computes and moves.

    Attributes:
        flops: multiplications and additions.
        weight_bytes: of weights, read.
        cache_bytes: of keys and values, read and written.
        activation_bytes: of what goes into and comes out of the matrix products.
    """

    flops: int
    weight_bytes: float
    cache_bytes: float
    activation_bytes: float

    @property
    def nbytes(self) -> float:
        """All that is read and written."""
        return self.weight_bytes + self.cache_bytes + self.activation_bytes

    @property
    def intensity(self) -> float:
        """FLOPs for each byte moved."""
        return self.flops / self.nbytes


def work(
    config: ModelConfig,
    *,
    new: int,
    cached: int = 0,
    batch: int = 1,
    weight_bytes: float = 4,
    cache_bytes: float = 4,
    logits: str = "all",
) -> Work:
    """One forward pass of `batch` rows with `new` tokens each, behind `cached` ones.

    Decode is new=1, prefill is cached=0, verification of a draft is new=guesses + 1. Counted are

    - FLOPs of the matrices, and of attention over visible keys. Norms, rotations and activation
      functions, which are small beside them, are not.
    - Weights, norms and biases included, each once: one reading serves every token of every row.
      Of an embedding that is not tied to the head, only the rows that are looked up.
    - Keys and values of all layers: each row reads those of its cached and its new tokens, and
      writes the new ones.
    - Activations: input and output of every matrix product, logits included. Attention counts as
      one product, queries in and mixed values out, since a fused kernel keeps its scores inside.

    Args:
        config: the model's.
        new: tokens that each row forwards.
        cached: tokens that each row's cache already holds.
        batch: rows.
        weight_bytes: of one weight.
        cache_bytes: of one number in the cache, and of one activation.
        logits: "all", of every new token; or "last", of the last one of each row.

    Raises:
        ValueError: a count or size out of range, other logits, or a Gemma, whose windows and norms
            are not counted.

    >>> tiny = ModelConfig(vocab_size=8, hidden_size=4, num_hidden_layers=1, num_attention_heads=2,
    ...                    num_key_value_heads=1, head_dim=2, intermediate_size=6)
    >>> work(tiny, new=1, cached=2)  # FLOPs: 2 x (32 + 16 + 72) + 4 x 2 x 2 x 3 + 2 x 32
    Work(flops=352, weight_bytes=656, cache_bytes=64, activation_bytes=264)
    """
    new, cached, batch = whole("new", new, 1), whole("cached", cached), whole("batch", batch, 1)
    if config.model_type == "gemma3_text":
        raise ValueError("the work of Gemma's windows and norms is not counted")
    if logits not in ("all", "last"):
        raise ValueError(f"logits must be 'all' or 'last', got {logits!r}")
    _above_zero(weight_bytes=weight_bytes, cache_bytes=cache_bytes)
    C, D, F, V = config.hidden_size, config.head_dim, config.intermediate_size, config.vocab_size
    H, G, L = config.num_attention_heads, config.num_key_value_heads, config.num_hidden_layers
    tokens, scored = batch * new, batch * (new if logits == "all" else 1)

    matrices = C * (H + 2 * G) * D + H * D * C + 3 * C * F  # of one layer
    vectors = 2 * C + config.qkv_bias * (H + 2 * G) * D + config.qk_norm * 2 * D
    looked_up = 0 if config.tie_word_embeddings else min(tokens, V) * C  # tied: part of the head
    weights = L * (matrices + vectors) + C + V * C + looked_up

    visible = new * cached + new * (new + 1) // 2  # keys seen, summed over the new tokens of a row
    attention = 4 * H * D * batch * visible

    inputs_and_outputs = 4 * C + 4 * H * D + 2 * G * D + 3 * F  # of one token in one layer
    return Work(
        flops=L * (2 * tokens * matrices + attention) + 2 * scored * V * C,
        weight_bytes=weights * weight_bytes,
        cache_bytes=config.kv_elements_per_token * batch * (cached + 2 * new) * cache_bytes,
        activation_bytes=(L * tokens * inputs_and_outputs + scored * (C + V)) * cache_bytes,
    )


def seconds(work: Work, flops_per_second: float, bandwidth: float, overhead: float = 0.0) -> float:
    """The time of a pass: the longer of computing and moving, after what every pass costs.

    Args:
        work: of the pass.
        flops_per_second: what the machine computes.
        bandwidth: bytes per second that it reads.
        overhead: seconds that neither arithmetic nor bytes account for.

    Raises:
        ValueError: a rate that is not above 0.
    """
    _above_zero(flops_per_second=flops_per_second, bandwidth=bandwidth)
    return overhead + max(work.flops / flops_per_second, work.nbytes / bandwidth)


def free_tokens(flops: float, bandwidth: float, weight_bytes: float = 2) -> float:
    """Tokens for which multiplying takes as long as reading the weights: up to here they are free.

    A weight of `weight_bytes` is read once, and takes two FLOPs for each token. What attention
    reads and computes is left out.

    Args:
        flops: per second, that the machine computes.
        bandwidth: bytes per second that it reads.
        weight_bytes: of one weight.

    Raises:
        ValueError: a value that is not above 0.

    >>> round(free_tokens(312e12, 2039e9))  # A100 80 GB SXM, 16 bits
    153
    """
    _above_zero(flops=flops, bandwidth=bandwidth, weight_bytes=weight_bytes)
    return flops * weight_bytes / (2 * bandwidth)


def _above_zero(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} must be above 0, got {value}")
