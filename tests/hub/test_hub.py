"""A class on JupyterHub: what its files say, what the load test refuses, and one class for real."""

import argparse
import importlib.util
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType

import nbformat
import psutil
import pytest
import requests
import yaml
from traitlets.config import Config, PyFileConfigLoader

HUB = Path(__file__).parents[2] / "binder" / "hub"
LESSON = "02_kv_cache"
CHART = {  # what of the chart's schema `values.yaml` uses; Helm checks the whole of it
    "hub": {"config", "concurrentSpawnLimit", "activeServerLimit"},
    "singleuser": {
        *("image", "defaultUrl", "startTimeout", "memory", "cpu", "storage", "extraEnv"),
        *("lifecycleHooks", "profileList"),
    },
    "cull": {"enabled", "timeout", "every"},
    "prePuller": {"continuous"},
}


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("load", HUB / "load.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["load"] = module  # where dataclasses look
    spec.loader.exec_module(module)
    return module


load = _load()


def read(name: str) -> Config:
    return PyFileConfigLoader(name, str(HUB)).load_config()


# what the files say


def test_a_students_server_has_limits_and_is_stopped_when_idle() -> None:
    config = read("jupyterhub_config.py")
    assert config.Spawner.mem_limit == "1500M"
    assert config.Spawner.environment["OMP_NUM_THREADS"] == "1"
    assert os.access(config.Spawner.cmd[0], os.X_OK)
    [culler] = config.JupyterHub.services
    [role] = config.JupyterHub.load_roles
    assert role["services"] == [culler["name"]]
    assert "delete:servers" in role["scopes"]
    assert config.JupyterHub.bind_url.startswith("http://127.0.0.1:")


def test_a_rehearsal_keeps_the_limits_and_stays_on_loopback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {"PASSWORD": "secret", "HOMES": "/homes", "PORT": "20000"}.items():
        monkeypatch.setenv(f"REHEARSAL_{name}", value)
    config, real = read("rehearsal_config.py"), read("jupyterhub_config.py")
    assert config.JupyterHub.bind_url == "http://127.0.0.1:20000"
    assert config.SimpleLocalProcessSpawner.home_dir_template == "/homes/{username}"
    for name in ("mem_limit", "cmd", "environment"):
        assert config.Spawner[name] == real.Spawner[name]


def test_values_for_kubernetes_are_the_charts_and_agree_with_the_one_server() -> None:
    values = yaml.safe_load((HUB / "values.yaml").read_text(encoding="utf-8"))
    assert {name: set(part) for name, part in values.items()} == CHART
    student = values["singleuser"]
    assert student["memory"]["limit"] == read("jupyterhub_config.py").Spawner.mem_limit
    assert student["extraEnv"]["OMP_NUM_THREADS"] == "1"
    home = student["storage"]["homeMountPath"]
    assert student["extraEnv"]["JUPYTER_CONFIG_PATH"].startswith(home)
    assert [profile.get("default", False) for profile in student["profileList"]] == [True, False]


# what the load test refuses


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["--users", "0"], "1 to 60 are possible, got 0"),
        (["--users", "61"], "1 to 60 are possible, got 61"),
        (["--users", "many"], "invalid"),
        (["--minutes", "31"], "0.1 to 30 are possible, got 31"),
        (["--minutes", "nan"], "are possible, got nan"),
        (["--think", "-1"], "0 to 120 are possible, got -1"),
        (["--hub", "http://hub.example.org"], "a hub on this machine is needed"),
        (["--hub", "http://127.0.0.1.example.org:8000"], "a hub on this machine is needed"),
        (["--hub", "http://127.0.0.1@example.org"], "a hub on this machine is needed"),
        (["--hub", "http://10.0.0.1:8000"], "a hub on this machine is needed"),
        (["--hub", "file:///localhost"], "a hub on this machine is needed"),
        (["--hub", "http://127.0.0.1:8000"], "--hub needs --password and --pid"),
    ],
)
def test_the_load_test_is_bounded_and_stays_on_loopback(
    argv: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        load.parse(argv)
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize("url", ["http://localhost:8000/", "http://[::1]:8000", "http://127.0.0.2"])
def test_a_hub_on_this_machine_is_taken(url: str) -> None:
    asked = load.parse(["--hub", url, "--password", "p", "--pid", "1"])
    assert asked.hub == url.rstrip("/")
    with pytest.raises(argparse.ArgumentTypeError):
        load.loopback(url.replace("http", "ftp"))


def test_the_report_counts_short_cells_apart_and_names_who_failed() -> None:
    alone = load.Work("student-0", 1.0, {"a": 0.01, "b": 5.0})
    works = [
        load.Work("student-1", 2.0, {"a": 0.5, "b": 9.0}),
        load.Work("student-2", 4.0, {"a": 0.7}, "b: MemoryError"),
    ]
    text = load.report(alone, works, 3 * 10**9, 1.0)
    assert "short cells, p95: 0.69 s; other cells, p95: 9.0 s" in text
    assert "start of a server, p95: 3.9 s" in text
    assert "at most: 3.0 GB" in text
    assert text.endswith("failures: 1\n  student-2: b: MemoryError")


@pytest.mark.parametrize(("method", "tries"), [("GET", 2), ("PUT", 2), ("POST", 1)])
def test_what_may_be_sent_twice_is_sent_again_where_a_connection_broke(
    method: str, tries: int
) -> None:
    asked = []

    class Breaking(BaseHTTPRequestHandler):
        def handle(self) -> None:
            asked.append(self.rfile.readline().split()[0].decode())
            if len(asked) == 2:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

        def finish(self) -> None:
            with suppress(OSError):
                super().finish()

    with HTTPServer(("127.0.0.1", 0), Breaking) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        session = load.Student(load.Hub(url, "", list), "ada", time.monotonic() + 60).session
        with nullcontext() if tries == 2 else pytest.raises(load.requests.ConnectionError):
            assert session.request(method, url, timeout=10).ok
        server.shutdown()
    assert asked == [method] * tries


# a class for real


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("jupyterhub") is None:
        pytest.skip("jupyterhub is not installed: pip install -r binder/hub/requirements.txt")
    if shutil.which("configurable-http-proxy") is None:
        pytest.skip("configurable-http-proxy is not on the PATH: npm install it")
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def hub(folder: Path) -> "Iterator[load.Hub]":  # type: ignore[name-defined]
    with load.rehearsal(folder) as running:
        yield running


def student(hub: "load.Hub", number: int) -> "load.Student":  # type: ignore[name-defined]
    one = load.Student(hub, f"student-{number}", time.monotonic() + 300)
    one.log_in()
    one.start_server()
    return one


@pytest.mark.hub
def test_two_students_work_through_a_lesson(hub: "load.Hub") -> None:  # type: ignore[name-defined]
    text, well = load.measure(hub, 2, 10, 0.1, 0, LESSON)
    assert well, text


@pytest.mark.hub
def test_a_student_does_not_reach_anothers_server(hub: "load.Hub") -> None:  # type: ignore[name-defined]
    one, other = student(hub, 1), student(hub, 2)
    address = f"api/contents/minillm-lessons/{LESSON}.ipynb"
    assert other.session.get(other.server + address).ok
    assert one.session.get(other.server + address, allow_redirects=False).status_code == 403


@pytest.fixture(scope="module")
def started(hub: "load.Hub") -> Iterator[list[subprocess.Popen[bytes]]]:  # type: ignore[name-defined]
    """What a test starts for those after it as well."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.terminate()
        process.wait(30)


@pytest.mark.hub
def test_work_outlives_its_kernel_and_a_restart_of_the_hub(
    hub: "load.Hub",  # type: ignore[name-defined]
    started: list[subprocess.Popen[bytes]],
) -> None:
    one = student(hub, 3)
    path = f"minillm-lessons/{LESSON}.ipynb"
    notebook = one.read(path)
    notebook["cells"][0]["source"] = "mine"
    one.save(path, notebook)
    with one.kernel(path) as channels:
        assert one.run(channels, "import os; os.environ['OMP_NUM_THREADS']") == ""
        assert one.run(channels, "bytearray(2 * 10**9)") == "MemoryError"
        [kernel] = [p for p in hub.family() if "student-3" in p.cwd() and _is_kernel(p)]
        kernel.kill()
    assert one.read(path)["cells"][0]["source"] == "mine"

    [main] = [p for p in hub.family() if p.cmdline()[1:3] == ["-m", "jupyterhub"]]
    command, environment, folder = main.cmdline(), main.environ(), main.cwd()
    cullers = [p for p in main.children() if "jupyterhub_idle_culler" in p.cmdline()]
    main.send_signal(signal.SIGKILL)
    main.wait(30)
    for culler in cullers:  # no hub ends it
        culler.kill()
    log = Path(folder, "again.log")
    with log.open("w") as output:
        again = subprocess.Popen(command, env=environment, cwd=folder, stdout=output, stderr=output)
    started.append(again)
    load.wait_until_up(hub.url, again, log)
    servers = [p for p in hub.family() if "jupyterhub-singleuser" in " ".join(p.cmdline())]
    assert len(servers) >= 1
    assert student(hub, 3).read(path)["cells"][0]["source"] == "mine"


def _is_kernel(process: psutil.Process) -> bool:
    return "ipykernel_launcher" in process.cmdline()


@pytest.fixture
def small_home(hub: "load.Hub", folder: Path) -> Iterator[Path]:  # type: ignore[name-defined]
    """The home of student-4: a disk of 4 MB."""
    if os.geteuid() != 0:
        pytest.skip("a small disk needs root, who may mount it")
    home = folder / "homes" / "student-4"
    home.mkdir()
    disk = ["-t", "tmpfs", "-o", "size=4m", "tmpfs"]
    mounted = subprocess.run(["mount", *disk, str(home)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted: {mounted.stderr}")
    yield home
    subprocess.run(["umount", "--lazy", str(home)], check=True)


@pytest.mark.hub
def test_a_full_disk_is_told_and_what_was_saved_before_stays(
    hub: "load.Hub",  # type: ignore[name-defined]
    small_home: Path,
) -> None:
    one = student(hub, 4)
    path = f"minillm-lessons/{LESSON}.ipynb"
    notebook = one.read(path)
    notebook["cells"][0]["source"] = "saved"
    one.save(path, notebook)
    rest = small_home / "rest"
    fill = ["dd", "if=/dev/zero", f"of={rest}", "bs=4096"]
    assert b"No space left" in subprocess.run(fill, capture_output=True).stderr
    notebook["cells"][0]["source"] = "more " * 10_000
    with pytest.raises(requests.HTTPError) as refused:
        one.save(path, notebook)
    told = refused.value.response.json()["message"]  # JupyterLab shows it
    assert re.search("disk is full|No space left", told), told
    assert one.read(path)["cells"][0]["source"] == "saved"
    rest.unlink()
    one.save(path, notebook)
    assert one.read(path)["cells"][0]["source"] == "more " * 10_000


# students with accounts of the system, as README.md makes them

ACCOUNTS = ("minillm-ada", "minillm-bob")
CONFIG = """\
c = get_config()
load_subconfig({!r})
c.JupyterHub.authenticator_class = "pam"
c.JupyterHub.spawner_class = "localprocess"
c.Authenticator.allow_all = False
"""


@pytest.fixture(scope="module")
def accounts() -> Iterator[str]:
    """Makes them; yields their password."""
    if os.geteuid() != 0 or shutil.which("useradd") is None:
        pytest.skip("accounts of the system need root, and useradd")
    readme = (HUB / "README.md").read_text(encoding="utf-8")
    found = re.search(r"^(useradd .*) ada && passwd ada$", readme, re.MULTILINE)
    assert found
    group = subprocess.run(["groupadd", "students"], capture_output=True).returncode == 0
    password = secrets.token_hex()
    try:
        for name in ACCOUNTS:
            subprocess.run([*found[1].split(), name], check=True)
            subprocess.run(["chpasswd"], input=f"{name}:{password}", text=True, check=True)
        ours = ["runuser", "-u", ACCOUNTS[0], "--", sys.executable, "-c", "import minillm"]
        if subprocess.run(ours, capture_output=True, cwd="/").returncode:
            pytest.skip(f"students cannot read {sys.executable} or this repository")
        yield password
    finally:
        for name in ACCOUNTS:
            subprocess.run(["userdel", "--remove", name], capture_output=True)
        if group:
            subprocess.run(["groupdel", "students"], check=True)


@pytest.mark.hub
def test_a_student_does_not_read_anothers_files(folder: Path, accounts: str) -> None:
    place = folder / "accounts"
    place.mkdir()
    config = place / "config.py"
    config.write_text(CONFIG.format(str(HUB / "rehearsal_config.py")), encoding="utf-8")
    with load.rehearsal(place, config) as running:
        hub = replace(running, password=accounts)
        ada, bob = (load.Student(hub, name, time.monotonic() + 300) for name in ACCOUNTS)
        for one in (ada, bob):
            one.log_in()
            one.start_server()
            one.save("mine.ipynb", nbformat.v4.new_notebook())
        homes = [Path(f"~{name}").expanduser() for name in ACCOUNTS]
        assert [home.owner() for home in homes] == list(ACCOUNTS)
        with ada.kernel("mine.ipynb") as channels:
            for name, home in zip(("me", "bob"), homes, strict=True):
                assert ada.run(channels, f"import os; os.symlink({str(home)!r}, {name!r})") == ""
            assert ada.run(channels, f"open({str(homes[0] / 'mine.ipynb')!r})") == ""
            assert ada.run(channels, f"open({str(homes[1] / 'mine.ipynb')!r})") == "PermissionError"
        assert ada.read("me/mine.ipynb")["cells"] == []  # her server follows links
        for path in ("bob/mine.ipynb", f"../{ACCOUNTS[1]}/mine.ipynb", "bob"):
            assert not ada.session.get(f"{ada.server}api/contents/{path}").ok
