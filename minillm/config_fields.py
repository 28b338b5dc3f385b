"""The fields of a Hugging Face `config.json`, as transformers 5 reads them.

A field that changes the result is obeyed or refused by name; one that changes nothing is neither.
What is absent has the default of its model type.
"""

import math
from sys import float_info
from typing import Any

from minillm.rope_scaling import RopeScaling

__all__ = ["checked", "model_arguments"]

_KINDS = {
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    str: "a text",
    dict: "an object",
    list: "a list",
}
_EVERY: dict[str, Any] = {
    "head_dim": None,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": False,
    "is_causal": True,
    "per_layer_config": None,
    "quantization_config": None,
    "transformers_weights": None,
}
_QWEN = {
    "max_position_embeddings": 32_768,
    "num_key_value_heads": 32,
    "use_sliding_window": False,
    "sliding_window": 4096,
    "max_window_layers": 28,
}
_GEMMA = {
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
_DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {
        "max_position_embeddings": 2048,
        "num_key_value_heads": None,
        "attention_bias": False,
        "mlp_bias": False,
        "attention_chunk_size": None,
        "sliding_window": None,
    },
    "mistral": {
        "max_position_embeddings": 131_072,
        "num_key_value_heads": 8,
        "attention_chunk_size": None,
        "sliding_window": 4096,
    },
    "qwen2": _QWEN,
    "qwen3": _QWEN | {"head_dim": 128, "attention_bias": False},
    "smollm3": {
        "max_position_embeddings": 32_768,
        "num_key_value_heads": 4,
        "rope_theta": 2_000_000.0,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "no_rope_layers": None,
        "no_rope_layer_interval": 4,
        "use_sliding_window": False,
        "sliding_window": None,
        "max_window_layers": 0,
    },
    "gemma3_text": _GEMMA,
}
_FULL, _SLIDING = "full_attention", "sliding_attention"
_MOST_LAYERS = 10_000
_SCALED = ("linear", "llama3", "yarn")
_SUPPORTED_AT_DEFAULT = (
    "attention_bias",
    "mlp_bias",
    "attention_chunk_size",
    "final_logit_softcapping",
    "attn_logit_softcapping",
    "use_bidirectional_attention",
    "is_causal",
    "per_layer_config",
    "quantization_config",
    "transformers_weights",
)
_ARGUMENTS: dict[str, type] = {
    "vocab_size": int,
    "hidden_size": int,
    "num_hidden_layers": int,
    "num_attention_heads": int,
    "num_key_value_heads": int,
    "head_dim": int,
    "intermediate_size": int,
    "max_position_embeddings": int,
    "hidden_act": str,
    "rms_norm_eps": float,
    "rope_theta": float,
    "tie_word_embeddings": bool,
    "model_type": str,
}
_ACTIVATIONS = {
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_pytorch_tanh": "gelu_pytorch_tanh",
}


def checked(name: str, value: Any, kind: type) -> Any:
    """A field's value, if it is of a kind; a whole number is a number too, a bool is neither.

    Raises:
        ValueError: it is of another kind, or not finite.
    """
    if kind is float and type(value) is int and abs(value) <= float_info.max:
        value = float(value)
    if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"{name} must be {_KINDS[kind]}, got {value!r}")
    return value


def model_arguments(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `minillm.config.ModelConfig` that a config.json asks for.

    Raises:
        ValueError: a field is missing, of a wrong type, or asks for something unsupported.
    """
    model_type = checked("model_type", given.get("model_type"), str)
    if model_type not in _DEFAULTS:
        raise ValueError(f"model_type must be one of {', '.join(_DEFAULTS)}, got {model_type!r}")
    defaults = _EVERY | _DEFAULTS[model_type]
    fields = defaults | given
    for name in (name for name in _SUPPORTED_AT_DEFAULT if name in defaults):
        if fields[name] is not None and fields[name] is not defaults[name]:
            raise ValueError(f"config.json sets {name}={fields[name]!r}, which is not supported")
    if missing := [name for name in _ARGUMENTS if name not in fields]:
        raise ValueError(f"config.json lacks the field {missing[0]!r}")
    windows: dict[str, Any] = {}
    if model_type == "gemma3_text":
        windows = _windows(fields)
        fields |= _as_llama(fields)
    fields |= _derived(fields)
    arguments = {name: checked(name, fields[name], kind) for name, kind in _ARGUMENTS.items()}
    activation = arguments["hidden_act"]
    if activation not in _ACTIVATIONS:
        raise ValueError(f"hidden_act must be one of {', '.join(_ACTIVATIONS)}, got {activation!r}")
    _refuse_window(fields)
    return arguments | {
        "hidden_act": _ACTIVATIONS[activation],
        "qkv_bias": model_type == "qwen2",
        "qk_norm": model_type in ("qwen3", "gemma3_text"),
        "rope_scaling": _rope_scaling(fields),
        "layers_without_rope": _layers_without_rope(fields),
        **windows,
    }


def _windows(fields: dict[str, Any]) -> dict[str, Any]:
    """Which of Gemma's layers see a window only, how wide it is, and what its positions rotate by.

    Raises:
        ValueError: a kind of layer that is not known, or window layers whose rotations are scaled.
    """
    layers = checked("num_hidden_layers", fields["num_hidden_layers"], int)
    kinds = fields["layer_types"]
    if kinds is None:
        every = checked("sliding_window_pattern", fields["sliding_window_pattern"], int)
        count = range(1, min(layers, _MOST_LAYERS) + 1)
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


def _as_llama(fields: dict[str, Any]) -> dict[str, Any]:
    """Gemma's fields that say the same as others of Llama, its windows left out."""
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


def _derived(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields that follow from others where they are null, and the base of the rotation."""
    heads = checked("num_attention_heads", fields["num_attention_heads"], int)
    width = checked("hidden_size", fields["hidden_size"], int)
    null = {"num_key_value_heads": heads, "head_dim": width // (heads or 1)}
    filled = {name: value for name, value in null.items() if fields[name] is None}
    return filled | {"rope_theta": _rope_theta(fields)}


def _refuse_window(fields: dict[str, Any]) -> None:
    """See that every layer sees the whole context; Qwen has a switch, and layers without."""
    layers = fields.get("layer_types")
    if layers is not None and any(
        x != "full_attention" for x in checked("layer_types", layers, list)
    ):
        raise ValueError(f"layer_types={layers!r} is not supported, only 'full_attention'")
    if "use_sliding_window" in _DEFAULTS[fields["model_type"]]:
        first = checked("max_window_layers", fields["max_window_layers"], int)
        full = layers is not None or first >= fields["num_hidden_layers"]
        if full or not checked("use_sliding_window", fields["use_sliding_window"], bool):
            return
    window, context = fields["sliding_window"], fields["max_position_embeddings"]
    if window is not None and checked("sliding_window", window, int) < context:
        raise ValueError(
            f"sliding_window={window} is not supported: it is shorter than the context of {context}"
        )


def _layers_without_rope(fields: dict[str, Any]) -> tuple[int, ...]:
    """SmolLM3's: a list with 0 for each, or every fourth."""
    layers = fields["num_hidden_layers"]
    if "no_rope_layers" not in fields or layers > _MOST_LAYERS:
        return ()
    if (listed := fields["no_rope_layers"]) is None:
        every = checked("no_rope_layer_interval", fields["no_rope_layer_interval"], int)
        return tuple(i for i in range(layers) if (i + 1) % every == 0) if every > 0 else ()
    if len(checked("no_rope_layers", listed, list)) < layers:
        raise ValueError(f"no_rope_layers is for {len(listed)} layers, {layers} are needed")
    return tuple(i for i in range(layers) if not listed[i])


def _rope(fields: dict[str, Any]) -> dict[str, Any]:
    """The options of the rotary embedding.

    Transformers 5 writes `rope_parameters`; before that there was `rope_scaling`, which wins.
    """
    rope: dict[str, Any] = {}
    for name in ("rope_parameters", "rope_scaling"):
        if fields.get(name) is not None:
            rope = checked(name, fields[name], dict) or rope
    if nested := [name for name, value in rope.items() if isinstance(value, dict)]:
        raise ValueError(f"rope options by layer type are not supported, got {nested[0]!r}")
    part = rope.get("partial_rotary_factor", fields.get("partial_rotary_factor"))
    if part is not None and checked("partial_rotary_factor", part, float) != 1:
        raise ValueError(f"partial_rotary_factor={part} is not supported, only 1")
    return rope


def _rope_theta(fields: dict[str, Any]) -> Any:
    return _rope(fields).get("rope_theta", fields["rope_theta"])


def _rope_scaling(fields: dict[str, Any]) -> RopeScaling | None:
    """How the frequencies change; a factor of 1 changes nothing."""
    rope = _rope(fields)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind in ("default", "dynamic"):  # which only scales beyond the context
        return None
    if kind not in _SCALED:
        raise ValueError(f"rope type {kind!r} is not supported, only {', '.join(_SCALED)}")

    def number(name: str, default: float | None = None, of: type = float) -> Any:
        given = rope.get(name, default)
        return checked(f"the {name} of rope type {kind!r}", default if given is None else given, of)

    factor, context = number("factor"), fields["max_position_embeddings"]
    context = number("original_max_position_embeddings", context, int)
    if factor == 1 and rope.get("attention_factor") in (None, 1):
        return None
    if kind == "linear":
        return RopeScaling(kind, factor, context)
    if kind == "llama3":
        turns = number("low_freq_factor"), number("high_freq_factor")
        return RopeScaling(kind, factor, context, *turns)
    if refused := [name for name in ("mscale", "mscale_all_dim") if rope.get(name)]:
        raise ValueError(f"rope type 'yarn' with {refused[0]} is not supported")
    attention = number("attention_factor", 0.1 * math.log(factor) + 1 if factor > 1 else 1.0)
    turns, whole = (number("beta_slow", 1.0), number("beta_fast", 32.0)), rope.get("truncate", True)
    return RopeScaling(kind, factor, context, *turns, attention, checked("truncate", whole, bool))
