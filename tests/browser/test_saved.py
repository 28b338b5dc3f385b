"""A lesson as it is saved: opened without its kernel, not trusted, converted to HTML, printed."""

from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from lab import EXPLORERS as CELLS
from lab import Lab, LabPage, write_cells
from nbconvert import HTMLExporter
from playwright.sync_api import Browser, Page, expect

SOURCE = "from widgets.common.source import source\nsource(decode_cached, folded=True)"
SHOWN = [CELLS[name] for name in ("player", "capacity", "predict", "reveal")] + [SOURCE]
LIVE_VIEW = pytest.mark.filterwarnings("ignore:.*not able to be represented")  # only its still is
A4 = {"width": 718, "height": 1047}  # within margins of 1 cm, at 96 pixels an inch

IMAGES = """() => [...document.querySelectorAll(".jp-OutputArea img")].map(image =>
    [image.alt, image.complete && image.naturalWidth > 0 && image.checkVisibility()])"""
CUT = """() => [...document.querySelectorAll("img, pre, p, td")]
    .filter(e => e.checkVisibility() && e.scrollWidth > e.clientWidth + 1
        || e.getBoundingClientRect().right > innerWidth)
    .map(e => e.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def saved(browser: Browser, front: Lab) -> Path:
    """Run, saved, and its kernel shut down; while it ran, widgets were all that was seen."""
    path = front.folder / "saved.ipynb"
    write_cells(path, CELLS["setup"], *SHOWN)
    with browser.new_context() as context:
        lesson = LabPage(context.new_page(), front)
        lesson.open(path.name)
        lesson.run_all()
        expect(lesson.page.locator(".minillm")).to_have_count(len(SHOWN))
        expect(lesson.page.locator(".minillm-still")).to_have_count(len(SHOWN))
        expect(lesson.page.locator(".minillm-still:visible")).to_have_count(0)
        lesson.page.evaluate("""async () => {
            await window.jupyterapp.commands.execute("docmanager:save");
            await window.jupyterapp.shell.currentWidget.sessionContext.shutdown();
        }""")
    return path


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Of a fresh session."""
    with browser.new_context(viewport=A4) as context:
        yield context.new_page()


def pictures_show(page: Page) -> None:
    images = page.evaluate(IMAGES)
    assert len(images) == len(SHOWN) - 1
    assert all(alt and seen for alt, seen in images), images


def test_a_lesson_without_its_kernel_shows_its_pictures(
    saved: Path, front: Lab, page: Page
) -> None:
    lesson = LabPage(page, front)
    lesson.open(saved.name)
    error = page.get_by_text("Error displaying widget: model not found")
    expect(error).to_have_count(len(SHOWN))
    expect(error.filter(visible=True)).to_have_count(0)
    pictures_show(page)


def test_a_lesson_that_is_not_trusted_shows_its_pictures(
    saved: Path, front: Lab, page: Page
) -> None:
    notebook = nbformat.read(saved, 4)
    notebook.cells[0].source += "\n# from elsewhere"
    nbformat.write(notebook, front.folder / "elsewhere.ipynb")
    lesson = LabPage(page, front)
    lesson.open("elsewhere.ipynb")
    trusted = "() => window.jupyterapp.shell.currentWidget.model.cells.get(1).trusted"
    assert page.evaluate(trusted) is False
    pictures_show(page)
    assert page.get_by_text("Error displaying widget").count() == 0


def test_a_lesson_is_not_changed_by_being_opened(front: Lab, page: Page) -> None:
    lesson = LabPage(page, front)
    lesson.open("02_kv_cache.ipynb")
    page.wait_for_timeout(1000)  # what the kernel says of itself comes late
    assert page.evaluate("() => window.jupyterapp.shell.currentWidget.model.dirty") is False


@pytest.fixture
def printed(saved: Path, page: Page) -> Page:
    """The lesson as HTML, which is what JupyterLab prints, on paper."""
    html, _ = HTMLExporter().from_filename(str(saved))
    page.emulate_media(media="print")
    page.route("https://**", lambda route: route.abort())
    page.set_content(html)
    return page


@LIVE_VIEW
def test_on_paper_no_picture_is_cut(printed: Page) -> None:
    pictures_show(printed)
    assert printed.evaluate(CUT) == []


@LIVE_VIEW
def test_on_paper_folded_sources_are_open(printed: Page) -> None:
    code = printed.locator("details:not([open]) pre")
    expect(code).to_contain_text("def decode_cached")
    expect(code).to_be_visible()
