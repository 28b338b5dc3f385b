"""Text to tokens and back: a start is added once, a stream shows what decode shows."""

import json
import random
from pathlib import Path

import pytest
import torch
from oracles import tiny
from tokenizers import Tokenizer, decoders, models, normalizers, processors

import minillm
import minillm.commands.main
from minillm import Sampler
from minillm.checkpoint import save
from minillm.tokens import (
    END_OF_TEXT,
    TextStream,
    encode,
    encode_all,
    lead_with_end_of_text,
    same_tokens,
)
from minillm.training.text_data import tokenizer_named


@pytest.fixture
def stories() -> Tokenizer:
    return minillm.load("stories-draft")[1]


@pytest.fixture(scope="module")
def byte_fallback() -> Tokenizer:
    """Of the kind of Llama 2."""
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{b:02X}>": 3 + b for b in range(256)}
    vocabulary |= {piece: 259 + i for i, piece in enumerate("▁abcxyz.é")}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens(["<s>", "</s>"])
    return tokenizer


# The start of a text


@pytest.mark.parametrize("name", minillm.shipped())
def test_texts_of_the_shipped_models_start_with_end_of_text(name: str) -> None:
    tokenizer = minillm.load(name)[1]
    assert encode(tokenizer, "Once") == [0, 422]
    assert encode(tokenizer, "") == [0] == [tokenizer.token_to_id(END_OF_TEXT)]


@pytest.mark.parametrize(
    ("template", "start"), [(f"{END_OF_TEXT} $A", [0]), ("<s> $A", [2048]), (None, [])]
)
def test_the_tokenizer_says_what_starts_a_text(
    stories: Tokenizer, template: str | None, start: list[int]
) -> None:
    stories.add_special_tokens(["<s>"])
    stories.post_processor = template and processors.TemplateProcessing(
        template, special_tokens=[(END_OF_TEXT, 0), ("<s>", 2048)]
    )
    assert encode(stories, "Once") == [*start, 422] == stories.encode("Once").ids
    assert encode_all(stories, ["Once", "upon"]).tolist() == [*start, 422, *start, 1678, 288]
    assert encode(lead_with_end_of_text(stories), "Once") == [0, 422]


@pytest.mark.parametrize(("kind", "start"), [("llama", [0]), ("qwen2", []), ("qwen3", [])])
def test_a_family_without_a_start_is_saved_without(
    stories: Tokenizer, tmp_path: Path, kind: str, start: list[int]
) -> None:
    switches = {"qkv_bias": kind == "qwen2", "qk_norm": kind == "qwen3"}
    model = tiny(minillm, vocab_size=2048, model_type=kind, **switches)
    save(tmp_path, model, stories, torch.float32)
    assert encode(minillm.load(tmp_path)[1], "Once") == [*start, 422]
    assert encode(stories, "Once") == [0, 422]
    assert encode(tokenizer_named(str(tmp_path)), "Once") == [0, 422]  # to train with


def test_texts_stay_whole_whatever_the_file_says(stories: Tokenizer, tmp_path: Path) -> None:
    stories.enable_truncation(5)
    stories.enable_padding(length=50)
    save(tmp_path, tiny(minillm, vocab_size=2048), stories, torch.float32)
    assert len(encode(minillm.load(tmp_path)[1], "a b c d e f g h")) == 9


def test_tokens_are_compared_by_number_and_name(stories: Tokenizer) -> None:
    renamed = Tokenizer.from_str(stories.to_str().replace(END_OF_TEXT, "</s>"))
    assert same_tokens(stories, minillm.load("stories")[1])
    assert renamed.get_vocab_size() == stories.get_vocab_size()
    assert not same_tokens(stories, renamed)


# The stream


def parts(tokenizer: Tokenizer, tokens: list[int]) -> list[str]:
    stream = TextStream(tokenizer)
    return [*map(stream.push, tokens), stream.end()]


@pytest.mark.parametrize("kind", ["byte level", "byte fallback"])
def test_a_stream_adds_up_to_the_decoded_text(
    kind: str, stories: Tokenizer, byte_fallback: Tokenizer
) -> None:
    tokenizer = stories if kind == "byte level" else byte_fallback
    draw, size = random.Random(0), tokenizer.get_vocab_size() + 3  # some tokens that are none
    known = [encode(tokenizer, text) for text in ("é", "€", "a b", "\n", "🙂", "\ufffd", "")]
    for _ in range(2000):
        tokens = [
            token
            for _ in range(draw.randrange(9))
            for token in draw.choice([*known, [draw.randrange(size)], [draw.randrange(size)]])
        ]
        assert "".join(parts(tokenizer, tokens)) == tokenizer.decode(tokens), tokens


def test_text_is_shown_as_soon_as_it_is_certain(
    stories: Tokenizer, byte_fallback: Tokenizer
) -> None:
    euro = stories.encode("€", add_special_tokens=False).ids
    assert len(euro) == 3
    assert parts(stories, [422, *euro, 434, euro[0]]) == [
        "Once",
        "",
        "",
        "€",
        " upon",
        "",
        "\ufffd",
    ]
    euro, y, end = [3 + byte for byte in "€".encode()], byte_fallback.token_to_id("y"), 2
    assert parts(byte_fallback, [y, *euro, end, y]) == ["y", "", "", "", "", "€y", ""]
    assert parts(byte_fallback, [y, *euro, 258, y]) == ["y", "", "", "", "", "\ufffd" * 4 + "y", ""]


def test_generate_prints_what_decode_shows(
    stories: Tokenizer,
    byte_fallback: Tokenizer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Up to half a character at the very end."""
    cut = 0
    for name, tokenizer in {"level": stories, "fallback": byte_fallback}.items():
        model = tiny(minillm, vocab_size=tokenizer.get_vocab_size(), dtype=torch.float32)
        save(tmp_path / name, model, tokenizer, torch.float32)
        options = ["a cat", "--model", str(tmp_path / name), "--temperature", "1.5"]
        for seed in range(8):
            more = ["--max-new-tokens", "12", "--seed", str(seed)]
            assert minillm.commands.main.main(["generate", *options, *more]) == 0
            steps = minillm.decode_cached(
                model,
                [encode(tokenizer, "a cat")],
                max_new_tokens=12,
                sampler=Sampler(1.5),
                generators=minillm.generators(seed, 1),
                stop=[0] if tokenizer is stories else [],
            )
            text = tokenizer.decode(encode(tokenizer, "a cat") + minillm.collect(steps)[0])
            assert capsys.readouterr().out == text + "\n"
            cut += text.endswith("\ufffd")
    assert cut


@pytest.mark.parametrize(
    ("file", "ends"),
    [("config.json", 7), ("config.json", [9, 7]), ("generation_config.json", [7]), (None, None)],
)
def test_generate_stops_where_the_folder_says(
    file: str | None,
    ends: object,
    stories: Tokenizer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = tiny(minillm, vocab_size=2048, dtype=torch.float32)
    model.head.weight[:] = 0  # tied: every logit is 0, greedy takes token 0
    save(tmp_path, model, stories, torch.float32)
    if file:
        path = tmp_path / file
        fields = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps(fields | {"eos_token_id": ends}))
    options = ["--model", str(tmp_path), "--temperature", "0", "--max-new-tokens", "5"]
    assert minillm.commands.main.main(["generate", "Once", *options]) == 0
    written = 0 if file is None else 4  # behind the first token
    assert f"decode {written} tokens" in capsys.readouterr().err


def test_a_bad_end_is_one_line(
    stories: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, tiny(minillm, vocab_size=2048), stories, torch.float32)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": "</s>"}')
    assert minillm.commands.main.main(["generate", "Once", "--model", str(tmp_path)]) == 2
    assert "whole numbers" in capsys.readouterr().err
