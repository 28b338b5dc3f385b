"""GGUF: ggml's numbers, the logits of transformers, and one line for every defect."""

import json
import random
import shutil
import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
import torch
from einops import rearrange
from gguf_files import text, written
from safetensors.torch import save_file

import minillm
from minillm.checkpoint import folder, opened, read_tokenizer
from minillm.checkpoint.gguf import blocks, read_gguf
from minillm.checkpoint.gguf.sentence_piece import sentence_piece as pieces_tokenizer
from minillm.commands.main import main
from minillm.data.heldout import stories

TOKENIZER = folder("stories") / "tokenizer.json"
NUMBERS = {form.name: number for number, form in blocks.FORMATS.items()}
SIZES = {
    "vocab_size": 2048,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-4,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
}
THEIR_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "model.layers": "blk",
}


# Blocks


@pytest.mark.parametrize("number", blocks.FORMATS, ids=lambda n: blocks.FORMATS[n].name)
def test_blocks_are_those_of_the_gguf_package(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import gguf

    form = blocks.FORMATS[number]
    monkeypatch.setattr(blocks, "_CHUNK", 1024)
    raw = np.random.default_rng(number).integers(0, 256, 301 * form.nbytes, dtype=np.uint8)
    ours = blocks.dequantize(torch.from_numpy(raw), form)
    with np.errstate(all="ignore"):  # random scales, infinite ones too
        theirs = gguf.dequantize(raw, gguf.GGMLQuantizationType(number)).astype(np.float32)
    assert len(ours) == 301 * form.numbers
    np.testing.assert_array_equal(ours.numpy(), theirs.ravel())


@pytest.mark.parametrize(("number", "name"), [(10, "Q2_K"), (39, "MXFP4"), (99, "number 99")])
def test_other_formats_are_refused_by_name(number: int, name: str) -> None:
    with pytest.raises(ValueError, match=f"the format {name} is not supported, only F32, F16"):
        blocks.format_of(number)


# Models


def theirs(kind: str, **changes: Any) -> Any:
    """A tiny random model of transformers."""
    import transformers

    config = getattr(transformers, kind)(**(SIZES | {"tie_word_embeddings": False} | changes))
    with torch.random.fork_rng():
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4, generator=generator)
    return model


def fields_of(family: str, **changes: Any) -> dict[str, Any]:
    """The fields of a file with the shipped tokenizer and `SIZES`; `...` takes one away."""
    bpe = json.loads(TOKENIZER.read_text())["model"]
    tokens = sorted(bpe["vocab"], key=bpe["vocab"].get)
    end = tokens.index("<|endoftext|>")
    fields = {
        "general.architecture": family,
        f"{family}.block_count": 2,
        f"{family}.context_length": 64,
        f"{family}.embedding_length": 32,
        f"{family}.feed_forward_length": 64,
        f"{family}.attention.head_count": 4,
        f"{family}.attention.head_count_kv": 2,
        f"{family}.attention.layer_norm_rms_epsilon": 1e-4,
        f"{family}.rope.freq_base": 500.0,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": [" ".join(merge) for merge in bpe["merges"]],
        "tokenizer.ggml.token_type": [3 if i == end else 1 for i in range(len(tokens))],
        "tokenizer.ggml.bos_token_id": end,
        "tokenizer.ggml.eos_token_id": end,
        "tokenizer.ggml.add_bos_token": True,
    }
    return {k: v for k, v in (fields | changes).items() if v is not ...}


def their_name(name: str, names: dict[str, str]) -> str:
    for ours, llama in names.items():
        name = name.replace(ours, llama)
    return name


def tensors_of(
    model: Any, form: str = "F32", permuted: bool = True, names: dict[str, str] = THEIR_NAMES
) -> list[tuple[Any, ...]]:
    """The tensors as llama.cpp's converter writes them; matrices in a format."""
    import gguf

    listed = []
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        if permuted and name.endswith(("q_proj.weight", "k_proj.weight")):
            tensor = rearrange(tensor, "(h two d) c -> (h d two) c", two=2, d=4)
        kind = NUMBERS[form if tensor.ndim == 2 else "F32"]
        data = gguf.quantize(tensor.numpy(), gguf.GGMLQuantizationType(kind))
        listed.append((their_name(name, names), tuple(tensor.shape), kind, data))
    return listed


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_logits_are_those_of_transformers(family: str, tied: bool, tmp_path: Path) -> None:
    kind = {"llama": "LlamaConfig", "qwen2": "Qwen2Config", "qwen3": "Qwen3Config"}[family]
    twin = theirs(kind, head_dim=8, tie_word_embeddings=tied)
    key = {"qwen3.attention.key_length": 8} if family == "qwen3" else {}
    path = written(
        tmp_path / "a.gguf", fields_of(family, **key), tensors_of(twin, permuted=family == "llama")
    )
    model, _ = minillm.load(path)
    tokens = oracles.tokens_of(0, 2, 64, vocabulary=2048)
    with torch.no_grad():
        assert (model(tokens) - twin(tokens).logits).abs().max() < 1e-4
    assert model.config.tie_word_embeddings == tied


GEMMAS_NAMES = THEIR_NAMES | {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
GEMMAS_FIELDS = {
    "gemma3.block_count": 7,
    "gemma3.attention.key_length": 8,
    "gemma3.attention.sliding_window": 6,
    "gemma3.rope.scaling.type": "linear",
    "gemma3.rope.scaling.factor": 4.0,
}


def gemma() -> tuple[Any, list[tuple[Any, ...]]]:
    """A tiny model of Gemma 3 and its tensors; the converter writes 1 + weight of norms."""
    rope = {
        "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
    }
    sizes = {"num_hidden_layers": 7, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 6}
    twin = theirs("Gemma3TextConfig", **sizes, rope_parameters=rope, tie_word_embeddings=True)
    return twin, [
        (name, shape, kind, data + 1 if name.endswith("norm.weight") else data)
        for name, shape, kind, data in tensors_of(twin, "F32", False, GEMMAS_NAMES)
    ]


def test_gemmas_logits_are_those_of_transformers(tmp_path: Path) -> None:
    twin, tensors = gemma()
    path = written(tmp_path / "a.gguf", fields_of("gemma3", **GEMMAS_FIELDS), tensors)
    model, _ = minillm.load(path)
    tokens = oracles.tokens_of(0, 2, 64, vocabulary=2048)
    with torch.no_grad():
        assert (model(tokens) - twin(tokens).logits).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"gemma3.attention.sliding_window": ...}, "attention.sliding_window is missing"),
        ({"gemma3.final_logit_softcapping": 30.0}, "final_logit_softcapping is not supported"),
        (
            {"gemma3.block_count": 62, "gemma3.embedding_length": 16},
            "query_pre_attn_scalar=4 is not supported, only head_dim=8",
        ),
    ],
    ids=str,
)
def test_gemmas_fields_that_are_not_supported(
    change: dict[str, Any], match: str, tmp_path: Path
) -> None:
    fields = fields_of("gemma3", **(GEMMAS_FIELDS | change))
    refused(written(tmp_path / "a.gguf", fields, gemma()[1]), match)


FREQUENCIES = {"rope_theta": 500_000.0, "factor": 32.0, "original_max_position_embeddings": 8192}
SCALED: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "LlamaConfig",
        {"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0},
        {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0},
    ),
    (
        "LlamaConfig",
        {"rope_type": "yarn", "factor": 4.0, "rope_theta": 500.0}
        | {"original_max_position_embeddings": 16},
        {"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 4.0}
        | {"llama.rope.scaling.original_context_length": 16},
    ),
    (
        "LlamaConfig",
        {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0} | FREQUENCIES,
        {"llama.rope.freq_base": 500_000.0},
    ),
    ("SmolLM3Config", {"rope_type": "default", "rope_theta": 500.0}, {}),
]


@pytest.mark.parametrize(("kind", "rope", "fields"), SCALED, ids=str)
def test_rotations_are_scaled_as_in_transformers(
    kind: str, rope: dict[str, Any], fields: dict[str, Any], tmp_path: Path
) -> None:
    twin = theirs(kind, rope_parameters=rope, num_hidden_layers=4, pad_token_id=None)
    family = "smollm3" if kind == "SmolLM3Config" else "llama"
    tensors = tensors_of(twin)
    if rope["rope_type"] == "llama3":
        base = 500_000.0 ** -(np.arange(0, 8, 2) / 8)
        factors = (base / twin.model.rotary_emb.inv_freq.numpy()).astype(np.float32)
        assert factors.max() == pytest.approx(32)
        tensors.append(("rope_freqs.weight", (4,), 0, factors))
    fields = {f"{family}.block_count": 4, **fields}
    path = written(tmp_path / "a.gguf", fields_of(family, **fields), tensors)
    tokens = oracles.tokens_of(0, 2, 64, vocabulary=2048)
    with torch.no_grad():
        assert (minillm.load(path)[0](tokens) - twin(tokens).logits).abs().max() < 1e-4


@pytest.mark.parametrize("form", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_rounded_weights_give_the_logits_of_what_they_stand_for(form: str, tmp_path: Path) -> None:
    import gguf

    twin, kind = theirs("LlamaConfig"), gguf.GGMLQuantizationType(NUMBERS[form])
    path = written(tmp_path / "a.gguf", fields_of("llama"), tensors_of(twin, form))
    tokens = oracles.tokens_of(0, 2, 64, vocabulary=2048)
    with torch.no_grad():
        before = twin(tokens).logits
        for matrix in (x for x in twin.parameters() if x.ndim == 2):
            rounded = gguf.dequantize(gguf.quantize(matrix.numpy(), kind), kind)
            matrix.copy_(torch.from_numpy(rounded))
        logits = minillm.load(path)[0](tokens)
        assert (logits - twin(tokens).logits).abs().max() < 1e-4 < (logits - before).abs().max()


def test_the_tokenizer_is_that_of_the_folder(tmp_path: Path) -> None:
    path = written(tmp_path / "a.gguf", fields_of("llama"), tensors_of(theirs("LlamaConfig")))
    ours, theirs_ = opened(path).tokenizer, read_tokenizer(TOKENIZER)
    texts = [*stories()[:50], "", " ", "a<|endoftext|>b", "\t12 345\n\n ünïcödé 漢字 🦓", "x" * 300]
    assert [ours.encode(t).ids for t in texts] == [theirs_.encode(t).ids for t in texts]
    ids = [ours.encode(text).ids for text in texts]
    assert [ours.decode(i) for i in ids] == [theirs_.decode(i) for i in ids]
    assert opened(path).ends == [ours.token_to_id("<|endoftext|>")]


@pytest.mark.parametrize("cut", ["smollm", "llama-bpe", "qwen2", "gpt-2"])
def test_a_text_is_cut_as_the_file_names_it(cut: str, tmp_path: Path) -> None:
    fields = fields_of("llama", **{"tokenizer.ggml.pre": cut, "tokenizer.ggml.add_bos_token": ...})
    path = written(tmp_path / "a.gguf", fields, tensors_of(theirs("LlamaConfig")))
    tokenizer = opened(path).tokenizer
    pieces = [piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str("I'LL pay 1234 €.\n")]
    assert (
        pieces
        == {
            "smollm": ["I", "'", "LL", "Ġpay", "Ġ", "1", "2", "3", "4", "ĠâĤ¬.", "Ċ"],
            "llama-bpe": ["I", "'LL", "Ġpay", "Ġ", "123", "4", "ĠâĤ¬.Ċ"],
            "qwen2": ["I", "'LL", "Ġpay", "Ġ", "1", "2", "3", "4", "ĠâĤ¬.Ċ"],
            "gpt-2": ["I", "'", "LL", "Ġpay", "Ġ1234", "ĠâĤ¬.", "Ċ"],
        }[cut]
    )
    leads = tokenizer.encode("a").ids[0] == tokenizer.token_to_id("<|endoftext|>")
    assert leads == (cut == "llama-bpe")  # in llama.cpp as well


@pytest.fixture(scope="module")
def sentence_piece() -> Any:
    """SentencePiece itself, on pieces that it learnt from the shipped stories."""
    import sentencepiece

    model = BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(stories()),
        model_writer=model,
        vocab_size=1000,
        model_type="bpe",
        byte_fallback=True,
        character_coverage=0.99,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    return lambda **options: sentencepiece.SentencePieceProcessor(
        model_proto=model.getvalue(), **options
    )


def fields_of_pieces(processor: Any, **changes: Any) -> dict[str, Any]:
    """The fields of a file with SentencePiece's vocabulary."""
    numbers = range(processor.get_piece_size())
    kinds = (
        (processor.is_unknown, 2),
        (processor.is_control, 3),
        (processor.is_unused, 5),
        (processor.is_byte, 6),
    )
    pieces = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": ...,
        "tokenizer.ggml.merges": ...,
        "tokenizer.ggml.tokens": [processor.id_to_piece(i) for i in numbers],
        "tokenizer.ggml.scores": [processor.get_score(i) for i in numbers],
        "tokenizer.ggml.token_type": [
            next((kind for holds, kind in kinds if holds(i)), 1) for i in numbers
        ],
        "tokenizer.ggml.bos_token_id": processor.bos_id(),
        "tokenizer.ggml.eos_token_id": processor.eos_id(),
        "tokenizer.ggml.add_bos_token": ...,
    }
    return fields_of("llama", **(pieces | changes))


def test_a_text_is_cut_as_sentence_piece_cuts_it(sentence_piece: Any, tmp_path: Path) -> None:
    theirs_ = sentence_piece(add_bos=True)
    twin = theirs("LlamaConfig", vocab_size=theirs_.get_piece_size())
    path = written(tmp_path / "a.gguf", fields_of_pieces(theirs_), tensors_of(twin))
    ours = opened(path).tokenizer
    generator = random.Random(0)
    signs = "abcdefgh  \n\tLüé漢🦓1290.,!?'(){}<>/▁"
    texts = [
        *stories()[:50],
        *("", " ", "  a  b", " lead", "trail ", "\n", "x" * 300, "aaaa" * 9, "<0x41><unk>"),
        "def f(x):\n    return x  # ünïcödé 漢字 🦓",
        *("".join(generator.choices(signs, k=generator.randrange(60))) for _ in range(300)),
    ]
    assert [ours.encode(text).ids for text in texts] == [theirs_.encode(text) for text in texts]
    assert [ours.decode(ours.encode(text).ids) for text in texts] == [
        theirs_.decode(theirs_.encode(text)) for text in texts
    ]
    assert ours.encode("a</s>b").ids == [1, *theirs_.encode("a")[1:], 2, *theirs_.encode("b")[1:]]
    assert opened(path).ends == [2]


@pytest.mark.parametrize(("kind", "cut"), [(1, ["ab"]), (3, ["a", "b"]), (5, ["a", "b"])])
def test_only_normal_pieces_are_joined(kind: int, cut: list[str]) -> None:
    pieces, kinds = ["<unk>", "a", "b", "ab"], [2, 1, 1, kind]
    tokenizer = pieces_tokenizer(pieces, [0.0] * 4, kinds, leading_space=False)
    assert tokenizer.encode("ab").tokens == cut


def test_a_text_begins_without_a_space_where_the_file_says_so(
    sentence_piece: Any, tmp_path: Path
) -> None:
    theirs_ = sentence_piece()
    size, bare = theirs_.get_piece_size(), {"tokenizer.ggml.add_space_prefix": False}
    tensors = tensors_of(theirs("LlamaConfig", vocab_size=size))
    path = written(tmp_path / "a.gguf", fields_of_pieces(theirs_, **bare), tensors)
    tokenizer = opened(path).tokenizer
    first, *_ = tokenizer.encode("the cat").tokens[1:]
    assert not first.startswith("▁")
    assert tokenizer.decode(tokenizer.encode(" the cat").ids) == " the cat"


def test_the_commands_take_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "a.gguf", fields_of("llama"), tensors_of(theirs("LlamaConfig")))
    (tmp_path / "text.txt").write_text("Once upon a time<|endoftext|>there was a cat.")
    options = ["--text", str(tmp_path / "text.txt"), "--rounded", "int8"]
    assert main(["eval", "--model", str(path), *options]) == 0
    assert "a.gguf on 1" in capsys.readouterr().out


# Defects


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[Any]]:
    return fields_of("llama"), tensors_of(theirs("LlamaConfig"), "Q8_0")


def refused(path: Path, match: str) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        minillm.load(path)
    assert len(str(caught.value)) < 600
    assert str(path) in str(caught.value)


HUGE = 2**63
PIECES = {
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": [f"a{i}" for i in range(2048)],
    "tokenizer.ggml.scores": [float(-i) for i in range(2048)],
    "tokenizer.ggml.token_type": [1] * 2048,
}
FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"general.architecture": "bert"}, "the architecture must be one of llama.* got 'bert'"),
    ({"general.architecture": ...}, "got None"),
    ({"llama.block_count": ...}, r"the field llama\.block_count is missing"),
    ({"llama.block_count": 10**9}, "21 tensors, too few for 1000000000 layers"),
    ({"llama.block_count": 0}, "num_hidden_layers must be"),
    ({"llama.block_count": 3}, r"lacks tensors: model\.layers\.2\.input_layernorm\.weight.* and 4"),
    ({"llama.embedding_length": 64}, "has shape .* its config asks for 64 rows"),
    ({"llama.context_length": 2**32 - 1}, "max_position_embeddings must be"),
    ({"llama.attention.head_count": [4, 4]}, "heads for a width"),
    ({"llama.attention.head_count": 0}, "0 heads"),
    ({"llama.attention.value_length": 4}, "attention.value_length=4 is not supported, only 8"),
    ({"llama.rope.dimension_count": 4}, "rope.dimension_count=4 is not supported, only 8"),
    ({"llama.expert_count": 8}, "expert_count=8 is not supported, only 0"),
    ({"llama.vocab_size": 2047}, "vocab_size is not 2048, the rows of token_embd.weight"),
    ({"llama.vocab_size": [2048, 2048]}, "vocab_size is not 2048"),
    ({"llama.logit_scale": 2.0}, "the field llama.logit_scale is not supported"),
    ({"llama.rope.scaling.type": "longrope"}, "rope type 'longrope' is not supported"),
    ({"general.alignment": 3}, "an alignment of 3, not a power of 2"),
    ({"general.alignment": 0}, "an alignment of 0"),
    ({"general.alignment": 2**31}, "bytes after the file"),
    ({"tokenizer.ggml.model": "t5"}, "a tokenizer of kind 't5'"),
    ({"tokenizer.ggml.pre": "tekken"}, "cuts as 'tekken' is not supported"),
    ({"tokenizer.ggml.pre": ["gpt-2"]}, "is not supported"),
    ({"tokenizer.ggml.pre": ...}, "cuts as None is not supported"),
    ({"tokenizer.ggml.token_type": 3}, "token_type must be a list, got 3"),
    ({"tokenizer.ggml.tokens": ...}, r"tokenizer\.ggml\.tokens is missing"),
    ({"tokenizer.ggml.tokens": 3}, r"tokenizer\.ggml\.tokens is missing or not a list"),
    ({"tokenizer.ggml.tokens": ["a", "a"]}, "a token stands twice"),
    ({"tokenizer.ggml.tokens": ["a", "b"]}, "merges that do not fit"),
    ({"tokenizer.ggml.merges": ["a"]}, "a merge is not of two tokens"),
    ({"tokenizer.ggml.bos_token_id": 2048}, "the bos_token 2048 is not in the vocabulary of 2048"),
    ({"tokenizer.ggml.tokens": [1]}, "tokens is missing or not a list"),
    (PIECES | {"tokenizer.ggml.scores": ...}, r"tokenizer\.ggml\.scores is missing"),
    (PIECES | {"tokenizer.ggml.scores": [0.0]}, "2048 pieces have 1 scores and 2048 kinds"),
    (PIECES | {"tokenizer.ggml.scores": ["0"]}, "scores is missing or not a list of numbers"),
    (PIECES | {"tokenizer.ggml.token_type": [1]}, "2048 pieces have 2048 scores and 1 kinds"),
    (PIECES | {"tokenizer.ggml.tokens": ["a" * 257, *map(str, range(2047))]}, "than 256"),
    ({"x": struct.pack("<I", 77)}, "values of type 77"),
    ({"x": struct.pack("<IIQ", 9, 9, 1)}, "values of type 9"),  # an array of arrays
    ({"x": struct.pack("<IIQ", 9, 4, HUGE)}, f"{4 * HUGE} bytes do not fit"),
    ({"x": struct.pack("<IIQ", 9, 8, 10**9)}, "1000000000 texts do not fit"),
    ({"x": struct.pack("<IQ", 8, HUGE)}, f"{HUGE} bytes do not fit"),
    ({"x": struct.pack("<IQ", 8, 2) + b"\xff\xfe"}, "utf-8"),
]


@pytest.mark.parametrize(("change", "match"), FIELDS, ids=lambda x: str(x)[:60])
def test_fields_that_are_wrong(
    change: dict[str, Any], match: str, valid: tuple[dict[str, Any], list[Any]], tmp_path: Path
) -> None:
    fields = {k: v for k, v in (valid[0] | change).items() if v is not ...}
    refused(written(tmp_path / "a.gguf", fields, valid[1]), match)


TENSORS: list[tuple[dict[str, Any], str]] = [
    ({"version": 1}, "version 1, not 2 or 3"),
    ({"version": 3 << 24}, "version 50331648"),  # big-endian
    ({"field_count": HUGE}, f"{HUGE} fields do not fit"),
    ({"tensor_count": HUGE}, f"{HUGE} tensors do not fit"),
    ({"more": text("general.architecture") + struct.pack("<II", 4, 1), "field_count": 18}, "twice"),
    ({"offsets": {"output.weight": 16}}, "'output.weight' is not aligned"),
    ({"offsets": {"output.weight": 0}}, "lies in another"),
    ({"offsets": {"output.weight": HUGE}}, "'output.weight' ends .* bytes after the file"),
]


@pytest.mark.parametrize(("wrong", "match"), TENSORS, ids=lambda x: str(x)[:60])
def test_counts_and_places_that_are_wrong(
    wrong: dict[str, Any], match: str, valid: tuple[dict[str, Any], list[Any]], tmp_path: Path
) -> None:
    refused(written(tmp_path / "a.gguf", *valid, **wrong), match)


ONE = np.zeros(34, np.uint8)
EXTRA: list[tuple[tuple[Any, ...], str]] = [
    (("../../etc/passwd", (32,), 8, ONE), r"has unexpected tensors: \.\./\.\./etc/passwd"),
    (("blk.2.attn_q.weight", (32,), 8, ONE), r"unexpected tensors: model\.layers\.2\."),
    (("output.weight", (32,), 8, ONE), "two tensors have the same name"),
    (("lm_head.weight", (32,), 8, ONE), r"two tensors are both lm_head\.weight"),
    (("model.layers.0.mlp.up_proj.weight", (32,), 8, ONE), "two tensors are both model"),
    (("x" * 64, (32,), 8, ONE), "a tensor's name of 64 characters"),
    (("", (32,), 8, ONE), "a tensor's name of 0 characters"),
    (("x", (31,), 8, ONE), r"tensor 'x' of Q8_0 has the shape \(31,\)"),
    (("x", (0,), 8, ONE), r"tensor 'x' of Q8_0 has the shape \(0,\)"),
    (("x", (2**62, 2**62, 32), 8, ONE), "ends .* bytes after the file"),
    (("x", (1,) * 5, 0, ONE), "tensor 'x' has 5 dimensions"),
    (("x", (), 0, ONE), "tensor 'x' has 0 dimensions"),
    (("rope_freqs.weight", (4,), 0, np.float32([1, 2, 3, 4])), "not those of Llama 3.1"),
    (("x", (256,), 10, ONE), "tensor 'x': the format Q2_K is not supported"),
]


@pytest.mark.parametrize(("extra", "match"), EXTRA, ids=lambda x: str(x)[:40])
def test_tensors_that_are_wrong(
    extra: tuple[Any, ...], match: str, valid: tuple[dict[str, Any], list[Any]], tmp_path: Path
) -> None:
    fields, tensors = valid
    refused(written(tmp_path / "a.gguf", fields, [*tensors, extra]), match)


def test_weights_that_are_not_finite(
    valid: tuple[dict[str, Any], list[Any]], tmp_path: Path
) -> None:
    fields, [(name, shape, kind, data), *others] = valid
    broken = data.copy()
    broken.reshape(-1)[1] = 0x7C  # the first scale is infinite
    path = written(tmp_path / "a.gguf", fields, [(name, shape, kind, broken), *others])
    refused(path, r"embed_tokens\.weight has numbers that are NaN or infinite")


@pytest.mark.parametrize("kept", [0, 3, 4, 23, 24, 1000, 60_000, -1])
def test_a_file_that_ends_early(
    kept: int, valid: tuple[dict[str, Any], list[Any]], tmp_path: Path
) -> None:
    path = written(tmp_path / "a.gguf", *valid)
    path.write_bytes(path.read_bytes()[:kept])
    refused(path, "is not a GGUF file|is corrupted, truncated")


def test_a_header_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    """A file of many gigabytes, all holes: as many empty texts as it has room for."""
    path = tmp_path / "a.gguf"
    count = 10**9
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("x") + struct.pack("<IIQ", 9, 8, count)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + 8 * count)
    refused(path, f"{count} texts do not fit")


def test_a_file_that_is_missing_or_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").mkdir()
    for name in ("a.gguf", "b.gguf"):
        with pytest.raises(FileNotFoundError, match=f"there is no file .*{name}"):
            minillm.load(tmp_path / name)


def test_any_change_of_a_file_is_read_or_refused_in_one_line(
    valid: tuple[dict[str, Any], list[Any]], tmp_path: Path
) -> None:
    path = written(tmp_path / "a.gguf", *valid)
    whole, generator = path.read_bytes(), np.random.default_rng(0)
    said: list[str] = []
    for _ in range(100):
        content = bytearray(whole)
        for _ in range(generator.integers(1, 4)):
            at = int(generator.integers(0, 60_000 if generator.random() < 0.5 else 700))
            content[at] = int(generator.integers(256))
        path.write_bytes(content)
        try:
            minillm.load(path)
        except ValueError as error:
            said.append(str(error))
    assert 0 < len(said) < 100
    assert all(str(path) in line for line in said)


def test_a_layer_too_many_in_a_folder_is_refused_before_its_names_are_made(tmp_path: Path) -> None:
    shutil.copytree(folder("stories-draft"), tmp_path / "a")
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    (tmp_path / "a" / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 10**12}))
    with pytest.raises(ValueError, match="too few for 1000000000000 layers"):
        minillm.load(tmp_path / "a")


def test_a_tensor_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path / "a.gguf", {}, [("x", (2, 3), 0, np.arange(6, dtype=np.float32))])
    file = read_gguf(path)
    assert file.tensors["x"].shape == (2, 3)
    assert torch.equal(file.tensors["x"].read(), torch.arange(6.0).view(2, 3))
    save_file({"x": file.tensors["x"].read()}, tmp_path / "b.safetensors")  # it owns its memory
