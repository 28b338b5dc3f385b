"""Gemma 3's fields: layers with a window and two rotary bases, and the rest as Llama names it."""

from typing import Any

from minillm.config_fields.checked import checked

__all__ = ["GEMMA", "MOST_LAYERS", "as_llama", "windows"]

GEMMA: dict[str, Any] = {
    "max_position_embeddings": 131_072,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "tie_word_embeddings": True,
    "attention_bias": False,
    "query_pre_attn_scalar": 256,
    "rope_theta": 1_000_000.0,
    "rope_local_base_freq": 10_000.0,
    "sliding_window": 4096,
    "sliding_window_pattern": 6,
    "layer_types": None,
    "final_logit_softcapping": None,
    "attn_logit_softcapping": None,
    "use_bidirectional_attention": False,
}
MOST_LAYERS = 10_000  # of which a list is made
_FULL, _SLIDING = "full_attention", "sliding_attention"


def windows(fields: dict[str, Any]) -> dict[str, Any]:
    """Which of Gemma's layers see a window only, how wide it is, and what its positions rotate by.

    Raises:
        ValueError: a kind of layer that is not known, or window layers whose rotations are scaled.
    """
    layers = checked("num_hidden_layers", fields["num_hidden_layers"], int)
    kinds = fields["layer_types"]
    if kinds is None:
        every = checked("sliding_window_pattern", fields["sliding_window_pattern"], int)
        count = range(1, min(layers, MOST_LAYERS) + 1)
        kinds = [_SLIDING if every < 1 or i % every else _FULL for i in count]
    if any(kind not in (_FULL, _SLIDING) for kind in checked("layer_types", kinds, list)):
        raise ValueError(f"layer_types={kinds!r} is not supported, only {_FULL!r} and {_SLIDING!r}")
    rope = {"rope_theta": fields["rope_local_base_freq"]} | _rope_of(fields, _SLIDING)
    if (kind := rope.get("rope_type", "default")) != "default":
        raise ValueError(f"rope type {kind!r} is not supported in layers with a window")
    if len(kinds) < layers:
        raise ValueError(f"layer_types is for {len(kinds)} layers, {layers} are needed")
    near = tuple(i for i, kind in enumerate(kinds[:layers]) if kind == _SLIDING)
    return {
        "window": checked("sliding_window", fields["sliding_window"], int) if near else 0,
        "window_layers": near,
        "window_rope_theta": checked("rope_local_base_freq", rope["rope_theta"], float),
    }


def as_llama(fields: dict[str, Any]) -> dict[str, Any]:
    """Gemma's fields that say the same as others of Llama, its windows left out.

    Raises:
        ValueError: scores that are scaled by another number than `head_dim`.
    """
    scale, D = fields["query_pre_attn_scalar"], fields["head_dim"]
    if scale != D:
        raise ValueError(f"query_pre_attn_scalar={scale!r} is not supported, only head_dim={D!r}")
    scaling = checked("rope_scaling", fields.get("rope_scaling") or {}, dict)
    return {
        "hidden_act": fields["hidden_activation"],
        "rope_parameters": _rope_of(fields, _FULL) | scaling,
        **dict.fromkeys(("rope_scaling", "layer_types", "sliding_window")),
    }


def _rope_of(fields: dict[str, Any], kind: str) -> dict[str, Any]:
    """Gemma's rope options of a kind of layers, as transformers 5 writes them."""
    rope = checked("rope_parameters", fields.get("rope_parameters") or {}, dict)
    return checked(f"rope_parameters of {kind}", rope.get(kind) or {}, dict)
