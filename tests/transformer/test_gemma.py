"""Gemma 3 against transformers, and what must be true of every model with a cache."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import oracles
import pytest
import torch

import minillm
from minillm import ModelConfig
from minillm.checkpoint import folder, save
from minillm.commands.main import main
from minillm.fast.model import optimized
from minillm.gemma import Gemma
from minillm.modules import swapped
from minillm.quantization import Spec, quantize_model
from minillm.roofline import work

KINDS = ["sliding_attention", "full_attention", "sliding_attention"]
ROPE = {
    "full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 700.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
}
SIZES: dict[str, Any] = {
    "vocab_size": 2048,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "query_pre_attn_scalar": 12,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-4,
    "sliding_window": 6,
    "layer_types": KINDS,
    "rope_parameters": ROPE,
}


def theirs(path: Path, **changes: Any) -> Any:
    """A tiny random model of transformers in float64, saved in float32."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    config = transformers.Gemma3TextConfig(**(SIZES | changes))
    with torch.random.fork_rng():
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4, generator=generator)
    model.save_pretrained(path)
    shutil.copy(folder("stories") / "tokenizer.json", path)
    return model.double()


def logits_of(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(tokens).logits


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_word_embeddings": False},
        {"hidden_activation": "silu", "sliding_window": 1},
        {"layer_types": None, "num_hidden_layers": 7, "sliding_window": 3},
        {"layer_types": ["full_attention"] * 3},
    ],
    ids=str,
)
def test_logits_are_those_of_transformers(changes: dict[str, Any], tmp_path: Path) -> None:
    twin = theirs(tmp_path, **changes)
    model = minillm.load(tmp_path, dtype=torch.float64)[0]
    assert isinstance(model, Gemma)
    tokens = oracles.tokens_of(0, 3, 64, vocabulary=2048)
    expected = logits_of(twin, tokens)
    assert (model(tokens) - expected).abs().max() < 1e-5 * expected.abs().max()


def test_cached_decoding_equals_generate(tmp_path: Path) -> None:
    twin = theirs(tmp_path, tie_word_embeddings=False)  # tied, it repeats itself
    prompt = oracles.tokens_of(1, 4, 12, vocabulary=2048)
    out = twin.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_new_tokens=30,
        eos_token_id=None,
        pad_token_id=0,
    )
    model = minillm.load(tmp_path, dtype=torch.float64)[0]
    ours = minillm.collect(minillm.decode_cached(model, prompt.tolist(), max_new_tokens=30))
    assert ours == out[:, 12:].tolist()
    assert len({token for row in ours for token in row}) > 5  # not one token for ever


def test_the_fast_model_is_the_readable_one(tmp_path: Path) -> None:
    theirs(tmp_path)
    model, tokens = minillm.load(tmp_path)[0], oracles.tokens_of(0, 2, 40, vocabulary=2048)
    expected = model(tokens)
    assert (optimized(model)(tokens) - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_what_is_saved_loads_in_both(dtype: torch.dtype, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    theirs(tmp_path / "a")
    model, tokenizer = minillm.load(tmp_path / "a")
    save(tmp_path / "b", model, tokenizer, dtype)
    again, _ = minillm.load(tmp_path / "b")
    assert again.config == model.config
    twin = AutoModelForCausalLM.from_pretrained(tmp_path / "b", dtype=torch.float32).eval()
    tokens = oracles.tokens_of(0, 2, 64, vocabulary=2048)
    expected = logits_of(twin, tokens)
    assert (again(tokens) - expected).abs().max() < 1e-5 * expected.abs().max()


def test_the_commands_take_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs(tmp_path)
    (tmp_path / "text.txt").write_text("Once upon a time there was a cat. " * 9)
    assert main(["generate", "Once", "--model", str(tmp_path), "--max-new-tokens", "9"]) == 0
    assert main(["eval", "--model", str(tmp_path), "--text", str(tmp_path / "text.txt")]) == 0
    assert "nats a token" in capsys.readouterr().out


def test_what_is_made_for_llama_refuses_it() -> None:
    model = oracles.tiny(Library(ModelConfig=GEMMA, Transformer=Gemma), dtype=torch.float32)
    with pytest.raises(ValueError, match="Gemma's windows and norms"):
        work(model.config, new=1)
    with pytest.raises(ValueError, match="quantize the plain model"):
        quantize_model(model, Spec("int8"))
    with pytest.raises(ValueError, match="swap modules of the plain model"):
        swapped(model, {})


# With a cache

GEMMA = partial(
    ModelConfig,
    model_type="gemma3_text",
    hidden_act="gelu_pytorch_tanh",
    qk_norm=True,
    window=4,
    window_layers=(0,),
    window_rope_theta=50.0,
)


class Library(SimpleNamespace):
    """minillm, with Gemma as its model."""

    def __getattr__(self, name: str) -> Any:
        return getattr(minillm, name)


@pytest.mark.parametrize(
    "law",
    [
        oracles.one_by_one,
        oracles.chunked_prefill,
        oracles.stale_slots,
        oracles.truncate_and_continue,
        oracles.ragged_rows,
        oracles.interrupted_forward,
        oracles.tree_of_guesses,
        oracles.kept_rows,
        oracles.decoders_agree,
        oracles.rows_alone,
    ],
)
def test_a_cache_changes_nothing(law: Callable[..., None]) -> None:
    law(Library(ModelConfig=GEMMA, Transformer=Gemma))


# The config


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"query_pre_attn_scalar": 168}, "query_pre_attn_scalar=168 is not supported"),
    ({"final_logit_softcapping": 30.0}, "final_logit_softcapping=30.0, which is not supported"),
    ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping=50.0, which is not supported"),
    ({"use_bidirectional_attention": True}, "use_bidirectional_attention=True"),
    ({"layer_types": ["chunked_attention"] * 3}, "layer_types=.* is not supported"),
    ({"layer_types": 3}, "layer_types must be a list"),
    ({"sliding_window": None}, "sliding_window must be a whole number"),
    ({"sliding_window": 0}, "a window must be above 0"),
    ({"rope_parameters": {"sliding_attention": {"rope_type": "yarn"}}}, "layers with a window"),
    ({"rope_parameters": {"full_attention": {"rope_type": "longrope"}}}, "'longrope' is not supp"),
    ({"rope_parameters": {"full_attention": 3}}, "must be an object"),
    ({"hidden_activation": "tanh"}, "hidden_act must be one of"),
    ({"num_hidden_layers": "3"}, "num_hidden_layers must be a whole number"),
]


@pytest.mark.parametrize(("change", "said"), REFUSED, ids=str)
def test_what_would_change_the_result_is_refused_by_name(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ModelConfig.from_dict(SIZES | {"model_type": "gemma3_text"} | change)


@pytest.mark.parametrize(
    "spelled",
    [
        {"rope_parameters": None, "rope_theta": 700.0, "rope_local_base_freq": 50.0}
        | {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        {"layer_types": None, "sliding_window_pattern": 2},
    ],
    ids=str,
)
def test_older_spellings_mean_the_same(spelled: dict[str, Any]) -> None:
    fields = SIZES | {"model_type": "gemma3_text"}
    assert ModelConfig.from_dict(fields | spelled) == ModelConfig.from_dict(fields)


def test_absent_fields_default_as_in_transformers() -> None:
    import transformers

    given = {"vocab_size": 97, "hidden_size": 64, "intermediate_size": 48}
    given |= {"num_hidden_layers": 12, "num_attention_heads": 8}
    config = ModelConfig.from_dict(given | {"model_type": "gemma3_text"})
    twin = transformers.Gemma3TextConfig(**given)
    for name in ("head_dim", "num_key_value_heads", "max_position_embeddings", "rms_norm_eps"):
        assert getattr(config, name) == getattr(twin, name)
    assert config.window == twin.sliding_window
    assert config.window_layers == (0, 1, 2, 3, 4, 6, 7, 8, 9, 10)
    assert config.rope_theta == twin.rope_parameters["full_attention"]["rope_theta"]
    assert config.window_rope_theta == twin.rope_parameters["sliding_attention"]["rope_theta"]
