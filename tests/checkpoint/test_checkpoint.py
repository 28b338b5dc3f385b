"""Checkpoints: the same numbers as transformers from the same folder, and clear refusals."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import oracles
import pytest
import torch
from safetensors.torch import load_file, save_file

import minillm
from minillm import ModelConfig, Transformer
from minillm.checkpoint import folder, save
from minillm.data.heldout import openings
from minillm.files import write_whole
from minillm.tokens import for_family

TOKENIZER = folder("stories") / "tokenizer.json"
TURNS = {"low_freq_factor": 0.1, "high_freq_factor": 0.6}
ORIGINAL = {"original_max_position_embeddings": 16}


def rope(kind: str, **options: Any) -> dict[str, Any]:
    """Of a head of 8 dimensions, whose four pairs turn 2.5 to 0.02 times within 16 tokens."""
    return {"rope_type": kind, "rope_theta": 500.0, "factor": 4.0} | options


FAMILY: list[tuple[str, dict[str, Any]]] = [
    ("LlamaConfig", {"hidden_act": "relu", "tie_word_embeddings": True}),
    ("LlamaConfig", {"hidden_act": "silu", "num_key_value_heads": 4}),
    ("LlamaConfig", {"hidden_act": "gelu", "head_dim": 12, "num_key_value_heads": 1}),
    ("MistralConfig", {"sliding_window": None}),
    ("MistralConfig", {"sliding_window": None, "head_dim": 16, "tie_word_embeddings": True}),
    ("Qwen2Config", {}),
    ("Qwen2Config", {"tie_word_embeddings": True}),
    ("Qwen3Config", {"head_dim": 16}),
    ("LlamaConfig", {"rope_parameters": rope("linear", factor=2.0)}),
    ("LlamaConfig", {"rope_parameters": rope("llama3", **TURNS, **ORIGINAL)}),
    ("MistralConfig", {"sliding_window": None, "rope_parameters": rope("yarn", **ORIGINAL)}),
    ("Qwen2Config", {"rope_parameters": rope("yarn", attention_factor=1.5, truncate=False)}),
    ("SmolLM3Config", {"num_hidden_layers": 4, "pad_token_id": None}),
    (
        "SmolLM3Config",
        {
            "pad_token_id": None,
            "no_rope_layers": [0, 1],
            "rope_parameters": rope("yarn", beta_fast=4.0),
        },
    ),
    ("Qwen3Config", {"head_dim": 12, "tie_word_embeddings": True, "hidden_act": "gelu"}),
]
family = pytest.mark.parametrize(("kind", "changes"), FAMILY, ids=str)


@pytest.fixture(scope="module", autouse=True)
def _no_progress_bars() -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()


def theirs(kind: str, path: Path, **changes: Any) -> Any:
    """A tiny random model of transformers, in float32, saved in `path`."""
    import transformers

    fields = {
        "vocab_size": 97,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-4,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
        "tie_word_embeddings": False,
    }
    config = getattr(transformers, kind)(**(fields | changes))
    with torch.random.fork_rng():
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4, generator=generator)
    model.save_pretrained(path)
    shutil.copy(TOKENIZER, path)
    return model


def logits_of(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(tokens).logits


Tensors = dict[str, torch.Tensor]


def respell(path: Path, change: Callable[[Tensors], Tensors]) -> None:
    save_file(change(load_file(path / "model.safetensors")), path / "model.safetensors")


# Parity


@pytest.mark.parametrize("name", minillm.shipped())
def test_shipped_folders_in_transformers(name: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = minillm.load(name)
    twin = AutoModelForCausalLM.from_pretrained(folder(name), dtype=torch.float32).eval()
    prompts = openings(tokenizer)
    long = [token for prompt in prompts[60:100] for token in prompt]
    assert len(long) > 512
    for row in (prompts[0], prompts[40], long[:512]):
        tokens = torch.tensor([row])
        assert (model(tokens) - logits_of(twin, tokens)).abs().max() < 1e-4
    text = "One day, Ana saw a zebra.\nIt said: hello!"
    their_tokens = AutoTokenizer.from_pretrained(folder(name)).encode(text)
    assert tokenizer.encode(text).ids == their_tokens


@family
def test_random_models_of_the_family(kind: str, changes: dict[str, Any], tmp_path: Path) -> None:
    twin = theirs(kind, tmp_path, **changes)
    model, _ = minillm.load(tmp_path)
    tokens = oracles.tokens_of(0, 3, 64, vocabulary=97)
    assert (model(tokens) - logits_of(twin, tokens)).abs().max() < 1e-5


@family
def test_cached_decoding_equals_generate(
    kind: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    twin = theirs(kind, tmp_path, **changes).double()
    model, _ = minillm.load(tmp_path, dtype=torch.float64)
    prompt = oracles.tokens_of(1, 4, 12, vocabulary=97)
    out = twin.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_new_tokens=30,
        eos_token_id=None,
        pad_token_id=0,
    )
    ours = minillm.collect(minillm.decode_cached(model, prompt.tolist(), max_new_tokens=30))
    assert ours == out[:, 12:].tolist()
    assert len({token for row in ours for token in row}) > 5  # not one token for ever


@family
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_what_is_saved_loads_in_both(
    kind: str, changes: dict[str, Any], dtype: torch.dtype, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    theirs(kind, tmp_path / "a", **changes)
    model, tokenizer = minillm.load(tmp_path / "a")
    save(tmp_path / "b", model, tokenizer, dtype)
    again, same_tokenizer = minillm.load(tmp_path / "b")
    assert again.config == model.config
    assert same_tokenizer.to_str() == for_family(tokenizer, model.config.model_type).to_str()
    assert again.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor.to(dtype).float())
    twin = AutoModelForCausalLM.from_pretrained(tmp_path / "b", dtype=torch.float32).eval()
    assert twin.config.model_type == model.config.model_type
    assert getattr(twin.config, "sliding_window", None) is None
    tokens = oracles.tokens_of(0, 2, 64, vocabulary=97)
    assert (again(tokens) - logits_of(twin, tokens)).abs().max() < 1e-5
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]


SPELLINGS: list[tuple[str, dict[str, Any]]] = [  # `...` takes a field away
    ("LlamaConfig", {"rms_norm_eps": ..., "max_position_embeddings": ..., "hidden_act": ...}),
    ("LlamaConfig", {"head_dim": ..., "rope_parameters": ..., "tie_word_embeddings": ...}),
    ("LlamaConfig", {"rope_parameters": ..., "rope_theta": 700}),
    ("Qwen3Config", {"rope_parameters": ..., "rope_theta": 300.0, "rope_scaling": None}),
    ("Qwen3Config", {"rope_parameters": None}),
    ("LlamaConfig", {"hidden_act": "swish", "num_experts": 8}),
    ("LlamaConfig", {"hidden_act": "gelu_python", "quantization_config": None}),
    ("LlamaConfig", {"sliding_window": 64}),
    ("MistralConfig", {"sliding_window": 64, "use_sliding_window": False}),
    ("MistralConfig", {"sliding_window": ..., "attention_bias": True, "mlp_bias": True}),
    ("Qwen2Config", {"layer_types": ..., "sliding_window": 8, "use_sliding_window": ...}),
    ("Qwen2Config", {"layer_types": ..., "sliding_window": 8, "use_sliding_window": True}),
    ("Qwen2Config", {"attention_bias": True, "max_position_embeddings": ...}),
    ("Qwen3Config", {"sliding_window": 8, "use_sliding_window": True}),  # layer_types: all full
    ("Qwen3Config", {"sliding_window": 64, "use_sliding_window": True, "max_window_layers": 1}),
    ("LlamaConfig", {"rope_scaling": {"type": "linear", "factor": 1}, "rope_theta": 700.0}),
    ("LlamaConfig", {"rope_scaling": {"rope_type": "linear", "factor": 1.0, "rope_theta": 7e5}}),
    ("MistralConfig", {"sliding_window": None, "rope_scaling": {"type": "dynamic", "factor": 4.0}}),
    ("LlamaConfig", {"rope_scaling": {"type": "linear", "rope_type": "default", "factor": 2.0}}),
    ("Qwen3Config", {"rope_scaling": {"factor": 2.0}, "rope_theta": 700.0}),
    ("Qwen2Config", {"rope_scaling": {"rope_type": "yarn", "factor": 1.0}}),
    (
        "LlamaConfig",
        {
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 1.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            }
        },
    ),
]


@pytest.mark.parametrize(("kind", "fields"), SPELLINGS, ids=str)
def test_every_spelling_of_a_config_means_the_same(
    kind: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    theirs(kind, tmp_path, head_dim=8)
    reconfigure(tmp_path, **fields)
    twin = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    tokens = oracles.tokens_of(0, 1, 64, vocabulary=97)
    ours = minillm.load(tmp_path)[0](tokens)
    assert (ours - logits_of(twin, tokens)).abs().max() < 1e-5


ROPE = {"rope_scaling", "layers_without_rope"}
WINDOWS = {"window", "window_layers", "window_rope_theta"}
DERIVED = {"qkv_bias", "qk_norm", "head_dim", "rope_theta"} | ROPE | WINDOWS


@pytest.mark.parametrize("name", ["Llama", "Mistral", "Qwen2", "Qwen3", "SmolLM3"])
def test_absent_fields_default_as_in_transformers(name: str) -> None:
    import transformers

    sizes = {"vocab_size": 97, "hidden_size": 64, "intermediate_size": 48, "num_hidden_layers": 2}
    given = sizes | {"num_attention_heads": 32, "sliding_window": None}
    config = ModelConfig.from_dict(given | {"model_type": name.lower()})
    twin = getattr(transformers, f"{name}Config")(**given)
    for field in set(vars(config)) - DERIVED:
        assert getattr(config, field) == getattr(twin, field), field
    assert config.head_dim == getattr(twin, "head_dim", 64 // 32)  # Qwen2 has no such field
    assert config.rope_theta == twin.rope_parameters["rope_theta"]


def reconfigure(path: Path, **fields: Any) -> None:
    """Set fields of a config.json, or take them away (`...`)."""
    old = json.loads((path / "config.json").read_text())
    new = {name: value for name, value in (old | fields).items() if value is not ...}
    (path / "config.json").write_text(json.dumps(new))


@pytest.mark.parametrize(
    "names", [("lm_head.weight",), ("lm_head.weight", "model.embed_tokens.weight")], ids=str
)
def test_a_tied_matrix_is_stored_under_either_name_or_both(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    twin = theirs("LlamaConfig", tmp_path, tie_word_embeddings=True)

    def rename(tensors: Tensors) -> Tensors:
        matrix = tensors.pop("model.embed_tokens.weight")
        return tensors | {name: matrix.clone() for name in names}

    respell(tmp_path, rename)
    model, _ = minillm.load(tmp_path)
    tokens = oracles.tokens_of(0, 1, 64, vocabulary=97)
    assert (model(tokens) - logits_of(twin, tokens)).abs().max() < 1e-5
    assert model.head.weight is model.embed.weight


def test_a_tied_head_that_differs_is_refused_by_name(copy: Path) -> None:
    """Transformers 5 takes it, transformers 4 dropped it: the folder contradicts itself."""
    respell(copy, lambda tensors: {**tensors, "lm_head.weight": torch.zeros(2048, 192)})
    with pytest.raises(ValueError, match=r"lm_head\.weight differs .* tie_word_embeddings"):
        minillm.load(copy)


def test_rotary_buffers_of_older_folders_are_computed_anew(copy: Path) -> None:
    buffers = [f"model.layers.{i}.self_attn.rotary_emb.inv_freq" for i in range(2)]
    buffers.append("model.rotary_emb.inv_freq")
    respell(copy, lambda tensors: tensors | {name: torch.ones(4) for name in buffers})
    tokens = oracles.tokens_of(0, 1, 5)
    assert torch.equal(minillm.load(copy)[0](tokens), minillm.load("stories-draft")[0](tokens))


# Shards


@pytest.fixture
def shards(copy: Path) -> tuple[Path, dict[str, Tensors]]:
    """A checkpoint in two shards, one of them in a folder of its own, and what they hold."""
    parts: dict[str, Tensors] = {"a.safetensors": {}, "more/b.safetensors": {}}
    for i, (name, tensor) in enumerate(load_file(copy / "model.safetensors").items()):
        parts[sorted(parts)[i % 2]][name] = tensor
    (copy / "model.safetensors").unlink()
    (copy / "more").mkdir()
    index(copy, {name: shard for shard, part in parts.items() for name in part})
    return copy, parts


def index(path: Path, weight_map: Any) -> None:
    text = json.dumps({"metadata": {}, "weight_map": weight_map})
    (path / "model.safetensors.index.json").write_text(text)


def write(path: Path, parts: dict[str, Tensors]) -> None:
    for shard, part in parts.items():
        save_file(part, path / shard)


def test_the_index_decides_which_shard_a_tensor_is_of(
    shards: tuple[Path, dict[str, Tensors]],
) -> None:
    path, parts = shards
    first, second = parts.values()
    second |= {name: torch.zeros_like(tensor) for name, tensor in first.items()}  # stale
    second["model.rotary_emb.inv_freq"] = torch.ones(4)
    write(path, parts)
    tokens = oracles.tokens_of(0, 1, 5)
    assert torch.equal(minillm.load(path)[0](tokens), minillm.load("stories-draft")[0](tokens))


def test_a_tensor_that_the_index_does_not_name_is_refused(
    shards: tuple[Path, dict[str, Tensors]],
) -> None:
    path, parts = shards
    parts["a.safetensors"]["model.extra.weight"] = torch.ones(1)
    write(path, parts)
    with pytest.raises(ValueError, match=r"not name tensors of a\.safetensors: model\.extra"):
        minillm.load(path)


def test_a_tensor_that_its_shard_lacks_is_refused(shards: tuple[Path, dict[str, Tensors]]) -> None:
    path, parts = shards
    first, second = parts.values()
    name = next(iter(first))
    second[name] = first.pop(name)
    write(path, parts)
    with pytest.raises(ValueError, match=f"names tensors that its files lack: {name}"):
        minillm.load(path)


@pytest.mark.parametrize("shard", ["../b.safetensors", "/b.safetensors", 3, None, ["a"]], ids=str)
def test_a_shard_is_a_file_inside_the_folder(
    shards: tuple[Path, dict[str, Tensors]], shard: object
) -> None:
    path, parts = shards
    write(path, parts)
    shutil.copy(path / "more" / "b.safetensors", path.parent)
    outside = str(path.parent / "b.safetensors") if shard == "/b.safetensors" else shard
    index(path, dict.fromkeys(parts["more/b.safetensors"], outside))
    with pytest.raises(ValueError, match=r"the file of model.* (is outside|must be a text)"):
        minillm.load(path)


def test_of_one_file_and_an_index_the_file_is_read_as_in_transformers(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    theirs("LlamaConfig", tmp_path)
    save_file({"model.norm.weight": torch.zeros(32)}, tmp_path / "a.safetensors")
    index(tmp_path, {"model.norm.weight": "a.safetensors"})
    twin = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    tokens = oracles.tokens_of(0, 1, 64, vocabulary=97)
    assert (minillm.load(tmp_path)[0](tokens) - logits_of(twin, tokens)).abs().max() < 1e-5


def test_shards_without_an_index_are_not_read(shards: tuple[Path, dict[str, Tensors]]) -> None:
    path, parts = shards
    write(path, parts)
    (path / "model.safetensors.index.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no model\.safetensors"):
        minillm.load(path)


def test_shards_are_read(tmp_path: Path) -> None:
    twin = theirs("LlamaConfig", tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "model.safetensors").unlink()
    twin.save_pretrained(tmp_path / "b", max_shard_size="20KB")
    assert len(list((tmp_path / "b").glob("*.safetensors"))) > 2
    tokens = oracles.tokens_of(0, 1, 20, vocabulary=97)
    whole, shards = (minillm.load(tmp_path / name)[0] for name in "ab")
    assert torch.equal(whole(tokens), shards(tokens))
    next((tmp_path / "b").glob("*-00002-of-*.safetensors")).unlink()
    with pytest.raises(FileNotFoundError, match="00002-of"):
        minillm.load(tmp_path / "b")


# Loading


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_load_gives_a_model_for_inference_in_the_wanted_dtype(dtype: torch.dtype) -> None:
    model, _ = minillm.load("stories-draft", dtype=dtype)
    assert {x.dtype for x in [*model.parameters(), *model.buffers()]} == {dtype}
    assert {x.device.type for x in [*model.parameters(), *model.buffers()]} == {"cpu"}
    assert not model.training
    assert not any(x.requires_grad for x in model.parameters())
    assert model.head.weight is model.embed.weight


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A shipped checkpoint to spoil."""
    return Path(shutil.copytree(folder("stories-draft"), tmp_path / "copy"))


@pytest.mark.parametrize("name", ["storeis", "", "/nonexistent", "tests"])
def test_an_unknown_model_lists_the_known(name: str) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        minillm.load(name)
    assert all(known in str(caught.value) for known in ("stories", "stories-draft", repr(name)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("device", ["nonsense", "cuda:99", "cpu:x", "", "privateuseone"])
def test_an_unknown_device_is_named(device: str) -> None:
    with pytest.raises(ValueError, match=f"device '{device}'"):
        minillm.load("stories-draft", device=device)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int8, torch.complex64], ids=str)
def test_an_unknown_dtype_is_named(dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match=f"dtype must be one of .* got {dtype}"):
        minillm.load("stories-draft", dtype=dtype)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        minillm.load(copy)


@pytest.mark.parametrize("size", [0, 4, 8, 500, 100_000, -1])
def test_truncated_weights(copy: Path, size: int) -> None:
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"model\.safetensors is corrupted or truncated"):
        minillm.load(copy)


@pytest.mark.parametrize("at", [0, 7, 8, 20])
def test_corrupted_weights(copy: Path, at: int) -> None:
    path = copy / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        minillm.load(copy)


LAYER = "model.layers.0."


@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite_are_refused_by_name(copy: Path, bad: float) -> None:
    def spoil(tensors: Tensors) -> Tensors:
        tensors[LAYER + "mlp.down_proj.weight"][1, 2] = bad
        return tensors

    respell(copy, spoil)
    with pytest.raises(ValueError, match=r"0\.mlp\.down_proj\.weight has numbers that are NaN"):
        minillm.load(copy)


@pytest.mark.parametrize(
    ("stored", "dtype"), [(torch.float64, torch.float32), (torch.float32, torch.float16)], ids=str
)
def test_weights_beyond_the_wanted_dtype_are_refused_by_name(
    copy: Path, stored: torch.dtype, dtype: torch.dtype
) -> None:
    name = LAYER + "mlp.down_proj.weight"
    large = torch.full((192, 768), torch.finfo(dtype).max, dtype=stored) * 2
    respell(copy, lambda tensors: {**tensors, name: large})
    with pytest.raises(ValueError, match=rf"down_proj\.weight has .* infinite in {dtype}"):
        minillm.load(copy, dtype=dtype)
    assert minillm.load(copy, dtype=stored)[0].dtype == stored


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float8_e4m3fn,
        torch.float8_e5m2,
        torch.uint8,
        torch.int64,
        torch.bool,
        torch.complex64,
    ],
    ids=str,
)
def test_tensors_of_other_types_are_refused_by_name(copy: Path, dtype: torch.dtype) -> None:
    name = LAYER + "mlp.down_proj.weight"
    respell(copy, lambda tensors: {**tensors, name: torch.ones(192, 768).to(dtype)})
    with pytest.raises(ValueError, match=rf"down_proj\.weight is stored as {dtype}"):
        minillm.load(copy)


@pytest.mark.parametrize(
    "name",
    [
        "model.embed_tokens.weight",
        "model.norm.weight",
        LAYER + "self_attn.k_proj.weight",
        LAYER + "mlp.gate_proj.weight",
        LAYER + "input_layernorm.weight",
    ],
)
class TestTensors:
    def test_a_missing_tensor_is_named(self, copy: Path, name: str) -> None:
        respell(copy, lambda tensors: {k: v for k, v in tensors.items() if k != name})
        with pytest.raises(ValueError, match=f"lacks tensors: {name}"):
            minillm.load(copy)

    @pytest.mark.parametrize("axis", [0, 1])
    @pytest.mark.parametrize("more", [-1, 1])
    def test_a_tensor_of_another_shape_is_named(
        self, copy: Path, name: str, axis: int, more: int
    ) -> None:
        def reshape(tensors: Tensors) -> Tensors:
            shape = list(tensors[name].shape)
            if axis < len(shape):
                shape[axis] += more
            else:
                shape.append(1)
            return {**tensors, name: torch.zeros(shape)}

        respell(copy, reshape)
        with pytest.raises(ValueError, match="its config asks for"):
            minillm.load(copy)

    def test_a_scalar_is_refused(self, copy: Path, name: str) -> None:
        respell(copy, lambda tensors: {**tensors, name: torch.tensor(1.0)})
        with pytest.raises(ValueError, match="its config asks for"):
            minillm.load(copy)


@pytest.mark.parametrize(
    "name", [LAYER + "self_attn.q_proj.bias", "model.layers.2.mlp.up_proj.weight", "extra"]
)
def test_an_extra_tensor_is_named(copy: Path, name: str) -> None:
    respell(copy, lambda tensors: {**tensors, name: torch.zeros(3)})
    with pytest.raises(ValueError, match=f"has unexpected tensors: {name}"):
        minillm.load(copy)


def test_an_unsupported_config_is_named(copy: Path) -> None:
    reconfigure(copy, attention_bias=True)
    with pytest.raises(ValueError, match="attention_bias"):
        minillm.load(copy)


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"[]", b"\xff\xfe", b'{"model": 3}'])
def test_an_unreadable_tokenizer(copy: Path, content: bytes) -> None:
    (copy / "tokenizer.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"tokenizer\.json is not a tokenizer"):
        minillm.load(copy)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b'{"weight_map": 3}', b'{"weight_map": {}}', b"\xff"]
)
def test_an_unreadable_index(copy: Path, content: bytes) -> None:
    (copy / "model.safetensors").unlink()
    (copy / "model.safetensors.index.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors\.index\.json"):
        minillm.load(copy)


# Writing


@pytest.mark.parametrize("before", [None, "old"])
def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, before: str | None) -> None:
    path = tmp_path / "file"
    if before is not None:
        path.write_text(before)

    def fail(beside: Path) -> None:
        beside.write_text("ha")
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_whole(path, fail)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == (
        {} if before is None else {"file": before}
    )
    write_whole(path, lambda beside: beside.write_text("whole"))
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"file": "whole"}


def test_of_two_writers_at_once_each_has_a_file_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def write(beside: Path) -> None:
        beside.write_text("first")
        write_whole(path, lambda other: other.write_text("second"))
        assert path.read_text() == "second"

    write_whole(path, write)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"file": "first"}


def test_saving_leaves_the_model_as_it_was(draft: Transformer, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in draft.state_dict().items()}
    save(tmp_path, draft, minillm.load("stories-draft")[1], torch.float16)
    assert draft.dtype == torch.float64
    assert all(torch.equal(tensor, before[name]) for name, tensor in draft.state_dict().items())
