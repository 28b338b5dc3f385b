"""Hugging Face's names of weights, and ours: q, k, v and gate, up are one matrix each here.

Loading fuses them, saving splits them again.
"""

from collections.abc import Iterator, Mapping, Set
from pathlib import Path

import torch
from torch import Tensor

from minillm.checkpoint.tensors import Stored, refuse_infinite
from minillm.config import ModelConfig
from minillm.gemma import transformer_of
from minillm.transformer import Transformer

__all__ = ["fuse", "split"]

_EMBED, _HEAD = "model.embed_tokens.weight", "lm_head.weight"
_NORMS = {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
_GEMMA_NORMS = {
    "attention_norm": "input_layernorm",
    "after_attention_norm": "post_attention_layernorm",
    "mlp_norm": "pre_feedforward_layernorm",
    "after_mlp_norm": "post_feedforward_layernorm",
}
_NAMED = 5  # tensors that an error lists


def _parts(config: ModelConfig) -> dict[str, list[tuple[str, int]]]:
    """Our parameter names, each with the Hugging Face tensors it joins and their rows."""
    C, F = config.hidden_size, config.intermediate_size
    H, G = (
        config.num_attention_heads * config.head_dim,
        config.num_key_value_heads * config.head_dim,
    )
    qkv = [("q_proj", H), ("k_proj", G), ("v_proj", G)]
    parts = {"embed.weight": [(_EMBED, config.vocab_size)]}
    norms = _GEMMA_NORMS if config.model_type == "gemma3_text" else _NORMS
    for i in range(config.num_hidden_layers):
        ours, theirs = f"blocks.{i}.", f"model.layers.{i}."
        attention = theirs + "self_attn."
        parts |= {f"{ours}{x}.weight": [(f"{theirs}{y}.weight", C)] for x, y in norms.items()}
        parts |= {
            ours + "attention.qkv.weight": [(f"{attention}{x}.weight", n) for x, n in qkv],
            ours + "attention.out.weight": [(attention + "o_proj.weight", C)],
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


def _lacks_one(config: ModelConfig, tensor: Tensor) -> bool:
    """Whether files hold a tensor less 1: of Gemma the norms, which are all its vectors."""
    return config.model_type == "gemma3_text" and tensor.ndim == 1


def fuse(
    config: ModelConfig,
    stored: Mapping[str, Stored],
    path: Path,
    device: torch.device,
    dtype: torch.dtype,
) -> dict[str, Tensor]:
    """Our parameters from Hugging Face's tensors, which lie in `path`; one is read at a time.

    Raises:
        ValueError: a tensor is missing, not expected, of another shape than the config asks, or
            not finite in `dtype`; a tied head that differs from the embedding.
    """
    if config.num_hidden_layers > len(stored):
        raise ValueError(
            f"{path} has {len(stored)} tensors, too few for {config.num_hidden_layers} layers"
        )
    parts = _parts(config)
    expected = {name: rows for group in parts.values() for name, rows in group}
    if config.tie_word_embeddings:
        stored = _tied(stored, path)
    for problem, names in (
        ("lacks", expected.keys() - stored.keys()),
        ("has unexpected", stored.keys() - expected.keys()),
    ):
        if names:
            raise ValueError(f"{path} {problem} tensors: {_some(names)}")
    for name, rows in expected.items():
        if stored[name].shape[:1] != (rows,):
            raise ValueError(
                f"{path}: {name} has shape {stored[name].shape}, its config asks for {rows} rows"
            )
    with torch.device("meta"):  # of sizes that the tensors have: no config makes it endless
        state = transformer_of(config).state_dict()
        shapes = {ours: tensor.shape for ours, tensor in state.items()}

    def joined(ours: str, group: list[tuple[str, int]]) -> Tensor:
        whole = torch.empty(shapes[ours], device=device, dtype=dtype)
        places = whole.split([rows for _, rows in group])
        for (name, _), place in zip(group, places, strict=True):
            place.copy_(stored[name].read())
            refuse_infinite({name: place}, path)
        if _lacks_one(config, whole):
            whole += 1
        return whole

    for ours, group in parts.items():
        for name, rows in group:
            if stored[name].shape != (shape := (rows, *shapes[ours][1:])):
                raise ValueError(
                    f"{path}: {name} has shape {stored[name].shape}, its config asks for {shape}"
                )
    return {ours: joined(ours, group) for ours, group in parts.items()}


def _tied(stored: Mapping[str, Stored], path: Path) -> dict[str, Stored]:
    """Of a matrix that is embedding and head, and is stored under either name or both, one."""
    rest = {name: tensor for name, tensor in stored.items() if name != _HEAD}
    if _HEAD not in stored:
        return rest
    if _EMBED in rest and not torch.equal(rest[_EMBED].read(), stored[_HEAD].read()):
        raise ValueError(
            f"{path}: {_HEAD} differs from {_EMBED}, but its config has tie_word_embeddings=true"
        )
    return {_EMBED: stored[_HEAD]} | rest


def _some(names: Set[str]) -> str:
    """The first few names."""
    first = sorted(names)[:_NAMED]
    return ", ".join(first) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def split(model: Transformer) -> Iterator[tuple[str, Tensor]]:
    """Hugging Face's names and tensors of a model."""
    state = model.state_dict()
    for ours, group in _parts(model.config).items():
        whole = state[ours]
        if _lacks_one(model.config, whole):
            whole = whole - 1
        pieces = whole.split([rows for _, rows in group])
        yield from (
            (name, piece.contiguous()) for (name, _), piece in zip(group, pieces, strict=True)
        )
