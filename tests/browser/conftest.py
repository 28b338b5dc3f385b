"""A headless Chromium that reaches loopback only, and a JupyterLab for it.

Without a browser these tests skip; where CI is set, that is a failure.
"""

import os
from collections.abc import Iterator

import pytest
from explorers import NAMES
from lab import (
    CHROMIUM,
    Lab,
    LabPage,
    Notebook,
    find_chromium,
    offline_page,
    serve_lab,
    write_notebook,
)
from playwright.sync_api import Browser, Playwright, expect, sync_playwright

DRAWN = """() => [...document.querySelectorAll(".minillm.chart")]
    .every(chart => chart.querySelector(".main-svg, .player, .card"))"""

expect.set_options(timeout=30_000)  # other tests share the machine


def _chromium(playwright: Playwright) -> str:
    if found := find_chromium(playwright):
        return found
    reason = "no Chromium: install Debian's chromium, or run `playwright install chromium`"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=_chromium(playwright), args=CHROMIUM, timeout=60_000
        )
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def lab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab as a learner gets it, with a copy of the lessons in which nothing has run."""
    folder, state = tmp_path_factory.mktemp("lessons"), tmp_path_factory.mktemp("jupyter")
    with serve_lab(folder, state) as lab:
        yield lab


@pytest.fixture(scope="module", params=[Lab, pytest.param(Notebook, marks=pytest.mark.slow)])
def front(request: pytest.FixtureRequest, lab: Lab) -> Lab:
    """JupyterLab, and Notebook 7."""
    shown: Lab = request.param(lab.url, lab.token, lab.folder)
    return shown


@pytest.fixture
def lab_page(browser: Browser, lab: Lab) -> Iterator[LabPage]:
    """A page of its own; it fails the test that reaches the network or logs an error."""
    with offline_page(browser) as page:
        yield LabPage(page, lab)


@pytest.fixture(scope="package")
def explorers(browser: Browser, lab: Lab) -> Iterator[LabPage]:
    """Every explorer of the lessons, with all that folds open, and one prediction locked."""
    write_notebook(lab.folder / "explorers.ipynb", *NAMES)
    with offline_page(browser) as page:
        explorers = LabPage(page, lab)
        explorers.open("explorers.ipynb")
        explorers.run_all()
        page.wait_for_function(DRAWN)
        for more in page.get_by_text("More settings").all():
            more.click()
        expect(page.locator("label:visible", has_text="bits").first).to_be_visible()
        page.get_by_text("Audience poll").click()
        page.get_by_label("Your prediction, number").fill("20")
        page.get_by_text("Lock it in").click()
        yield explorers
