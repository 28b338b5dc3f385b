"""Models of the Hub: fetched from one on this machine, opened without any, pinned to a commit."""

import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import oracles
import pytest
import torch

import minillm
from minillm.checkpoint import folder, hub, opened, save
from minillm.checkpoint.hub import fetch_snapshot, hub_id, pinned
from minillm.commands.main import main

OLD, NEW = "1" * 40, "2" * 40
REFUSED = ["pytorch_model.bin", "onnx/model.safetensors", "consolidated.safetensors", "code.py"]


def files_of(path: Path, seed: int) -> dict[str, bytes]:
    """A repository: a tiny model, and what nobody is to download."""
    sizes = {"vocab_size": 2048, "dtype": torch.float32}
    save(path, oracles.tiny(minillm, seed=seed, **sizes), minillm.load("stories")[1], torch.float32)
    wanted = {file.name: file.read_bytes() for file in path.iterdir()}
    wanted["chat_template.jinja"] = b"{{ messages[0].content }}"
    return wanted | dict.fromkeys(REFUSED, b"no")


class Hub(ThreadingHTTPServer):
    """What `huggingface_hub` asks huggingface.co, for one repository; it records the requests."""

    daemon_threads = True

    def __init__(self, commits: dict[str, dict[str, bytes]]):
        super().__init__(("127.0.0.1", 0), Answer)
        self.commits, self.refs = commits, {"main": OLD, "old": OLD}
        self.asked = list[tuple[str, str]]()
        self.breaks_off_at: int | None = None


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *given: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].removeprefix("/")
        self.server.asked.append((path, self.headers.get("Range", "")))
        api = path.removeprefix("api/models/me/tiny")
        kind, _, rest = api.removeprefix("/").partition("/")
        if path == api:
            prefix, _, rest = path.partition("/resolve/")
            commit, _, name = rest.partition("/")
            if prefix == "me/tiny" and name in self.server.commits.get(commit, {}):
                return self.file(commit, self.server.commits[commit][name])
            return self.failed("EntryNotFound" if prefix == "me/tiny" else "RepoNotFound")
        commit = self.server.refs.get(rest or "main", rest)
        if commit not in self.server.commits:
            return self.failed("RevisionNotFound")
        if kind != "tree":
            return self.json({"id": "me/tiny", "sha": commit, "siblings": []})
        listed = self.server.commits[commit].items()
        oids = {name: hashlib.sha1(data).hexdigest() for name, data in listed}
        return self.json(
            [
                {"type": "file", "path": name, "size": len(data), "oid": oids[name]}
                for name, data in listed
            ]
        )

    def failed(self, code: str) -> None:
        self.head(404, {"X-Error-Code": code, "Content-Length": "0"})

    def json(self, content: Any) -> None:
        data = json.dumps(content).encode()
        self.head(200, {"Content-Type": "application/json", "Content-Length": str(len(data))})
        self.wfile.write(data)

    def file(self, commit: str, data: bytes) -> None:
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        tag = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": commit}
        ranged = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        length = {"Content-Length": str(len(data) - start)}
        self.head(206 if start else 200, tag | ranged | length)
        if self.command == "GET":
            end, self.server.breaks_off_at = self.server.breaks_off_at, None
            self.wfile.write(data[start:end])
            self.close_connection = end is not None

    def head(self, code: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches of the test's own, for child processes too."""
    for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA", "HF_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Hub]:
    files = {commit: files_of(tmp_path / commit, seed) for seed, commit in enumerate((OLD, NEW))}
    with Hub(files) as hub:
        Thread(target=hub.serve_forever, daemon=True).start()
        yield hub
        hub.shutdown()


def fetched(server: Hub, name: str) -> subprocess.CompletedProcess[str]:
    """`minillm fetch` in a process that may ask this hub."""
    code = "import sys; from minillm.commands.main import main; sys.exit(main(sys.argv[1:]))"
    place = f"http://127.0.0.1:{server.server_port}"
    env = os.environ | {"HF_ENDPOINT": place, "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-c", code, "fetch", name]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_what_is_fetched_opens_offline_at_its_commit(
    server: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fetched(server, "me/tiny")
    assert run.returncode == 0, run.stderr
    assert f"me/tiny@{OLD}\n" in run.stderr
    place = Path(run.stdout.strip())
    assert place.name == OLD
    wanted = set(server.commits[OLD]) - set(REFUSED)
    assert {file.name for file in place.rglob("*")} == wanted
    assert not [path for path, _ in server.asked if path.endswith(tuple(REFUSED))]

    monkeypatch.setattr(socket, "socket", None)  # from here on nobody reaches anything
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    expected = oracles.tiny(minillm, seed=0, vocab_size=2048, dtype=torch.float32)
    tokens = oracles.tokens_of(0, 1, 9)
    assert torch.equal(minillm.load("me/tiny")[0](tokens), expected(tokens))
    assert opened("me/tiny").template is not None
    options = ["--max-new-tokens", "3", "--temperature", "0"]
    assert main(["generate", "Once", "--model", "me/tiny", *options]) == 0
    assert capsys.readouterr().out.startswith("Once")
    Path("text.txt").write_text("Once upon a time")
    assert main(["eval", "--model", "me/tiny", "--text", "text.txt"]) == 0
    assert capsys.readouterr().out.startswith("me/tiny on ")


def test_a_model_stays_the_same_until_it_is_fetched_again(server: Hub) -> None:
    assert fetched(server, "me/tiny").returncode == 0
    server.refs["main"] = NEW
    assert folder("me/tiny").name == OLD
    assert fetched(server, "me/tiny").returncode == 0
    assert folder("me/tiny").name == NEW
    assert fetched(server, "me/tiny@old").returncode == 0
    assert folder("me/tiny").name == OLD


def test_a_download_that_broke_off_goes_on(server: Hub) -> None:
    data = bytes(12 << 20)  # huggingface_hub writes 10 MiB at a time
    server.commits[OLD]["config.json"] = data
    server.breaks_off_at = 11 << 20
    assert "is not valid JSON" in fetched(server, "me/tiny").stderr
    [again] = [start for _, start in server.asked if start]
    assert again.startswith(f"bytes={10 << 20}-")


@pytest.mark.parametrize("name", ["me/other", "me/tiny@v9"])
def test_what_the_hub_refuses_is_one_line(name: str, server: Hub) -> None:
    run = fetched(server, name)
    assert run.returncode == 2
    assert run.stderr.startswith("minillm fetch: error: the Hugging Face Hub: 404")
    assert run.stderr.count("\n") == 1


# Without a hub


def test_a_config_that_is_not_supported_costs_no_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    answers = {"model_info": SimpleNamespace(sha=OLD), "hf_hub_download": "config.json"}
    monkeypatch.setattr(hub, "asked", lambda function, *given, **named: answers[function])
    with pytest.raises(ValueError, match=r"model_type must be one of .* got 'gpt2'"):
        fetch_snapshot("me/tiny")
    assert pinned("me/tiny") is None


def test_without_the_package_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert main(["fetch", "me/tiny"]) == 2
    error = capsys.readouterr().err
    assert "pip install 'minillm[hub]'" in error
    assert error.count("\n") == 1


def test_a_model_that_was_not_fetched_says_how(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"me/tiny is neither .*: minillm fetch me/tiny$"):
        minillm.load("me/tiny")
    pin = hub._pin("me/tiny")
    pin.parent.mkdir(parents=True)
    pin.write_text(str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError, match=r"minillm fetch me/tiny$"):
        minillm.load("me/tiny")


def test_a_folder_of_that_name_wins(server: Hub, tmp_path: Path) -> None:
    assert fetched(server, "me/tiny").returncode == 0
    here = tmp_path / "me" / "tiny"
    here.mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"a folder that holds a config\.json"):
        minillm.load("me/tiny")
    files_of(here, seed=5)
    assert folder("me/tiny") == Path("me/tiny")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("me/tiny", ("me/tiny", None)),
        ("Me_1/ti.ny-2@refs/pr/3", ("Me_1/ti.ny-2", "refs/pr/3")),
        ("tiny", None),
        ("me/tiny/x", None),
        ("../tiny", None),
        ("me/..", None),
        ("/me", None),
        ("me/tiny@", None),
        ("me/tiny@a b", None),
        ("me/tiny\n", None),
    ],
)
def test_an_id_is_two_names_and_perhaps_a_revision(text: str, found: object) -> None:
    assert hub_id(text) == found
