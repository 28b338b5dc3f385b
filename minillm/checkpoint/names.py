"""Hugging Face's names of weights, and ours: q, k, v and gate, up are one matrix each here.

Loading fuses them, saving splits them again.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from minillm.config import ModelConfig
from minillm.transformer import Transformer

__all__ = ["fuse", "is_weight", "split"]

_EMBED, _HEAD = "model.embed_tokens.weight", "lm_head.weight"


def is_weight(name: str) -> bool:
    """Whether a stored tensor is one; older folders hold rotary buffers, which follow from config.

    Source: transformers 5 ignores these too, `PreTrainedModel._adjust_missing_and_unexpected_keys`.
    """
    return not name.endswith("rotary_emb.inv_freq")


def _parts(config: ModelConfig) -> dict[str, list[tuple[str, int]]]:
    """Our parameter names, each with the Hugging Face tensors it joins and their rows."""
    C, F = config.hidden_size, config.intermediate_size
    H, G = (
        config.num_attention_heads * config.head_dim,
        config.num_key_value_heads * config.head_dim,
    )
    qkv = [("q_proj", H), ("k_proj", G), ("v_proj", G)]
    parts = {"embed.weight": [(_EMBED, config.vocab_size)]}
    for i in range(config.num_hidden_layers):
        ours, theirs = f"blocks.{i}.", f"model.layers.{i}."
        attention = theirs + "self_attn."
        parts |= {
            ours + "attention_norm.weight": [(theirs + "input_layernorm.weight", C)],
            ours + "attention.qkv.weight": [(f"{attention}{x}.weight", n) for x, n in qkv],
            ours + "attention.out.weight": [(attention + "o_proj.weight", C)],
            ours + "mlp_norm.weight": [(theirs + "post_attention_layernorm.weight", C)],
            ours + "mlp.gate_up.weight": [
                (theirs + "mlp.gate_proj.weight", F),
                (theirs + "mlp.up_proj.weight", F),
            ],
            ours + "mlp.down.weight": [(theirs + "mlp.down_proj.weight", C)],
        }
        if config.qkv_bias:
            parts[ours + "attention.qkv.bias"] = [(f"{attention}{x}.bias", n) for x, n in qkv]
        if config.qk_norm:
            for x in ("q", "k"):
                theirs_norm = f"{attention}{x}_norm.weight"
                parts[f"{ours}attention.qk_norm.{x}.weight"] = [(theirs_norm, config.head_dim)]
    parts["norm.weight"] = [("model.norm.weight", C)]
    if not config.tie_word_embeddings:
        parts["head.weight"] = [(_HEAD, config.vocab_size)]
    return parts


def fuse(config: ModelConfig, tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Our parameters from Hugging Face's tensors, which were read from `path`.

    Raises:
        ValueError: a tensor is missing, not expected, or of another shape than the config asks; a
            tied head that differs from the embedding.
    """
    parts = _parts(config)
    expected = {name: rows for group in parts.values() for name, rows in group}
    if config.tie_word_embeddings:
        tensors = _tied(tensors, path)
    for problem, names in (
        ("lacks", expected.keys() - tensors.keys()),
        ("has unexpected", tensors.keys() - expected.keys()),
    ):
        if names:
            raise ValueError(f"{path} {problem} tensors: {', '.join(sorted(names))}")
    for name, rows in expected.items():
        if tensors[name].shape[:1] != (rows,):
            raise ValueError(
                f"{path}: {name} has shape {tuple(tensors[name].shape)}, config.json asks for "
                f"{rows} rows"
            )
    try:
        return {ours: torch.cat([tensors[n] for n, _ in group]) for ours, group in parts.items()}
    except RuntimeError as error:
        raise ValueError(f"{path}: a tensor is not as wide as config.json asks: {error}") from error


def _tied(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Of a matrix that is embedding and head, and is stored under either name or both, one."""
    if _HEAD not in tensors:
        return tensors
    rest = {name: tensor for name, tensor in tensors.items() if name != _HEAD}
    if not torch.equal(rest.setdefault(_EMBED, tensors[_HEAD]), tensors[_HEAD]):
        raise ValueError(
            f"{path}: {_HEAD} differs from {_EMBED}, but config.json has tie_word_embeddings=true"
        )
    return rest


def split(model: Transformer) -> Iterator[tuple[str, Tensor]]:
    """Hugging Face's names and tensors of a model."""
    state = model.state_dict()
    for ours, group in _parts(model.config).items():
        pieces = state[ours].split([rows for _, rows in group])
        yield from (
            (name, piece.contiguous()) for (name, _), piece in zip(group, pieces, strict=True)
        )
