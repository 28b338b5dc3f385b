"""The arguments of a `ModelConfig` that a config.json asks for; what is unsupported is refused."""

from typing import Any

from minillm.config_fields.checked import checked
from minillm.config_fields.gemma import GEMMA, MOST_LAYERS, as_llama, windows
from minillm.config_fields.rope import rope_scaling, rope_theta

__all__ = ["model_arguments"]

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
    "gemma3_text": GEMMA,
}
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
    seen: dict[str, Any] = {}
    if model_type == "gemma3_text":
        seen = windows(fields)
        fields |= as_llama(fields)
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
        "rope_scaling": rope_scaling(fields),
        "layers_without_rope": _layers_without_rope(fields),
        **seen,
    }


def _derived(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields that follow from others where they are null, and the base of the rotation."""
    heads = checked("num_attention_heads", fields["num_attention_heads"], int)
    width = checked("hidden_size", fields["hidden_size"], int)
    null = {"num_key_value_heads": heads, "head_dim": width // (heads or 1)}
    filled = {name: value for name, value in null.items() if fields[name] is None}
    return filled | {"rope_theta": rope_theta(fields)}


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
    if "no_rope_layers" not in fields or layers > MOST_LAYERS:
        return ()
    if (listed := fields["no_rope_layers"]) is None:
        every = checked("no_rope_layer_interval", fields["no_rope_layer_interval"], int)
        return tuple(i for i in range(layers) if (i + 1) % every == 0) if every > 0 else ()
    if len(checked("no_rope_layers", listed, list)) < layers:
        raise ValueError(f"no_rope_layers is for {len(listed)} layers, {layers} are needed")
    return tuple(i for i in range(layers) if not listed[i])
