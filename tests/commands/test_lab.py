"""`minillm lab`: the learner's copy, the command line of JupyterLab, and its kernel."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn

import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyterlab_server.settings_utils import get_settings

from minillm.commands import copies, lab
from minillm.commands.main import main
from minillm.files import write_whole


class Answering(BaseHTTPRequestHandler):
    """A server that is there."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def write(path: Path, *sources: str, output: str = "42") -> None:
    """An executed notebook with one code cell for each source, under a heading."""
    cells: list[dict[str, Any]] = [
        {"cell_type": "markdown", "id": "head", "metadata": {}, "source": ["# A lesson"]}
    ]
    for index, source in enumerate(sources):
        cells.append(
            {
                "cell_type": "code",
                "id": f"cell{index}",
                "metadata": {"tags": ["nbval-ignore-output"]},
                "execution_count": index + 1,
                "outputs": [{"output_type": "stream", "name": "stdout", "text": [output]}],
                "source": source.splitlines(keepends=True),
            }
        )
    metadata = {
        "kernelspec": {"name": "elsewhere", "display_name": "E", "language": "python"},
        "widgets": {"state": {}},
        "language_info": {"name": "python"},
    }
    notebook = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(notebook), encoding="utf-8")


def code(path: Path) -> list[str]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("[!.]*"))


@pytest.fixture
def originals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "notebooks"
    folder.mkdir()
    write(folder / "01_decoding.ipynb", "print(40 + 2)")
    write(folder / "02_kv_cache.ipynb", "import minillm", "print(6 * 7)")
    monkeypatch.setattr(lab, "lessons_folder", lambda: folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mine"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, str]]]:
    """The command lines and environments with which JupyterLab would have been started."""
    calls: list[tuple[list[str], dict[str, str]]] = []

    def become(path: str, line: list[str], env: dict[str, str]) -> NoReturn:
        calls.append((line, env))
        raise SystemExit

    monkeypatch.setattr(os, "execve", become)
    return calls


def start(*argv: str) -> None:
    with pytest.raises(SystemExit):
        main(["lab", *argv])


# --- the learner's copy ---


def test_copies_have_the_sources_but_no_outputs(originals: Path, folder: Path):
    assert lab.hand_out(lab.lessons(), folder) == []
    assert names(folder) == ["01_decoding.ipynb", "02_kv_cache.ipynb"]
    copy = json.loads((folder / "02_kv_cache.ipynb").read_text(encoding="utf-8"))
    assert code(folder / "02_kv_cache.ipynb") == ["import minillm", "print(6 * 7)"]
    for cell in copy["cells"][1:]:
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
        assert cell["metadata"] == {"tags": ["nbval-ignore-output"]}
    assert copy["cells"][0]["source"] == ["# A lesson"]
    assert "outputs" not in copy["cells"][0]
    assert copy["metadata"]["kernelspec"]["name"] == "python3"
    assert set(copy["metadata"]) == {"kernelspec", "language_info"}
    assert "42" in (originals / "02_kv_cache.ipynb").read_text(encoding="utf-8")  # untouched


def test_a_lesson_that_was_run_but_not_changed_keeps_its_outputs(originals: Path, folder: Path):
    lab.hand_out(lab.lessons(), folder)
    copy = folder / "01_decoding.ipynb"
    write(copy, "print(40 + 2)", output="my output")
    assert lab.hand_out(lab.lessons(), folder) == []
    assert "my output" in copy.read_text(encoding="utf-8")


def test_an_unchanged_lesson_is_replaced_by_its_new_version(originals: Path, folder: Path):
    lab.hand_out(lab.lessons(), folder)
    write(folder / "01_decoding.ipynb", "print(40 + 2)", output="my output")
    write(originals / "01_decoding.ipynb", "print('new')")
    [message] = lab.hand_out(lab.lessons(), folder)
    assert message == "01_decoding.ipynb is new in this version of the course"
    assert code(folder / "01_decoding.ipynb") == ["print('new')"]
    assert names(folder) == ["01_decoding.ipynb", "02_kv_cache.ipynb"]


def test_a_lesson_with_another_number_takes_the_place_of_an_unchanged_copy(
    originals: Path, folder: Path
):
    lab.hand_out(lab.lessons(), folder)
    (originals / "01_decoding.ipynb").rename(originals / "03_decoding.ipynb")
    assert lab.hand_out([], folder) == []  # as for --originals
    assert names(folder) == ["01_decoding.ipynb", "02_kv_cache.ipynb"]
    assert lab.hand_out(lab.lessons(), folder) == []
    assert names(folder) == ["02_kv_cache.ipynb", "03_decoding.ipynb"]
    assert lab.hand_out(lab.lessons(), folder) == []


def test_a_changed_lesson_that_has_left_the_course_is_kept_and_named_once(
    originals: Path, folder: Path
):
    lab.hand_out(lab.lessons(), folder)
    write(folder / "01_decoding.ipynb", "print('mine')")
    (originals / "01_decoding.ipynb").unlink()
    [message] = lab.hand_out(lab.lessons(), folder)
    assert message.startswith("01_decoding.ipynb is no longer part of the course")
    assert code(folder / "01_decoding.ipynb") == ["print('mine')"]
    assert lab.hand_out(lab.lessons(), folder) == []


def test_a_changed_lesson_is_kept_and_its_new_version_put_beside_it(originals: Path, folder: Path):
    lab.hand_out(lab.lessons(), folder)
    mine = folder / "01_decoding.ipynb"
    write(mine, "print('mine')")
    before = mine.read_bytes()
    assert lab.hand_out(lab.lessons(), folder) == []  # no new version, nothing to say
    write(originals / "01_decoding.ipynb", "print('new')")
    [message] = lab.hand_out(lab.lessons(), folder)
    assert "you changed yours: it is kept, see 01_decoding.new1.ipynb" in message
    assert mine.read_bytes() == before
    assert code(folder / "01_decoding.new1.ipynb") == ["print('new')"]
    assert lab.hand_out(lab.lessons(), folder) == []  # said once

    write(originals / "01_decoding.ipynb", "print('newer')")  # the one beside it was not changed
    lab.hand_out(lab.lessons(), folder)
    assert code(folder / "01_decoding.new1.ipynb") == ["print('newer')"]
    write(folder / "01_decoding.new1.ipynb", "print('mine too')")
    write(originals / "01_decoding.ipynb", "print('newest')")
    lab.hand_out(lab.lessons(), folder)
    assert code(folder / "01_decoding.new1.ipynb") == ["print('mine too')"]
    assert code(folder / "01_decoding.new2.ipynb") == ["print('newest')"]
    assert mine.read_bytes() == before


def test_a_removed_lesson_comes_back_but_a_removed_new_version_does_not(
    originals: Path, folder: Path
):
    lab.hand_out(lab.lessons(), folder)
    write(folder / "01_decoding.ipynb", "print('mine')")
    write(originals / "01_decoding.ipynb", "print('new')")
    lab.hand_out(lab.lessons(), folder)
    (folder / "01_decoding.new1.ipynb").unlink()
    (folder / "02_kv_cache.ipynb").unlink()
    lab.hand_out(lab.lessons(), folder)
    assert names(folder) == ["01_decoding.ipynb", "02_kv_cache.ipynb"]


@pytest.mark.parametrize("memory", ["", "not json", None])
def test_without_its_memory_it_takes_every_difference_for_the_learners(
    memory: str | None, originals: Path, folder: Path
):
    lab.hand_out(lab.lessons(), folder)
    write(folder / "01_decoding.ipynb", "print('mine')")
    remembered = folder / ".minillm" / "handed_out.json"
    remembered.unlink() if memory is None else remembered.write_text(memory, encoding="utf-8")
    lab.hand_out(lab.lessons(), folder)
    assert code(folder / "01_decoding.ipynb") == ["print('mine')"]
    assert names(folder) == ["01_decoding.ipynb", "01_decoding.new1.ipynb", "02_kv_cache.ipynb"]


@pytest.mark.parametrize("mine", [b"", b"{", b"[]", b"\xff\xfe", b'{"cells": [1]}'])
def test_a_broken_notebook_is_the_learners(mine: bytes, originals: Path, folder: Path):
    lab.hand_out(lab.lessons(), folder)
    (folder / "01_decoding.ipynb").write_bytes(mine)
    write(originals / "01_decoding.ipynb", "print('new')")
    lab.hand_out(lab.lessons(), folder)
    assert (folder / "01_decoding.ipynb").read_bytes() == mine


@pytest.mark.usefixtures("originals")
@pytest.mark.parametrize("when", range(5))
def test_two_first_starts_at_once_leave_every_file_whole(
    when: int, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    writes = 0

    def write(path: Path, fill: Callable[[Path], object]) -> None:
        def fill_and_let_another_start(beside: Path) -> None:
            nonlocal writes
            fill(beside)
            writes += 1
            if writes == when + 1:
                assert lab.hand_out(lab.lessons(), folder) == []

        write_whole(path, fill_and_let_another_start)

    monkeypatch.setattr(copies, "write_whole", write)
    assert lab.hand_out(lab.lessons(), folder) == []
    assert writes > 5
    assert code(folder / "02_kv_cache.ipynb") == ["import minillm", "print(6 * 7)"]
    assert lab.hand_out(lab.lessons(), folder) == []  # and both remember what was handed out
    assert names(folder) == ["01_decoding.ipynb", "02_kv_cache.ipynb"]
    assert not list(folder.rglob("*.partial"))


# --- the command ---


@pytest.mark.parametrize("name", ["02", "kv_cache", "02_kv_cache", "02_kv_cache.ipynb"])
def test_a_lesson_is_found_by_number_name_or_both(name: str, originals: Path):
    assert lab.find(name) == originals / "02_kv_cache.ipynb"


def test_the_first_lesson_is_the_default(originals: Path):
    assert lab.find(None) == originals / "01_decoding.ipynb"


def test_the_command_line_of_jupyterlab():
    assert lab.command(Path("/home/me/lessons"), "02_kv_cache.ipynb", ["--no-browser"]) == [
        sys.executable,
        "-P",
        "-m",
        "jupyterlab",
        "--ServerApp.root_dir=/home/me/lessons",
        "--LabApp.default_url=/lab/tree/02_kv_cache.ipynb",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.news_url=None",
        "--no-browser",
    ]


def test_jupyterlab_does_not_run_the_learners_modules(tmp_path: Path):
    for name in ("random", "queue", "email", "types"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('mine, not the library')")
    line = lab.command(tmp_path, "02_kv_cache.ipynb", [])
    interpreter = line[: line.index("-m")]
    subprocess.run([*interpreter, "-c", "import random, queue, email"], cwd=tmp_path, check=True)


def test_jupyterlab_does_not_ask_about_news_but_the_users_choice_holds(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    name = "@jupyterlab/apputils-extension:notification"
    app = Path(sys.prefix, "share", "jupyter", "lab")

    def news() -> tuple[str, dict[str, str]]:
        found, _ = get_settings(str(app), str(app / "schemas"), str(tmp_path), name)
        return found["schema"]["properties"]["fetchNews"]["default"], found["settings"]

    inherited = tmp_path / "inherited"
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", str(inherited))
    assert news() == ("none", {})  # ask

    lab.hand_out([], folder)
    path = lab.environment(folder, os.environ)["JUPYTER_CONFIG_PATH"]
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", path)
    assert news() == ("false", {})
    setting = tmp_path / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    setting.parent.mkdir(parents=True)
    setting.write_text('{"fetchNews": "true"}')
    assert news() == ("false", {"fetchNews": "true"})
    (inherited / "labconfig").mkdir(parents=True)
    override = json.dumps({name: {"fetchNews": "none"}})
    (inherited / "labconfig" / "default_setting_overrides.json").write_text(override)
    assert news()[0] == "none"


@pytest.mark.usefixtures("originals")
def test_jupyters_options_are_passed_on(
    folder: Path, started: list[tuple[list[str], dict[str, str]]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(os, "geteuid", lambda: 1000, raising=False)
    options = ["--no-browser", "--ip=0.0.0.0", "--port", "8888"]
    start("kv_cache", "--folder", str(folder), *options)
    start(*options, "--folder", str(folder))
    (first, environment), (second, _) = started
    assert first == lab.command(folder, "02_kv_cache.ipynb", options)
    assert second == lab.command(folder, "01_decoding.ipynb", options)
    assert environment["JUPYTER_PATH"].split(os.pathsep)[1] == str(folder / ".minillm")


@pytest.mark.usefixtures("originals")
def test_a_second_start_joins_the_server_that_is_open_on_the_folder(
    folder: Path,
    started: list[tuple[list[str], dict[str, str]]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    opened: list[str] = []
    monkeypatch.setattr(lab.webbrowser, "open", opened.append)
    monkeypatch.delenv("JUPYTER_RUNTIME_DIR", raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        files = folder / ".minillm" / "runtime"
        files.mkdir(parents=True)
        (files / "jpserver-1.json").write_text("{")
        told = {"url": url, "token": "secret", "root_dir": str(folder.parent)}
        (files / "jpserver-2.json").write_text(json.dumps(told))
        start("--folder", str(folder))
        assert started.pop()[1]["JUPYTER_RUNTIME_DIR"] == str(files)

        (files / "jpserver-3.json").write_text(json.dumps({**told, "root_dir": str(folder)}))
        assert main(["lab", "02", "--folder", str(folder)]) == 0
        address = f"{url}lab/tree/02_kv_cache.ipynb?token=secret"
        assert opened == [address]
        assert f"already open on {folder}: {address}" in capsys.readouterr().err
        assert main(["lab", "--folder", str(folder), "--no-browser"]) == 0
        assert len(opened) == 1
        assert started == []
        server.shutdown()
    start("--folder", str(folder))  # it has been stopped
    assert len(started) == 1


@pytest.mark.usefixtures("originals")
def test_lessons_are_handed_out_without_being_opened(
    originals: Path, folder: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["handout", str(folder)]) == 0
    assert names(folder) == ["01_decoding.ipynb", "02_kv_cache.ipynb"]
    write(folder / "01_decoding.ipynb", "print('mine')")
    write(originals / "01_decoding.ipynb", "print('new')")
    assert main(["handout", str(folder)]) == 0
    assert "you changed yours: it is kept" in capsys.readouterr().out
    assert code(folder / "01_decoding.ipynb") == ["print('mine')"]
    assert main(["handout", str(originals)]) == 2
    assert "holds the committed lessons" in capsys.readouterr().err


@pytest.mark.usefixtures("originals")
def test_root_is_allowed_and_told(
    folder: Path,
    started: list[tuple[list[str], dict[str, str]]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)
    start("--folder", str(folder))
    assert started[0][0][-1] == "--allow-root"
    assert "--allow-root" in capsys.readouterr().err
    start("--folder", str(folder), "--allow-root")
    assert started[1][0].count("--allow-root") == 1


def test_the_originals_are_opened_where_they_are(
    originals: Path, folder: Path, started: list[tuple[list[str], dict[str, str]]]
):
    start("--originals", "--folder", str(folder))
    assert f"--ServerApp.root_dir={originals}" in started[0][0]
    assert names(folder) == []


@pytest.mark.usefixtures("originals")
def test_kernel_python3_is_this_environments_whatever_the_user_has(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def argv() -> list[str]:
        return KernelSpecManager().get_kernel_spec("python3").argv

    shadow = tmp_path / "data" / "kernels" / "python3"
    shadow.mkdir(parents=True)
    spec = {"argv": ["/opt/other/python"], "display_name": "Other", "language": "python"}
    (shadow / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    monkeypatch.delenv("JUPYTER_PATH", raising=False)
    assert argv() == ["/opt/other/python"]

    lab.hand_out([], folder)
    for prefix in (sys.prefix, str(tmp_path)):  # with a kernel installed in it, and without
        monkeypatch.setattr(sys, "prefix", prefix)
        monkeypatch.delenv("JUPYTER_PATH", raising=False)
        monkeypatch.setenv("JUPYTER_PATH", lab.environment(folder, os.environ)["JUPYTER_PATH"])
        assert argv()[0] in ("python", sys.executable)  # Jupyter reads "python" as its own
        assert argv()[1:] == ["-m", "ipykernel_launcher", "-f", "{connection_file}"]


@pytest.mark.usefixtures("originals")
@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["bogus"], "no lesson 'bogus': there are 01_decoding, 02_kv_cache"),
        (["--folder"], "expected one argument"),
        (["--folder", ""], "--folder: the name of a file or folder is needed, got ''"),
        (["--folder", "NOTEBOOKS"], "holds the committed lessons"),
        (["--folder", "FILE/lessons"], "Not a directory"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    argv: list[str],
    complaint: str,
    tmp_path: Path,
    started: list[tuple[list[str], dict[str, str]]],
    capsys: pytest.CaptureFixture[str],
):
    (tmp_path / "file").touch()
    places = {"NOTEBOOKS": "notebooks", "FILE/lessons": "file/lessons"}
    main_argv = [str(tmp_path / places[word]) if word in places else word for word in argv]
    assert main(["lab", *main_argv]) == 2
    err = capsys.readouterr().err
    assert complaint in err
    assert err.count("\n") == 1
    assert not started


@pytest.mark.usefixtures("originals")
def test_a_missing_jupyterlab_is_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(lab, "find_spec", lambda name: None)
    assert main(["lab", "--folder", str(folder)]) == 2
    assert "python -m pip install jupyterlab" in capsys.readouterr().err
    assert not folder.exists()


@pytest.mark.usefixtures("originals")
def test_a_full_disk_leaves_no_half_written_lesson(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    lab.hand_out([], folder)

    def full(self: Path, text: str, encoding: str) -> int:
        self.touch()
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_text", full)
    assert main(["lab", "--folder", str(folder)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert names(folder) == []
    assert not list(folder.rglob("*.partial"))


def test_the_lessons_are_beside_or_in_the_package():
    folder = lab.lessons_folder()
    assert folder.name == "notebooks"
    assert folder.parent in Path(lab.__file__).parents[1:3]
