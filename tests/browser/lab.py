"""Drive JupyterLab in a headless browser: start it, open a lesson, run it, look at it."""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from urllib.error import URLError
from urllib.request import urlopen

import nbformat
from explorers import EXPLORERS
from playwright.sync_api import Browser, Locator, Page, Playwright, Request, Route, sync_playwright

__all__ = [
    "CHROMIUM",
    "Lab",
    "LabPage",
    "Notebook",
    "find_chromium",
    "free_port",
    "offline_page",
    "opened",
    "serve",
    "serve_lab",
    "write_cells",
    "write_notebook",
]

MINILLM = "import sys; from minillm.commands.main import main; sys.exit(main())"
SECONDS = 1000  # playwright counts milliseconds
START = 60 * SECONDS
RUN_ALL = 300 * SECONDS

CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-smooth-scrolling",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
BEYOND_LOOPBACK = re.compile(r"^(?:https?|wss?)://(?!(?:127\.0\.0\.1|localhost|\[::1\])[:/])")

# anywidget says this of a model that takes more than two seconds, as many do while other tests run;
# a test sees by itself whether its widgets are there.
SLOW = "[anywidget] Failed to initialize model."

# Notebook 7.6 says this of itself.
NOTEBOOK = (
    "Cannot read properties of undefined (reading 'schema')",
    "Command 'filebrowser:open-path' not registered.",
)

SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # all cells are in the page
}

# What the notebook itself holds: how JupyterLab draws an error differs between versions.
FAILURES = """() => window.jupyterapp.shell.currentWidget.content.model.toJSON().cells
    .flatMap(cell => cell.outputs ?? [])
    .filter(output => output.output_type === 'error')
    .map(output => `${output.ename}: ${output.evalue}`)"""

FIGURES = """element => [...element.querySelectorAll(
    'svg, img, canvas, table')]
    .map(e => e instanceof HTMLCanvasElement ? e.toDataURL() : e.outerHTML).join('\\n')"""


class Lab:
    """A running JupyterLab on loopback: its address, and the folder that it serves."""

    def __init__(self, url: str, token: str, folder: Path):
        self.url, self.token, self.folder = url, token, folder

    def address(self, path: str) -> str:
        return f"{self.url}/lab/tree/{path}?reset&token={self.token}"


class Notebook(Lab):
    """The same server, its notebooks opened in Notebook 7."""

    def address(self, path: str) -> str:
        return f"{self.url}/notebooks/{path}?token={self.token}"


def find_chromium(playwright: Playwright) -> str | None:
    """The browser to use: playwright's own if it was downloaded, else the system's."""
    own = playwright.chromium.executable_path
    names = ("chromium", "chromium-browser", "google-chrome")
    return own if Path(own).exists() else next(filter(None, map(shutil.which, names)), None)


@contextmanager
def offline_page(browser: Browser, absent: str | None = None) -> Iterator[Page]:
    """A page; an AssertionError at its end if it reached for the network or logged an error.

    Args:
        absent: a glob of addresses that are asked for in vain: answered with nothing.
    """
    beyond: list[str] = []
    errors: list[str] = []

    def refuse(route: Route, request: Request) -> None:
        beyond.append(request.url)
        route.abort()

    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        context.route(BEYOND_LOOPBACK, refuse)
        if absent:
            context.route(absent, lambda route: route.fulfill(body=""))
        page = context.new_page()
        page.on("websocket", lambda ws: BEYOND_LOOPBACK.match(ws.url) and beyond.append(ws.url))
        page.on("console", lambda said: said.type == "error" and errors.append(said.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
    assert not beyond, f"requests beyond loopback: {beyond}"
    errors = [text for text in errors if SLOW not in text and text not in NOTEBOOK]
    assert not errors, f"errors in the browser's console: {errors}"


def write_notebook(path: Path, *names: str) -> None:
    """A notebook of those explorers that has never been run."""
    write_cells(path, *(EXPLORERS[name] for name in ("setup", *names)))


@contextmanager
def opened(*names: str) -> Iterator["tuple[LabPage, Path]"]:
    """A notebook of those explorers after Run All, in a browser and a JupyterLab of their own."""
    with (
        sync_playwright() as playwright,
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryDirectory() as state,
        serve_lab(Path(folder), Path(state)) as server,
        playwright.chromium.launch(
            executable_path=find_chromium(playwright), args=CHROMIUM
        ) as browser,
        offline_page(browser) as page,
    ):
        path = Path(folder) / "explorers.ipynb"
        write_notebook(path, *names)
        lesson = LabPage(page, server)
        lesson.open(path.name)
        lesson.run_all()
        yield lesson, path


def write_cells(path: Path, *sources: str) -> None:
    """A notebook of code cells that has never been run."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


@contextmanager
def serve_lab(folder: Path, state: Path) -> Iterator[Lab]:
    """`minillm lab` with the lessons' copies in `folder`, and Jupyter's own files in `state`."""
    for name, values in SETTINGS.items():
        settings = state / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text(json.dumps(values))
    token, port = secrets.token_hex(), free_port()
    options = [
        f"--folder={folder}",
        "--no-browser",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={token}",
        "--LabApp.expose_app_in_browser=True",
        "--JupyterNotebookApp.expose_app_in_browser=True",
    ]
    url = f"http://127.0.0.1:{port}"
    with serve(["-c", MINILLM, "lab", *options], f"{url}/api?token={token}", state):
        yield Lab(url, token, folder)


@contextmanager
def serve(arguments: list[str], address: str, state: Path) -> Iterator[None]:
    """A Python server from when `address` answers, with Jupyter's own files in `state`."""
    environment = {
        **os.environ,
        "JUPYTERLAB_SETTINGS_DIR": str(state / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(state / "workspaces"),
        "JUPYTER_CONFIG_DIR": str(state / "config"),
        "JUPYTER_DATA_DIR": str(state / "data"),
        "JUPYTER_RUNTIME_DIR": str(state / "runtime"),
        "IPYTHONDIR": str(state / "ipython"),
    }
    log = state / "server.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, "-P", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        try:
            _wait_until_up(address, server, log)
            yield
        finally:
            server.terminate()
            server.wait(timeout=30)


def _wait_until_up(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START / SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urlopen(address, timeout=5):
                return
        except (URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    raise RuntimeError(f"the server did not start:\n{log.read_text()[-2000:]}")


class LabPage:
    """A browser's page on a lab, or on a notebook."""

    def __init__(self, page: Page, lab: Lab):
        self.page, self.lab = page, lab

    def open(self, path: str) -> None:
        """Open a notebook of the lab's folder, and wait for its kernel."""
        self.page.goto(self.lab.address(path))
        self.wait_ready()

    def reload(self) -> None:
        """Save and reload the page; the kernel goes on."""
        self.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
        self.page.reload()
        self.wait_ready()
        self._wait_for_widgets()

    def wait_ready(self) -> None:
        """Wait until the notebook is shown and its kernel is connected."""
        self.page.wait_for_function(
            """() => {
                const panel = window.jupyterapp?.shell.currentWidget;
                return panel?.context?.isReady && panel.isRevealed
                    && panel.sessionContext?.isReady
                    && panel.sessionContext.session?.kernel?.connectionStatus === 'connected';
            }""",
            timeout=START,
        )
        self.page.evaluate(
            """async () => {
                await window.jupyterapp.restored;
                await window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.info;
            }"""
        )
        self._wait_for_splash()
        self.wait_idle()

    def run_all(self) -> None:
        """Run all cells; a cell that fails is an AssertionError."""
        self.page.evaluate(
            """() => {
                window.ranAll = undefined;
                window.jupyterapp.commands.execute('notebook:run-all-cells')
                    .then(() => { window.ranAll = true; });
            }"""
        )
        self.page.wait_for_function("() => window.ranAll !== undefined", timeout=RUN_ALL)
        self.wait_idle()
        failures = self.page.evaluate(FAILURES)
        assert not failures, "\n".join(failures)
        self._wait_for_widgets()

    def wait_idle(self) -> None:
        """Wait until the kernel has nothing to do, and no cell is waiting for it."""
        self.page.wait_for_function(
            """() => {
                const panel = window.jupyterapp.shell.currentWidget;
                const prompts = [...panel.node.querySelectorAll('.jp-InputPrompt')];
                return panel.sessionContext.session?.kernel?.status === 'idle'
                    && !prompts.some(prompt => prompt.textContent.includes('*'));
            }""",
            timeout=RUN_ALL,
        )

    def outputs(self, cell: int | None = None) -> Locator:
        """The outputs of all code cells, or of the cell-th, from 0."""
        cells = self.page.locator(".jp-Notebook .jp-CodeCell")
        return (cells if cell is None else cells.nth(cell)).locator(".jp-OutputArea-output")

    def output_with(self, selector: str) -> Locator:
        """The first output that holds something."""
        return self.outputs().filter(has=self.page.locator(selector)).first

    def figures(self, output: Locator) -> str:
        """The pictures and tables of an output as the browser has them, once drawn."""
        seen = ""
        for _ in range(60):
            self.page.wait_for_timeout(500)  # plotly draws in several steps
            now = str(output.evaluate(FIGURES))
            if now and now == seen:
                return now
            seen = now
        raise AssertionError("no figure, or one that never comes to rest")

    def wait_changed(self, output: Locator, before: str, timeout: float = 30 * SECONDS) -> None:
        """Wait until the figures of an output are no longer what they were."""
        handle = output.element_handle()
        test = f"([element, before]) => ({FIGURES})(element) !== before"
        self.page.wait_for_function(test, arg=[handle, before], timeout=timeout)

    def theme(self, name: Literal["light", "dark"]) -> None:
        """Switch JupyterLab's theme."""
        self.page.evaluate(
            """theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})""",
            f"JupyterLab {name.capitalize()}",
        )
        light = "true" if name == "light" else "false"
        self.page.wait_for_selector(f'body[data-jp-theme-light="{light}"]', state="attached")
        self._wait_for_splash()

    def _wait_for_widgets(self) -> None:
        self.page.wait_for_function(
            """() => !window.jupyterapp.shell.currentWidget.node.textContent
                .includes('Loading widget...')""",
            timeout=START,
        )

    def _wait_for_splash(self) -> None:
        self.page.wait_for_selector("#jupyterlab-splash", state="detached")

    def screenshot(self, path: Path, element: Locator | None = None) -> None:
        """A PNG of the window, or of one element."""
        (element or self.page).screenshot(path=path)
