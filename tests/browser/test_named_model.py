"""The box that names a model, in JupyterLab: Enter loads, and nothing else does."""

from collections.abc import Iterator

import pytest
from lab import Lab, LabPage, offline_page, write_notebook
from playwright.sync_api import Browser, Locator, expect

CELLS = "() => window.jupyterapp.shell.currentWidget.content.model.cells.length"


@pytest.fixture(scope="module")
def lesson(browser: Browser, lab: Lab) -> Iterator[LabPage]:
    with offline_page(browser) as page:
        lesson = LabPage(page, lab)
        write_notebook(lab.folder / "named.ipynb", "forward")
        lesson.open("named.ipynb")
        lesson.run_all()
        yield lesson


@pytest.fixture
def box(lesson: LabPage) -> Locator:
    return lesson.page.get_by_label("model", exact=True)


@pytest.fixture
def status(lesson: LabPage) -> Locator:
    return lesson.page.locator(".model-said")


def test_it_starts_with_the_model_at_hand(box: Locator, status: Locator) -> None:
    expect(box).to_have_value("stories")
    expect(status).to_have_role("status")
    expect(status).to_be_empty()


def test_enter_loads_and_leaving_does_not(lesson: LabPage, box: Locator, status: Locator) -> None:
    readout = lesson.page.locator(".readout")
    said, cells = readout.inner_text(), lesson.page.evaluate(CELLS)
    box.fill("")
    box.press_sequentially("stories-draft")  # its d, twice, would cut the cell
    box.press("Tab")
    lesson.wait_idle()
    assert readout.inner_text() == said
    box.press("Enter")
    expect(readout).not_to_have_text(said)
    expect(lesson.page.get_by_label("open layer").locator("option")).to_have_count(2)
    expect(status).to_be_empty()
    assert lesson.page.evaluate(CELLS) == cells


def test_what_is_not_there_is_told_and_the_picture_stays(
    lesson: LabPage, box: Locator, status: Locator
) -> None:
    said = lesson.page.locator(".readout").inner_text()
    box.fill("nothing")
    box.press("Enter")
    expect(status).to_contain_text("no model named 'nothing'")
    expect(box).to_have_attribute("aria-invalid", "true")
    assert lesson.page.locator(".readout").inner_text() == said
    box.fill("stories")
    box.press("Enter")
    expect(status).to_be_empty()
    expect(box).to_have_attribute("aria-invalid", "false")


def test_a_reload_changes_nothing(lesson: LabPage, box: Locator) -> None:
    readout = lesson.page.locator(".readout")
    before = readout.inner_text()
    box.fill("stories-xs")
    box.press("Enter")
    expect(readout).not_to_have_text(before)
    said = readout.inner_text()
    lesson.reload()
    expect(box).to_have_value("stories-xs")
    expect(readout).to_have_text(said)
