"""The command line: what it prints, and one line and exit code 2 for every bad input."""

import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from minillm import collect, decode_cached, load
from minillm.checkpoint import folder, shipped
from minillm.commands.main import main
from minillm.commands.table import table
from minillm.tokens import END_OF_TEXT, encode


def test_the_text_streams_to_stdout_and_the_report_to_stderr(capsys: pytest.CaptureFixture[str]):
    model, tokenizer = load("stories")
    prompt = encode(tokenizer, "Once upon a time")
    stop = [tokenizer.token_to_id(END_OF_TEXT)]
    [tokens] = collect(decode_cached(model, [prompt], max_new_tokens=12, stop=stop))
    argv = ["generate", "Once upon a time", "--max-new-tokens", "12", "--temperature", "0"]
    assert main(argv) == 0
    out, err = capsys.readouterr()
    assert out == tokenizer.decode(prompt + tokens) + "\n"
    cached = len(prompt) + 11
    assert err.startswith(f"prefill {len(prompt)} tokens: ")
    assert "decode 11 tokens: " in err
    assert f"; cache {cached} tokens: {8192 * cached:,} bytes; " in err
    assert main([*argv, "--readable"]) == 0
    readable = capsys.readouterr()
    assert readable.out == out
    assert re.search(r"bytes; F\.linear float32 .*\n$", readable.err)


def test_text_depends_on_the_seed_but_not_on_the_cache(capsys: pytest.CaptureFixture[str]):
    def text(*options: str) -> str:
        argv = ["generate", "Once upon a time", "--max-new-tokens", "12", "--dtype", "float64"]
        assert main([*argv, *options]) == 0
        return capsys.readouterr().out

    assert text() == text("--no-cache") == text("--seed", "0") != text("--seed", "1")


def test_generate_stops_at_the_end_of_the_text(capsys: pytest.CaptureFixture[str]):
    assert main(["generate", "The end.", "--max-new-tokens", "400", "--temperature", "0"]) == 0
    out, err = capsys.readouterr()
    assert END_OF_TEXT not in out
    assert int(err.split("decode ")[1].split()[0]) < 399


def test_models_are_listed_with_their_sizes(capsys: pytest.CaptureFixture[str]):
    assert main(["models"]) == 0
    _, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == shipped()
    disk = f"{(folder('stories') / 'model.safetensors').stat().st_size:,}"
    assert lines[0].split() == ["stories", "10,491,200", "8", "320", "4/2", "512", disk, "8,192"]


def test_without_a_command_the_help_is_printed(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main([])
    assert end.value.code == 0
    assert "generate" in capsys.readouterr().out


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("minillm ")


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["bogus"], "invalid choice: 'bogus'"),
        (["generate"], "arguments are required: prompt"),
        (["generate", "Hi", "--bogus"], "unrecognized arguments: --bogus"),
        (["generate", "Hi", "--seed", "x"], "invalid int value: 'x'"),
        (["generate", "Hi", "--seed", "-1"], "--seed must be from 0"),
        (["generate", ""], "the prompt is empty"),
        (["generate", " \n"], "the prompt is empty"),
        (["generate", "\udcff"], "not valid UTF-8"),
        (["generate", "word " * 600], "leaves no room in the context of 512"),
        (["generate", "Hi", "--max-new-tokens", "0"], "max_new_tokens must be at least 1"),
        (["generate", "Hi", "--temperature", "-1"], "temperature must be 0 or above"),
        (["generate", "Hi", "--temperature", "nan"], "temperature must be 0 or above"),
        (["generate", "Hi", "--top-k", "0"], "top_k must be at least 1"),
        (["generate", "Hi", "--top-p", "0"], "top_p must be above 0"),
        (["generate", "Hi", "--top-p", "1.1"], "top_p must be above 0 and at most 1"),
        (["generate", "Hi", "--model", "bogus"], "the shipped ones are stories, stories-draft"),
        (["generate", "Hi", "--device", "bogus"], "device 'bogus' is not available"),
        (["generate", "Hi", "--dtype", "int8"], "invalid choice: 'int8'"),
        (["models", "stories"], "unrecognized arguments: stories"),
        (
            ["generate", "Hi", "--model", ""],
            "--model: the name of a file or folder is needed, got ''",
        ),
        (["eval", "--model", ""], "--model: the name of a file or folder is needed, got ''"),
        (
            ["eval", "--draft", ""],
            "--draft: the name of a file or folder is needed, got ''",
        ),
        (["sample", "", "--out", "a"], "model: the name of a file or folder is needed, got ''"),
        (
            ["sample", "stories", "--out", ""],
            "--out: the name of a file or folder is needed, got ''",
        ),
        (["kbit", "", "--out", "a"], "MODEL: the name of a file or folder is needed, got ''"),
        (["kbit", "stories", "--out", ""], "--out: the name of a file or folder is needed, got ''"),
        *(
            (
                ["train", "a", "--out", "b", f"--{name}", ""],
                f"{name}: the name of a file or folder is needed, got ''",
            )
            for name in ("validation", "tokenizer", "teacher")
        ),
        (["train", "a", "--out", ""], "--out: the name of a file or folder is needed, got ''"),
        (
            ["hypothesis", "a", "--runs", ""],
            "--runs: the name of a file or folder is needed, got ''",
        ),
        (["hypothesis", "a", "--out", ""], "--out: the name of a file or folder is needed, got ''"),
        (["bench", "--only", "bogus"], "the known ones are kv_cache/step@500"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    argv: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
):
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("minillm")
    assert ": error: " in err
    assert complaint in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("damage", ["truncated", "corrupted", "missing"])
def test_damaged_weights_are_one_line_and_exit_code_2(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    copy = tmp_path / "model"
    shutil.copytree(folder("stories-draft"), copy)
    weights = copy / "model.safetensors"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif damage == "corrupted":
        weights.write_bytes(b"\xff" * 16 + weights.read_bytes()[16:])
    else:
        weights.unlink()
    assert main(["generate", "Hi", "--model", str(copy)]) == 2
    err = capsys.readouterr().err
    assert "model.safetensors" in err
    assert err.count("\n") == 1


def test_a_full_disk_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def full(arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("minillm.commands.models.run", full)
    assert main(["models"]) == 2
    assert capsys.readouterr().err == "minillm models: error: [Errno 28] No space left on device\n"


def test_an_interruption_is_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def interrupt(arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("minillm.commands.models.run", interrupt)
    assert main(["models"]) == 130
    assert capsys.readouterr().err == "\n"


def test_a_reader_who_leaves_early_is_no_error():
    code = "import sys; from minillm.commands.main import main; sys.exit(main(['models']))"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as command:
        assert command.stdout is not None
        assert command.stderr is not None
        command.stdout.close()
        assert command.stderr.read() == b""
    assert command.returncode == 141


def test_a_table_needs_no_rows():
    assert table(["a", "bc"], []) == "a  bc"


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "ascii", "utf-8"])
def test_what_stdout_cannot_encode_is_replaced(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(
        "minillm.commands.models.run", lambda arguments: print("\u043a\u043e\u0442 \ud800")
    )
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding))
    assert main(["models"]) == 0
    shown = written.getvalue().decode(encoding)
    assert shown.rstrip() == ("кот ?" if encoding == "utf-8" else "??? ?")


def test_closed_output_is_no_crash() -> None:
    code = "import sys; from minillm.commands.main import main; sys.exit(main(['models']))"
    command = f'"{sys.executable}" -c "{code}" >&-'
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
