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


def test_fields_are_taken_as_they_stand() -> None:
    assert vars(ModelConfig.from_dict(FIELDS)) == FIELDS | {"qkv_bias": False, "qk_norm": False}


@pytest.mark.parametrize(
    ("absent", "field", "default"),
    [
        ("head_dim", "head_dim", 8),  # hidden_size / num_attention_heads
        ("num_key_value_heads", "num_key_value_heads", 4),
        ("hidden_act", "hidden_act", "silu"),
        ("rope_theta", "rope_theta", 10_000.0),
        ("tie_word_embeddings", "tie_word_embeddings", False),
    ],
)
def test_absent_fields_default_as_in_transformers(absent: str, field: str, default: object) -> None:
    for fields in ({k: v for k, v in FIELDS.items() if k != absent}, FIELDS | {absent: None}):
        if absent in fields and absent not in ("head_dim", "num_key_value_heads"):
            continue  # null means absent in these two only
        assert getattr(ModelConfig.from_dict(fields), field) == default


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
        ({"num_experts": 8}, "num_experts"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope type 'linear'"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "rope type 'llama3'"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "rope type 'yarn'"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"sliding_window": 16}, "sliding_window=16"),
        ({"sliding_window": 16, "use_sliding_window": True}, "sliding_window=16"),
        ({"hidden_act": "gelu_pytorch_tanh"}, "hidden_act must be .* 'gelu_pytorch_tanh'"),
        ({"num_attention_heads": 5}, "num_attention_heads"),
        ({"head_dim": 7}, "head_dim must be even"),
        ({"vocab_size": "97"}, "vocab_size"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"num_hidden_layers": -1}, "num_hidden_layers"),
    ],
    ids=str,
)
def test_the_unsupported_is_refused_by_name(fields: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        ModelConfig.from_dict(FIELDS | fields)


def test_a_sliding_window_that_is_off_is_accepted() -> None:
    off = {"sliding_window": 16, "use_sliding_window": False}
    assert ModelConfig.from_dict(FIELDS | off) == ModelConfig.from_dict(FIELDS)


@pytest.mark.parametrize(
    "field",
    ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"],
)
def test_a_missing_field_is_named(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        ModelConfig.from_dict({k: v for k, v in FIELDS.items() if k != field})


@pytest.mark.parametrize("text", ["", '{"vocab_size": 9', "[]", "7", "\xff"])
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
