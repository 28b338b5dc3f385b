"""Drive JupyterLab in a headless browser: start it, open a lesson, run it, look at it."""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from urllib.error import URLError
from urllib.request import urlopen

from playwright.sync_api import Locator, Page

__all__ = ["Lab", "LabPage", "free_port", "serve_lab"]

MINILLM = "import sys; from minillm.cli import main; sys.exit(main())"
SECONDS = 1000  # playwright counts milliseconds
START = 60 * SECONDS
RUN_ALL = 300 * SECONDS

SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},  # all cells are in the page
}

FIGURES = """element => [...element.querySelectorAll(
    'svg, img, canvas, table')]
    .map(e => e instanceof HTMLCanvasElement ? e.toDataURL() : e.outerHTML).join('\\n')"""


class Lab:
    """A running JupyterLab on loopback: its address, and the folder that it serves."""

    def __init__(self, url: str, token: str, folder: Path):
        self.url, self.token, self.folder = url, token, folder

    def address(self, path: str) -> str:
        return f"{self.url}/lab/tree/{path}?reset&token={self.token}"


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
    environment = {
        **os.environ,
        "JUPYTERLAB_SETTINGS_DIR": str(state / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(state / "workspaces"),
        "JUPYTER_CONFIG_DIR": str(state / "config"),
        "JUPYTER_DATA_DIR": str(state / "data"),
        "JUPYTER_RUNTIME_DIR": str(state / "runtime"),
        "IPYTHONDIR": str(state / "ipython"),
    }
    token, port = secrets.token_hex(), free_port()
    options = [
        f"--folder={folder}",
        "--no-browser",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={token}",
        "--LabApp.expose_app_in_browser=True",
    ]
    log = state / "lab.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, "-c", MINILLM, "lab", *options],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        try:
            lab = Lab(f"http://127.0.0.1:{port}", token, folder)
            _wait_until_up(lab, server, log)
            yield lab
        finally:
            server.terminate()
            server.wait(timeout=30)


def _wait_until_up(lab: Lab, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START / SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urlopen(f"{lab.url}/api?token={lab.token}", timeout=5):
                return
        except (URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


class LabPage:
    """A browser's page on a lab."""

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
                await window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.info;
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
        errors = self.page.locator('.jp-OutputArea-output[data-mime-type*="error"]')
        failures = errors.all_inner_texts()
        assert not failures, "\n".join(failures)

    def wait_idle(self) -> None:
        """Wait until the kernel has nothing to do, and no cell is waiting for it."""
        self.page.wait_for_function(
            """() => {
                const panel = window.jupyterapp.shell.currentWidget;
                const prompts = [...panel.node.querySelectorAll('.jp-InputPrompt')];
                return panel.sessionContext.session.kernel.status === 'idle'
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

    def _wait_for_splash(self) -> None:
        self.page.wait_for_selector("#jupyterlab-splash", state="detached")

    def screenshot(self, path: Path, element: Locator | None = None) -> None:
        """A PNG of the window, or of one element."""
        (element or self.page).screenshot(path=path)
