"""A command's threads sleep while they wait, and are no more than the container grants."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from minillm import threads
from minillm.commands.main import main
from minillm.threads import granted_cores, thread_settings

linux = pytest.mark.skipif(sys.platform != "linux", reason="OpenMP of Linux")


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads.sys, "platform", "linux")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(threads, "granted_cores", lambda: math.inf)


@pytest.mark.usefixtures("two_cores")
def test_threads_sleep_after_some_looks() -> None:
    assert thread_settings({"HOME": "/"}) == {"GOMP_SPINCOUNT": "1000"}


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS"])
def test_what_the_user_has_set_stands(name: str) -> None:
    assert thread_settings({name: "1"}) == {}


@pytest.mark.usefixtures("two_cores")
def test_other_systems_keep_their_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads.sys, "platform", "darwin")
    assert thread_settings({}) == {}


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize(("granted", "wanted"), [(1, "1"), (2, None), (3, None)])
def test_no_more_threads_than_a_container_grants(
    monkeypatch: pytest.MonkeyPatch, granted: int, wanted: str | None
) -> None:
    monkeypatch.setattr(threads, "granted_cores", lambda: granted)
    assert thread_settings({}).get("OMP_NUM_THREADS") == wanted


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, math.inf),
        ({"cpu.max": "max 100000\n"}, math.inf),
        ({"cpu.max": "150000 100000\n"}, 1),
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "300000\n"}, math.inf),
    ],
)
def test_a_quota_in_whole_cores(tmp_path: Path, files: dict[str, str], cores: float) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert granted_cores(tmp_path) == cores


@linux
def test_a_command_says_so_before_torch_is_loaded() -> None:
    code = (
        "import os, sys; from minillm.commands.main import main; loaded = 'torch' in sys.modules;"
        "main(['models']); print(loaded, 'torch' in sys.modules, os.environ['GOMP_SPINCOUNT'])"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines()[-1] == "False True 1000"


def test_where_torch_is_loaded_nothing_is_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    before = dict(os.environ)
    assert main(["models"]) == 0
    assert dict(os.environ) == before
    assert capsys.readouterr().out
