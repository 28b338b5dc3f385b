"""GGUF's fields and names of weights, and Hugging Face's, which `minillm.checkpoint.names` fuses.

llama.cpp rotates neighbours (x[2i], x[2i + 1]) in the families of Llama, where Hugging Face rotates
halves (x[i], x[i + D/2]): there its converter permutes the rows of q and k, and here they go back.
With the wrong order a model still writes, only worse. Of Gemma's norms it writes 1 + weight, of its
layers with a window only how wide that is.

Dimensions: H heads, D head dim, C width.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from minillm.checkpoint.gguf.file import GGUF
from minillm.checkpoint.tensors import Stored
from minillm.rope_scaling import RopeScaling

__all__ = ["config_fields", "hugging_face_tensors"]

_PERMUTED = ("llama", "smollm3")
_GEMMA = "gemma3"
_FAMILIES = (*_PERMUTED, "qwen2", "qwen3", _GEMMA)
_FIELDS = {
    "num_hidden_layers": "block_count",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "max_position_embeddings": "context_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
}
_OPTIONAL = {
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "rope_theta": "rope.freq_base",
}
_WINDOWS = {"sliding_window": "attention.sliding_window"}
_SCALING = {
    "rope_type": "rope.scaling.type",
    "factor": "rope.scaling.factor",
    "original_max_position_embeddings": "rope.scaling.original_context_length",
}
_CHECKED = ("vocab_size", "attention.value_length", "rope.dimension_count", "expert_count")
_CHANGES_NOTHING = (*_CHECKED, "rope.scaling.finetuned")
_FACTORS = "rope_freqs.weight"  # of Llama 3.1 and later
_WHOLE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_OF_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


_OF_GEMMAS_LAYER = _OF_LAYER | {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}


def config_fields(gguf: GGUF) -> dict[str, Any]:
    """The fields of the config.json that says the same.

    Raises:
        ValueError: another family of models, a field that is missing, contradicts another, or is
            not known and may change the result.
    """
    family = gguf.metadata.get("general.architecture")
    if family not in _FAMILIES:
        raise ValueError(f"the architecture must be one of {', '.join(_FAMILIES)}, got {family!r}")
    prefix = f"{family}."
    given = {k.removeprefix(prefix): v for k, v in gguf.metadata.items() if k.startswith(prefix)}
    needed = _FIELDS | (_WINDOWS if family == _GEMMA else {})
    known = {*needed.values(), *_OPTIONAL.values(), *_SCALING.values(), *_CHANGES_NOTHING}
    if unknown := sorted(given.keys() - known):
        raise ValueError(f"the field {prefix}{unknown[0]} is not supported")
    if missing := [name for name in needed.values() if name not in given]:
        raise ValueError(f"the field {prefix}{missing[0]} is missing")
    if "token_embd.weight" not in gguf.tensors:
        raise ValueError("the tensor token_embd.weight is missing")
    fields = {
        ours: given[theirs] for ours, theirs in (needed | _OPTIONAL).items() if theirs in given
    }
    _refuse_other_sizes(given, fields)
    rows = gguf.tensors["token_embd.weight"].shape[0]
    said = given.get("vocab_size", rows)
    if type(said) is not int or said != rows:
        raise ValueError(f"vocab_size is not {rows}, the rows of token_embd.weight")
    scaling = {ours: given[theirs] for ours, theirs in _SCALING.items() if theirs in given}
    if scaling.get("rope_type") in (None, "none"):
        scaling = {}
    if _FACTORS in gguf.tensors:
        scaling = _scaling_of(gguf.tensors[_FACTORS].read(), fields)
    if family == _GEMMA:
        fields["query_pre_attn_scalar"] = _score_scale(fields)
    return fields | {
        "model_type": "gemma3_text" if family == _GEMMA else family,
        "vocab_size": rows,
        "num_key_value_heads": fields.get("num_key_value_heads", fields["num_attention_heads"]),
        "head_dim": fields.get("head_dim"),
        "rope_scaling": scaling,
        "tie_word_embeddings": "output.weight" not in gguf.tensors,
    }


def _score_scale(fields: Mapping[str, Any]) -> Any:
    """What Gemma divides scores by, squared: the head dim, but in 27B, which has 62 layers."""
    width = fields["hidden_size"] // fields["num_attention_heads"]
    return width if fields["num_hidden_layers"] == 62 else fields.get("head_dim", width)


def _scaling_of(factors: Tensor, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Llama 3.1's scaling by what each frequency is divided by; a file has nothing else of it."""
    theta, D = fields.get("rope_theta", 10_000.0), 2 * factors.numel()
    if not isinstance(theta, int | float):
        raise ValueError(f"rope_theta must be a number, got {theta!r}")
    frequency = theta ** -(torch.arange(0, D, 2, dtype=torch.float32, device="cpu") / D)
    scaling = RopeScaling("llama3", round(factors.max().item(), 3), 8192, slow=1.0, fast=4.0)
    if not torch.allclose(frequency / scaling.scaled(frequency, theta), factors, rtol=1e-3):
        raise ValueError(f"the factors of {_FACTORS} are not those of Llama 3.1, 3.2 or 3.3")
    return scaling.to_dict()


def _refuse_other_sizes(given: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    """See that values are as wide as keys, that all of a head is rotated, and experts are none."""
    heads, width = fields["num_attention_heads"], fields["hidden_size"]
    if type(heads) is not int or type(width) is not int or heads < 1:
        raise ValueError(f"{heads!r} heads for a width of {width!r} are not supported")
    D = fields.get("head_dim", width // heads)
    for name, wanted in (
        ("attention.value_length", D),
        ("rope.dimension_count", D),
        ("expert_count", 0),
    ):
        if given.get(name, wanted) != wanted:
            raise ValueError(f"{name}={given[name]!r} is not supported, only {wanted}")


def hugging_face_tensors(gguf: GGUF, fields: Mapping[str, Any]) -> dict[str, Stored]:
    """The tensors under Hugging Face's names and in its order of rows; others keep their names.

    Args:
        gguf: of which `config_fields` are `fields`.

    Raises:
        ValueError: two tensors of one name.
    """
    tensors: dict[str, Stored] = {}
    for name, stored in gguf.tensors.items():
        if name == _FACTORS:
            continue
        theirs = _hugging_face_name(name, fields["model_type"])
        if fields["model_type"] in _PERMUTED and theirs.endswith(
            ("q_proj.weight", "k_proj.weight")
        ):
            heads = "num_attention_heads" if "q_proj" in theirs else "num_key_value_heads"
            stored = _in_halves(stored, fields[heads])
        if fields["model_type"] == "gemma3_text" and theirs.endswith("norm.weight"):
            stored = _less_1(stored)
        if theirs in tensors:
            raise ValueError(f"two tensors are both {theirs}")
        tensors[theirs] = stored
    return tensors


def _hugging_face_name(name: str, model_type: str) -> str:
    of_layer = _OF_GEMMAS_LAYER if model_type == "gemma3_text" else _OF_LAYER
    match = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name)
    if match and match[2] in of_layer:
        return f"model.layers.{match[1]}.{of_layer[match[2]]}.{match[3]}"
    return _WHOLE.get(name, name)


def _in_halves(stored: Stored, heads: int) -> Stored:
    """Rows (H D/2 2) as (H 2 D/2)."""

    def read() -> Tensor:
        return rearrange(stored.read(), "(h d two) c -> (h two d) c", h=heads, two=2)

    return Stored(stored.shape, read)


def _less_1(stored: Stored) -> Stored:
    return Stored(stored.shape, lambda: stored.read() - 1)
