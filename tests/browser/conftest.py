"""A headless Chromium that reaches loopback only, and a JupyterLab for it.

Without a browser these tests skip; where CI is set, that is a failure.
"""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import Lab, LabPage, serve_lab
from playwright.sync_api import Browser, Playwright, Request, Route, sync_playwright

CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
BEYOND_LOOPBACK = re.compile(r"^(?:https?|wss?)://(?!(?:127\.0\.0\.1|localhost|\[::1\])[:/])")


def _chromium(playwright: Playwright) -> str:
    """The browser to use: playwright's own if it was downloaded, else the system's."""
    own = playwright.chromium.executable_path
    if Path(own).exists():
        return own
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    reason = "no Chromium: install Debian's chromium, or run `playwright install chromium`"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=_chromium(playwright), args=CHROMIUM, timeout=60_000
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def lab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab as a learner gets it, with a copy of the lessons in which nothing has run."""
    folder, state = tmp_path_factory.mktemp("lessons"), tmp_path_factory.mktemp("jupyter")
    with serve_lab(folder, state) as lab:
        yield lab


@pytest.fixture
def lab_page(browser: Browser, lab: Lab) -> Iterator[LabPage]:
    """A page of its own; it fails the test that reaches the network or logs an error."""
    beyond: list[str] = []
    errors: list[str] = []

    def refuse(route: Route, request: Request) -> None:
        beyond.append(request.url)
        route.abort()

    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        context.route(BEYOND_LOOPBACK, refuse)
        page = context.new_page()
        page.on("websocket", lambda ws: BEYOND_LOOPBACK.match(ws.url) and beyond.append(ws.url))
        page.on("console", lambda said: said.type == "error" and errors.append(said.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield LabPage(page, lab)
    assert not beyond, f"requests beyond loopback: {beyond}"
    assert not errors, f"errors in the browser's console: {errors}"
