"""The shape of a Llama-family model, read from a Hugging Face `config.json`.

One frozen dataclass holds every number the model needs. The reader refuses by name what the
model does not implement, so that no checkpoint is run as something it is not.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

__all__ = ["Activation", "ModelConfig", "read_json"]

Activation = Literal["relu", "silu", "gelu"]
_ACTIVATIONS: tuple[Activation, ...] = ("relu", "silu", "gelu")
_FAMILY = ("llama", "mistral", "qwen2", "qwen3")
_UNSUPPORTED_IF_SET = ("attention_bias", "mlp_bias", "quantization_config", "num_experts")
_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "max_position_embeddings",
)


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and switches of a `Transformer`; field names are Hugging Face's, where one exists.

    >>> config = ModelConfig(vocab_size=2048, hidden_size=384, num_hidden_layers=6,
    ...                      num_attention_heads=6, num_key_value_heads=2, head_dim=64,
    ...                      intermediate_size=1024)
    >>> config.kv_elements_per_token  # 2 x layers x kv heads x head dim
    1536
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    max_position_embeddings: int = 512
    hidden_act: Activation = "relu"
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    tie_word_embeddings: bool = True
    qkv_bias: bool = False
    qk_norm: bool = False
    model_type: str = "llama"

    def __post_init__(self) -> None:
        for name in _SIZES:
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number above 0, got {value!r}")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads ({self.num_attention_heads}) must be a multiple of "
                f"num_key_value_heads ({self.num_key_value_heads})"
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim must be even to be rotated, got {self.head_dim}")

    @property
    def kv_elements_per_token(self) -> int:
        """Cache elements one token adds: a key and a value per layer and key/value head."""
        return 2 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim

    @classmethod
    def from_file(cls, path: Path) -> "ModelConfig":
        """Read a Hugging Face `config.json`.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is not JSON, lacks a field, or asks for something unsupported.
        """
        return cls.from_dict(read_json(path))

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "ModelConfig":
        """Translate the fields of a Hugging Face config; see `from_file` for the errors."""
        _refuse_unsupported(fields)
        try:
            heads = fields["num_attention_heads"]
            return cls(
                vocab_size=fields["vocab_size"],
                hidden_size=fields["hidden_size"],
                num_hidden_layers=fields["num_hidden_layers"],
                num_attention_heads=heads,
                num_key_value_heads=fields.get("num_key_value_heads") or heads,
                head_dim=fields.get("head_dim") or fields["hidden_size"] // (heads or 1),
                intermediate_size=fields["intermediate_size"],
                max_position_embeddings=fields["max_position_embeddings"],
                hidden_act=fields.get("hidden_act", "silu"),
                rms_norm_eps=fields["rms_norm_eps"],
                rope_theta=_rope(fields).get("rope_theta", fields.get("rope_theta", 10_000.0)),
                tie_word_embeddings=fields.get("tie_word_embeddings", False),
                qkv_bias=fields["model_type"] == "qwen2",
                qk_norm=fields["model_type"] == "qwen3",
                model_type=fields["model_type"],
            )
        except KeyError as error:
            raise ValueError(f"config.json lacks the field {error}") from error
        except TypeError as error:
            raise ValueError(f"config.json has a field of a wrong type: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """The fields of a Hugging Face `config.json` that transformers reads back."""
        architectures = {
            "llama": "LlamaForCausalLM",
            "mistral": "MistralForCausalLM",
            "qwen2": "Qwen2ForCausalLM",
            "qwen3": "Qwen3ForCausalLM",
        }
        own = {k: v for k, v in vars(self).items() if k not in ("qkv_bias", "qk_norm")}
        window = {"sliding_window": None}  # Mistral's default would be one of 4096
        return {"architectures": [architectures[self.model_type]], **own, **window}


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not UTF-8, not JSON, or another kind of value.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(value).__name__}")
    return value


def _rope(fields: dict[str, Any]) -> dict[str, Any]:
    """The rope options: transformers 5 writes `rope_parameters`, before that `rope_scaling`."""
    return fields.get("rope_parameters") or fields.get("rope_scaling") or {}


def _refuse_unsupported(fields: dict[str, Any]) -> None:
    if fields.get("model_type") not in _FAMILY:
        raise ValueError(
            f"model_type must be one of {', '.join(_FAMILY)}, got {fields.get('model_type')!r}"
        )
    if fields.get("hidden_act", "silu") not in _ACTIVATIONS:
        raise ValueError(
            f"hidden_act must be one of {', '.join(_ACTIVATIONS)}, got {fields['hidden_act']!r}"
        )
    for name in _UNSUPPORTED_IF_SET:
        if fields.get(name):
            raise ValueError(f"config.json sets {name}={fields[name]!r}, which is not supported")
    rope_type = _rope(fields).get("rope_type", _rope(fields).get("type", "default"))
    if rope_type != "default":
        raise ValueError(f"rope type {rope_type!r} is not supported, only 'default'")
    if _rope(fields).get("partial_rotary_factor", fields.get("partial_rotary_factor", 1.0)) != 1.0:
        raise ValueError("partial_rotary_factor other than 1 is not supported")
    if fields.get("sliding_window") and fields.get("use_sliding_window", True):
        raise ValueError(f"sliding_window={fields['sliding_window']} is not supported")
