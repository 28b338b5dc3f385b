"""`minillm sample`: texts that depend on their seed alone, in a file that `minillm train` reads."""

from itertools import islice
from pathlib import Path

import pytest
import torch
from oracles import tiny

import minillm
from minillm import Sampler, decode_cached, generators
from minillm.commands.main import main
from minillm.commands.sample import sampled_texts
from minillm.decoding import collect
from minillm.tokens import END_OF_TEXT, encode


def test_a_text_depends_on_its_seed_alone() -> None:
    tokenizer = minillm.load("stories-draft")[1]
    [end] = encode(tokenizer, "")
    model = tiny(minillm, vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=24)
    model.embed.weight[end] *= 3  # some texts end before their context does
    one_by_one, by_threes = (
        list(islice(sampled_texts(model, tokenizer, Sampler(), rows, seed=3), 9)) for rows in (1, 3)
    )
    assert one_by_one == by_threes
    assert len(set(one_by_one)) == 9
    assert not any(END_OF_TEXT in text for text in one_by_one)
    options = {"max_new_tokens": 99, "sampler": Sampler(), "stop": [end]}
    steps = decode_cached(model, [[end]] * 9, generators=generators(3, 9), **options)
    texts = collect(steps)
    assert one_by_one == [tokenizer.decode(tokens).strip() for tokens in texts]
    assert len({len(tokens) for tokens in texts}) > 1


def command(*options: str) -> list[str]:
    return ["sample", "stories-draft", *options]


def test_the_file_holds_the_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "texts.txt"
    options = ["--out", str(out), "--tokens", "300", "--rows", "2", "--seed", "1"]
    assert main(command(*options)) == 0
    model, tokenizer = minillm.load("stories-draft")
    texts = out.read_text(encoding="utf-8").split(f"\n{END_OF_TEXT}\n")
    texts[-1] = texts[-1].removesuffix("\n")
    sizes = [len(encode(tokenizer, text)) for text in texts]
    assert sum(sizes) >= 300 > sum(sizes[:-1])  # stops after the text that reaches as many
    source = sampled_texts(model, tokenizer, Sampler(), rows=len(texts), seed=1)
    assert next(source)[:40] == texts[0][:40]  # of another kernel: near ties may differ later
    said = f"{out}: {len(texts):,} texts, {sum(sizes):,} tokens\n"
    assert capsys.readouterr().out == said


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--tokens", "0"], "--tokens and --rows must be at least 1"),
        (["--tokens", "9", "--rows", "0"], "--tokens and --rows must be at least 1"),
        (["--tokens", "9", "--temperature", "-1"], "temperature must be 0 or above"),
        (["--tokens", "9", "--seed", "-1"], "--seed must be from 0 to 2**62 - 1, got -1"),
        (["--tokens", "9", "--out", "nowhere/x.txt"], "no folder nowhere"),
        (["--tokens", "x"], "invalid int value"),
        ([], "the following arguments are required: --tokens"),
    ],
)
def test_bad_options_are_one_line(
    options: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "texts.txt"
    assert main(command("--out", str(out), *options)) == 2
    assert complaint in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_no_file_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "texts.txt"
    out.write_text("mine")
    assert main(command("--out", str(out), "--tokens", "9")) == 2
    assert "is there already" in capsys.readouterr().err
    assert out.read_text() == "mine"


def test_a_model_without_end_of_text_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, tokenizer = minillm.load("stories-draft")
    folder, text = tmp_path / "model", tokenizer.to_str().replace(END_OF_TEXT, "<|other|>")
    minillm.checkpoint.save(folder, model, type(tokenizer).from_str(text), torch.float16)
    argv = ["sample", str(folder), "--out", str(tmp_path / "x"), "--tokens", "9"]
    assert main(argv) == 2
    assert f"has no token {END_OF_TEXT}" in capsys.readouterr().err
