"""ModelConfig: what it reads, what it derives, and what it refuses by name."""

import json
from pathlib import Path

import pytest

from minillm import ModelConfig, shipped
from minillm.checkpoint import folder

FIELDS = {
    "model_type": "llama",
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
    "rope_theta": 5000.0,
    "hidden_act": "gelu",
    "tie_word_embeddings": True,
}

REQUIRED = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
)
WRONG: dict[type, list[object]] = {
    int: [True, "8", 8.0, [8]],
    float: [None, True, "1e-6", float("nan"), float("inf"), 10**400],
    bool: [None, 0, "false"],
    str: [None, 1, ["silu"]],
}


def test_fields_are_taken_as_they_stand() -> None:
    assert vars(ModelConfig.from_dict(FIELDS)) == FIELDS | {
        "qkv_bias": False,
        "qk_norm": False,
        "rope_scaling": None,
        "layers_without_rope": (),
        "window": 0,
        "window_layers": (),
        "window_rope_theta": 10_000.0,
    }


@pytest.mark.parametrize(("field", "derived"), [("head_dim", 8), ("num_key_value_heads", 4)])
def test_null_is_derived_from_the_heads(field: str, derived: int) -> None:
    assert getattr(ModelConfig.from_dict(FIELDS | {field: None}), field) == derived


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_theta": 7e5},
        {"rope_theta": 7e5, "rope_scaling": None},
        {"rope_theta": 7e5, "rope_scaling": {"rope_type": "default"}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 7e5}},
        {"rope_parameters": {"rope_theta": 7e5}, "rope_theta": 1.0},
        {"rope_parameters": None, "rope_theta": 7e5},
    ],
    ids=str,
)
def test_both_spellings_of_rope(rope: dict[str, object]) -> None:
    fields = {k: v for k, v in FIELDS.items() if k != "rope_theta"}
    assert ModelConfig.from_dict(fields | rope).rope_theta == 7e5


@pytest.mark.parametrize(
    ("model_type", "qkv_bias", "qk_norm"),
    [
        ("llama", False, False),
        ("mistral", False, False),
        ("qwen2", True, False),
        ("qwen3", False, True),
    ],
)
def test_switches_of_the_family(model_type: str, qkv_bias: bool, qk_norm: bool) -> None:
    config = ModelConfig.from_dict(FIELDS | {"model_type": model_type})
    assert (config.qkv_bias, config.qk_norm) == (qkv_bias, qk_norm)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"model_type": "gpt2"}, "model_type must be .* got 'gpt2'"),
        ({"model_type": None}, "model_type"),
        ({"attention_bias": True}, "attention_bias"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"quantization_config": {}}, "quantization_config"),
        ({"attention_bias": 0}, "attention_bias=0"),
        ({"attention_chunk_size": 8}, "attention_chunk_size=8"),
        ({"is_causal": False}, "is_causal=False"),
        ({"per_layer_config": {"0": {}}}, "per_layer_config"),
        ({"transformers_weights": "other.safetensors"}, "transformers_weights"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
        ({"layer_types": "full_attention"}, "layer_types must be a list"),
        ({"rope_scaling": {"type": "longrope", "factor": 2.0}}, "rope type 'longrope'"),
        ({"rope_scaling": {"type": "linear", "factor": -2.0}}, "factors and a context above 0"),
        (
            {"rope_scaling": {"type": "yarn", "factor": 2.0, "beta_fast": 0.5}},
            "turns of 0 < slow < fast",
        ),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0, "truncate": 1}}, "truncate must be"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "the factor of rope type 'llama3'"),
        (
            {"rope_scaling": {"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 1.0}},
            "the high_freq_factor of rope type 'llama3'",
        ),
        (
            {"rope_scaling": {"type": "linear", "factor": "1"}},
            "rope type 'linear' must be a .*number",
        ),
        (
            {"rope_scaling": {"type": "linear", "factor": True}},
            "rope type 'linear' must be a .*number",
        ),
        ({"rope_scaling": {"type": "yarn", "factor": 2, "mscale": 0.7}}, "'yarn' with mscale"),
        ({"rope_scaling": {"rope_type": None, "type": "default"}}, "rope type None"),
        ({"rope_scaling": [1]}, "rope_scaling must be an object"),
        ({"rope_parameters": "linear"}, "rope_parameters must be an object"),
        ({"rope_parameters": {"full_attention": {}}}, "by layer type .* 'full_attention'"),
        ({"rope_parameters": {"rope_theta": None}}, "rope_theta must be a finite number"),
        ({"rope_theta": 0}, "rope_theta must be above 0"),
        ({"rms_norm_eps": -1e-6}, "rms_norm_eps must not be below 0"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "rope type 'yarn'"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"partial_rotary_factor": "1"}, "partial_rotary_factor must be a finite number"),
        ({"hidden_act": "quick_gelu"}, "hidden_act must be .* 'quick_gelu'"),
        ({"num_attention_heads": 5}, "num_attention_heads"),
        ({"head_dim": 7}, "head_dim must be even"),
        ({"head_dim": 0}, "head_dim must be .* above 0"),
        ({"num_key_value_heads": 0}, "num_key_value_heads must be .* above 0"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"num_hidden_layers": -1}, "num_hidden_layers"),
    ],
    ids=str,
)
def test_the_unsupported_is_refused_by_name(fields: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        ModelConfig.from_dict(FIELDS | fields)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((field, value) for field, right in FIELDS.items() for value in WRONG[type(right)]),
        *((field, None) for field in (*REQUIRED, "max_position_embeddings")),
    ],
    ids=lambda x: str(x)[:20],
)
def test_a_value_of_a_wrong_type_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        ModelConfig.from_dict(FIELDS | {field: value})


SLIDING = {"sliding_window": 16, "use_sliding_window": True, "max_window_layers": 1}


@pytest.mark.parametrize(
    ("model_type", "fields"),
    [
        ("llama", {"sliding_window": 16}),  # transformers shortens its cache
        ("llama", {"sliding_window": 16, "use_sliding_window": False}),  # which is Qwen's switch
        ("mistral", {"sliding_window": 16}),
        ("mistral", {"sliding_window": 16, "use_sliding_window": False}),
        ("mistral", {"sliding_window": 0}),
        ("mistral", {"max_position_embeddings": 4097}),  # its default is 4096
        ("qwen2", SLIDING),
        ("qwen3", SLIDING),
        ("qwen3", {"use_sliding_window": True, "max_window_layers": 0, "sliding_window": 63}),
        ("qwen2", SLIDING | {"use_sliding_window": "false"}),
        ("qwen2", SLIDING | {"sliding_window": "16"}),
        ("qwen2", SLIDING | {"max_window_layers": None}),
        ("mistral", {"sliding_window": False}),
    ],
    ids=str,
)
def test_a_window_shorter_than_the_context_is_refused(
    model_type: str, fields: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match=r"sliding_window|max_window_layers"):
        ModelConfig.from_dict(FIELDS | {"model_type": model_type} | fields)


@pytest.mark.parametrize("field", REQUIRED)
def test_a_missing_field_is_named(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        ModelConfig.from_dict({k: v for k, v in FIELDS.items() if k != field})


@pytest.mark.parametrize("text", ["", '{"vocab_size": 9', "[]", "7", "\xff", "[" * 100_000])
def test_a_file_that_is_no_config_is_a_value_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"config\.json"):
        ModelConfig.from_file(tmp_path / "config.json")


def test_no_file_is_file_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ModelConfig.from_file(tmp_path / "config.json")


@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2", "qwen3"])
def test_to_dict_reads_back(model_type: str) -> None:
    config = ModelConfig.from_dict(FIELDS | {"model_type": model_type})
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("name", shipped())
def test_shipped_models_have_the_promised_shape(name: str) -> None:
    config = ModelConfig.from_file(folder(name) / "config.json")
    assert config.hidden_act == "relu"
    assert config.num_attention_heads > config.num_key_value_heads
    assert config.kv_elements_per_token == (
        2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    )
