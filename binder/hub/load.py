"""A class on a hub: `python binder/hub/load.py --users 10`.

Students come within a minute, log in, start a server, open a kernel and work through a lesson,
over the hub's own pages and API as a browser does: each thinks before a cell, runs it, and saves.
Bounded in students and in minutes, on loopback only. One student is alone first: its times tell
which cells are short.

Without `--hub` this starts a hub of its own (`rehearsal_config.py`) and ends it.
"""

import argparse
import ipaddress
import json
import os
import random
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

HERE = Path(__file__).parent
MOST_USERS = 60
MOST_MINUTES = 30
SHORT = 0.1  # seconds of a cell that a student takes for immediate
CELL_SECONDS = 240


@dataclass(frozen=True)
class Hub:
    """Where a hub is, what its students' password is, and its processes with its students'."""

    url: str
    password: str
    family: Callable[[], list[psutil.Process]]


@dataclass
class Work:
    """What one student met: seconds of the server's start and of each cell, and what went wrong."""

    name: str
    start: float = float("nan")
    cells: dict[str, float] = field(default_factory=dict)
    failure: str = ""


class TimeUpError(Exception):
    """The bound on the whole run is reached."""


class Student:
    """One browser: cookies, a server, a kernel.

    Raises:
        requests.HTTPError: the hub or the server refuses.
    """

    def __init__(self, hub: Hub, name: str, deadline: float):
        self.hub, self.name, self.deadline = hub, name, deadline
        self.session = requests.Session()
        self.session.trust_env = False  # no proxy stands before loopback
        # As a browser: a connection that was closed just then costs no more than a second try.
        again = Retry(3, backoff_factor=0.5, allowed_methods=("GET", "PUT"), status=0)
        self.session.mount(hub.url, HTTPAdapter(max_retries=again))
        self.server = f"{hub.url}/user/{name}/"

    def log_in(self) -> None:
        page = f"{self.hub.url}/hub/login"
        self.session.get(page, timeout=60).raise_for_status()
        form = {"username": self.name, "password": self.hub.password, "_xsrf": self._xsrf("/hub/")}
        reply = self.session.post(page, data=form, allow_redirects=False, timeout=60)
        if reply.status_code != 302:
            raise requests.HTTPError(f"{self.name} is not let in: {reply.status_code}")

    def start_server(self) -> None:
        """Ask for it unless it runs, wait until it answers, and let it know this browser."""
        url = f"{self.hub.url}/hub/api/users/{self.name}"
        self.session.get(f"{self.hub.url}/hub/home", timeout=60).raise_for_status()
        headers = {"X-XSRFToken": self._xsrf("/hub/"), "Referer": f"{self.hub.url}/hub/home"}
        if "" not in self._get(url, headers)["servers"]:
            self.session.post(f"{url}/server", headers=headers, timeout=120).raise_for_status()
        while not self._get(url, headers)["servers"].get("", {}).get("ready"):
            self.wait(0.5)
        self.session.get(f"{self.server}lab", timeout=120).raise_for_status()

    def read(self, path: str) -> Any:
        """What the server has of a file."""
        return self._get(f"{self.server}api/contents/{path}", {})["content"]

    def save(self, path: str, notebook: Any) -> None:
        body = {"type": "notebook", "format": "json", "content": notebook}
        self._send("PUT", f"api/contents/{path}", body)

    @contextmanager
    def kernel(self, path: str) -> Iterator[ClientConnection]:
        """The channels of a kernel for this notebook."""
        wanted = {"path": path, "name": path, "type": "notebook", "kernel": {"name": "python3"}}
        kernel = self._send("POST", "api/sessions", wanted)["kernel"]["id"]
        cookies = requests.cookies.get_cookie_header(
            self.session.cookies, requests.Request("GET", self.server).prepare()
        )
        address = f"{self.server}api/kernels/{kernel}/channels?session_id={uuid.uuid4().hex}"
        with connect(
            address.replace("http", "ws", 1),
            additional_headers={"Cookie": cookies or ""},
            proxy=None,
            open_timeout=120,
            max_size=None,
            max_queue=None,  # as a browser, it answers pings also while nobody reads
        ) as channels:
            yield channels

    def run(self, channels: ClientConnection, code: str) -> str:
        """Execute code; how it failed, or nothing. Returns when the kernel is idle again."""
        message = uuid.uuid4().hex
        header = {"msg_id": message, "msg_type": "execute_request", "version": "5.3"}
        header |= {"username": self.name, "session": message, "date": ""}
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
        request = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
        channels.send(json.dumps(request | {"channel": "shell", "buffers": []}))
        failure, open_ends = "", {"execute_reply", "idle"}
        while open_ends:
            self.wait(0)
            frame = channels.recv(timeout=CELL_SECONDS)
            if isinstance(frame, bytes):
                continue  # a widget's buffers
            reply = json.loads(frame)
            if reply["parent_header"].get("msg_id") != message:
                continue
            if reply["msg_type"] == "execute_reply" and reply["content"]["status"] != "ok":
                failure = reply["content"].get("ename", "aborted")
            open_ends -= {reply["msg_type"], reply["content"].get("execution_state")}
        return failure

    def think(self, seconds: float) -> None:
        self.wait(random.uniform(0.5, 1.5) * seconds)

    def wait(self, seconds: float) -> None:
        if time.monotonic() + seconds > self.deadline:
            raise TimeUpError
        time.sleep(seconds)

    def _get(self, url: str, headers: Mapping[str, str]) -> Any:
        reply = self.session.get(url, headers=headers, timeout=120)
        reply.raise_for_status()
        return reply.json()

    def _send(self, method: str, path: str, body: Mapping[str, Any]) -> Any:
        headers = {"X-XSRFToken": self._xsrf(f"/user/{self.name}/")}
        url = self.server + path
        reply = self.session.request(method, url, json=body, headers=headers, timeout=120)
        reply.raise_for_status()
        return reply.json()

    def _xsrf(self, path: str) -> str:
        return next(c.value for c in self.session.cookies if (c.name, c.path) == ("_xsrf", path))


def study(student: Student, lesson: str, think: float, within: float = 0) -> Work:
    """Come within so many seconds, work through a lesson; what went wrong is told, not raised."""
    work = Work(student.name)
    try:
        student.wait(random.uniform(0, within))
        student.log_in()
        begun = time.monotonic()
        student.start_server()
        work.start = time.monotonic() - begun
        _work_through(student, lesson, think, work)
    except TimeUpError:
        work.failure = f"time is up after {len(work.cells)} cells"
    except (requests.RequestException, WebSocketException, OSError) as error:
        work.failure = f"{type(error).__name__}: {error}"
    return work


def _work_through(student: Student, lesson: str, think: float, work: Work) -> None:
    path = f"minillm-lessons/{lesson}.ipynb"
    notebook = student.read(path)
    with student.kernel(path) as channels:
        for cell in notebook["cells"]:
            if cell["cell_type"] != "code":
                continue
            student.think(think)
            begun = time.monotonic()
            failure = student.run(channels, "".join(cell["source"]))
            work.cells[cell["id"]] = time.monotonic() - begun
            if failure:
                work.failure = f"{cell['id']}: {failure}"
                return
            cell["source"] += f"\n# {student.name} was here"
            student.save(path, notebook)
    sources = [cell["source"] for cell in student.read(path)["cells"]]
    if sources != [cell["source"] for cell in notebook["cells"]]:
        work.failure = "what was saved is not there"


@contextmanager
def rehearsal(folder: Path, config: Path = HERE / "rehearsal_config.py") -> Iterator[Hub]:
    """A hub of one's own on free ports, and its end with all it started.

    Args:
        folder: of its files and the students' homes.
        config: of the hub; it reads the same `REHEARSAL_` variables as the default one.

    Raises:
        RuntimeError: it does not start within a minute.
    """
    port, password = free_ports(), secrets.token_hex()
    homes = folder / "homes"
    homes.mkdir()
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "REHEARSAL_PORT": str(port),
        "REHEARSAL_HOMES": str(homes),
        "REHEARSAL_PASSWORD": password,
    }
    log = folder / "hub.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterhub", f"--config={config}"],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=output,
        )
    hub = Hub(f"http://127.0.0.1:{port}", password, lambda: _rehearsing(homes))
    try:
        wait_until_up(hub.url, process, log)
        yield hub
    finally:
        for end in (psutil.Process.terminate, psutil.Process.kill):
            family = hub.family()
            for member in family:
                with suppress(psutil.NoSuchProcess):
                    end(member)
            psutil.wait_procs(family, timeout=20)
        process.wait()


def _rehearsing(homes: Path) -> list[psutil.Process]:
    """All that stems from the rehearsal with these homes, also of a hub that is no more."""
    family = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("REHEARSAL_HOMES") == str(homes):
                family.append(process)
    return family


def _descent(pid: int) -> list[psutil.Process]:
    hub = psutil.Process(pid)
    return [hub, *hub.children(recursive=True)]


def wait_until_up(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    with requests.Session() as session:
        session.trust_env = False
        while time.monotonic() < deadline and process.poll() is None:
            with suppress(requests.RequestException):
                if session.get(f"{url}/hub/api", timeout=5).ok:
                    return
            time.sleep(0.3)
    raise RuntimeError(f"the hub did not start:\n{log.read_text()[-3000:]}")


def free_ports() -> int:
    """The first of three neighbouring ports that nothing listens on."""
    while True:
        first = random.randrange(20_000, 30_000)
        try:
            for port in range(first, first + 3):
                with socket.socket() as server:
                    server.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first


class Memory(threading.Thread):
    """The most memory that a hub and its students hold: proportional set size, in bytes."""

    def __init__(self, hub: Hub):
        super().__init__(daemon=True)
        self.hub, self.most, self.ended = hub, 0, threading.Event()

    def run(self) -> None:
        while not self.ended.wait(5):
            self.most = max(self.most, sum(map(proportional, self.hub.family())))


def proportional(process: psutil.Process) -> int:
    """Bytes of its own, and its share of what it shares; 0 of a process that is gone."""
    try:
        return process.memory_full_info().pss
    except psutil.Error:
        return 0


def p95(values: list[float]) -> float:
    """The 95th percentile; of one value, the value; NaN of none.

    >>> p95([1.0]), round(p95([float(i) for i in range(101)]), 3)
    (1.0, 95.0)
    """
    if len(values) < 2:
        return values[0] if values else float("nan")
    return statistics.quantiles(values, n=20, method="inclusive")[-1]


def report(alone: Work, works: list[Work], memory: int, minutes: float) -> str:
    """What the class met, line by line."""
    short = {cell for cell, seconds in alone.cells.items() if seconds < SHORT}
    waits = [s for work in works for cell, s in work.cells.items() if cell in short]
    long = [s for work in works for cell, s in work.cells.items() if cell not in short]
    failed = [f"  {work.name}: {work.failure}" for work in works if work.failure]
    starts = [work.start for work in works if work.start == work.start]
    return "\n".join(
        [
            f"{len(works)} students, {minutes:.1f} minutes, {os.cpu_count()} cores, load average "
            f"{os.getloadavg()[0]:.1f}",
            f"alone: {len(alone.cells)} cells in {sum(alone.cells.values()):.0f} s, {len(short)} "
            f"of them below {SHORT:g} s {alone.failure}",
            f"start of a server, p95: {p95(starts):.1f} s",
            f"short cells, p95: {p95(waits):.2f} s; other cells, p95: {p95(long):.1f} s",
            f"memory in all (PSS), at most: {memory / 1e9:.1f} GB",
            f"failures: {len(failed)}",
            *failed,
        ]
    )


def loopback(text: str) -> str:
    """An address of this machine; anything else is refused."""
    try:
        url = urlsplit(text.rstrip("/"))
        host = url.hostname or ""
        here = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = False
    if not here or url.scheme != "http":
        raise argparse.ArgumentTypeError(f"a hub on this machine is needed, got {text!r}")
    return url.geturl()


def between(least: float, most: float, kind: type = float) -> Any:
    """The type of an option: a number within these bounds."""

    def number(text: str) -> Any:
        value = kind(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{least:g} to {most:g} are possible, got {text}")
        return value

    return number


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--users", type=between(1, MOST_USERS, int), default=3)
    parser.add_argument("--minutes", type=between(0.1, MOST_MINUTES), default=10.0)
    parser.add_argument("--think", type=between(0, 120), default=6.0, help="seconds before a cell")
    parser.add_argument("--within", type=between(0, 600), default=60.0, help="seconds all come in")
    parser.add_argument("--lesson", default="02_kv_cache", help="its file's name, without .ipynb")
    parser.add_argument("--hub", type=loopback, help="one that runs: http://127.0.0.1:8000")
    parser.add_argument("--password", help="of student-0, student-1, ... on that hub")
    parser.add_argument("--pid", type=int, help="of that hub, whose memory is counted")
    arguments = parser.parse_args(argv)
    if arguments.hub and not (arguments.password and arguments.pid):
        parser.error("--hub needs --password and --pid")
    return arguments


def measure(
    hub: Hub, users: int, minutes: float, think: float, within: float, lesson: str
) -> tuple[str, bool]:
    """A class on this hub: what it met, and whether nothing failed."""

    def student(number: int, deadline: float) -> Student:
        return Student(hub, f"student-{number}", deadline)

    alone = study(student(0, time.monotonic() + 60 * minutes), lesson, 0)
    memory = Memory(hub)
    memory.start()
    begun = time.monotonic()
    deadline = begun + 60 * minutes
    with ThreadPoolExecutor(users) as pool:
        class_ = [student(number, deadline) for number in range(1, users + 1)]
        works = list(pool.map(lambda one: study(one, lesson, think, within), class_))
    memory.ended.set()
    memory.join()
    failed = any(work.failure for work in [alone, *works])
    return report(alone, works, memory.most, (time.monotonic() - begun) / 60), not failed


def main() -> int:
    """Measure, print; the exit code is 1 if anything failed."""
    asked = parse()
    bounds = (asked.users, asked.minutes, asked.think, asked.within, asked.lesson)
    if asked.hub:
        hub = Hub(asked.hub, asked.password, partial(_descent, asked.pid))
        text, well = measure(hub, *bounds)
    else:
        with tempfile.TemporaryDirectory() as folder, rehearsal(Path(folder)) as hub:
            text, well = measure(hub, *bounds)
    print(text)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
