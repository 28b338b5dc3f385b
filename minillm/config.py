"""The shape of a Llama-family model, read from a Hugging Face `config.json`.

One frozen dataclass holds every number the model needs. The reader (`minillm.config_fields`)
refuses by name what the model does not implement, so that no checkpoint is run as something it is
not.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from minillm.config_fields.arguments import model_arguments
from minillm.files import read_json
from minillm.rope_scaling import RopeScaling

__all__ = ["Activation", "ModelConfig"]

Activation = Literal["relu", "silu", "gelu", "gelu_pytorch_tanh"]
_LONGEST = 1 << 20  # positions, whose rotations are a table
_WINDOWS = ("window", "window_layers", "window_rope_theta")
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
    rope_scaling: RopeScaling | None = None
    layers_without_rope: tuple[int, ...] = ()
    tie_word_embeddings: bool = True
    qkv_bias: bool = False
    qk_norm: bool = False
    window: int = field(default=0, repr=False)  # Gemma's
    window_layers: tuple[int, ...] = field(default=(), repr=False)
    window_rope_theta: float = field(default=10_000.0, repr=False)
    model_type: str = "llama"

    def __post_init__(self) -> None:
        for name in _SIZES:
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be a whole number above 0, got {value!r}")
        if self.max_position_embeddings > _LONGEST:
            raise ValueError(
                f"max_position_embeddings must be at most {_LONGEST}, got "
                f"{self.max_position_embeddings}"
            )
        if not min(self.rope_theta, self.window_rope_theta) > 0:
            thetas = self.rope_theta, self.window_rope_theta
            raise ValueError(f"a rope_theta must be above 0, got {min(thetas)}")
        if self.window_layers and not self.window > 0:
            raise ValueError(f"a window must be above 0, got {self.window}")
        if not self.rms_norm_eps >= 0:
            raise ValueError(f"rms_norm_eps must not be below 0, got {self.rms_norm_eps}")
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
        return cls(**model_arguments(fields))

    def to_dict(self) -> dict[str, Any]:
        """The fields of a Hugging Face `config.json` that transformers reads back."""
        architectures = {
            "llama": "LlamaForCausalLM",
            "mistral": "MistralForCausalLM",
            "qwen2": "Qwen2ForCausalLM",
            "qwen3": "Qwen3ForCausalLM",
            "smollm3": "SmolLM3ForCausalLM",
            "gemma3_text": "Gemma3ForCausalLM",
        }
        ours = ("qkv_bias", "qk_norm", "rope_scaling", "layers_without_rope", *_WINDOWS)
        fields = {k: v for k, v in vars(self).items() if k not in ours}
        fields["sliding_window"] = None  # Mistral's default would be one of 4096
        if self.rope_scaling is not None:
            fields["rope_scaling"] = self.rope_scaling.to_dict()
        if self.model_type == "smollm3":
            layers = range(self.num_hidden_layers)
            fields["pad_token_id"] = None  # by default one of SmolLM3's own vocabulary
            fields["no_rope_layers"] = [int(i not in self.layers_without_rope) for i in layers]
        if self.model_type == "gemma3_text":
            fields |= self._gemma_fields()
        return {"architectures": [architectures[self.model_type]], **fields}

    def _gemma_fields(self) -> dict[str, Any]:
        kinds = "full_attention", "sliding_attention"
        return {
            "hidden_activation": self.hidden_act,
            "query_pre_attn_scalar": self.head_dim,
            "sliding_window": self.window,
            "layer_types": [kinds[i in self.window_layers] for i in range(self.num_hidden_layers)],
            "rope_local_base_freq": self.window_rope_theta,
        }
