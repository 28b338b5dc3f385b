"""A key that is pressed inside a widget does nothing to the notebook: there `x` cuts a cell."""

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from explorers import EXPLORERS
from lab import Lab, LabPage, offline_page, write_notebook
from playwright.sync_api import Browser, expect

import widgets
from widgets.common.still import Pictured

KEYS = ("x", "b", "a", "d", "d", "m", "ArrowDown", "ArrowUp", "Enter")

CONTROLS = """() => {
    const able = 'a[href], button, input, select, textarea, summary, [tabindex], [contenteditable]';
    window.controls = [...document.querySelectorAll('.jp-OutputArea-output *')].filter(node =>
        node.matches(able) && node.tabIndex >= 0 && !node.disabled && node.checkVisibility());
    return window.controls.map(node => `${
        node.ariaLabel || node.className || node.textContent} of ${
        node.closest('.minillm')?.className}`);
}"""
FOCUS = """i => {
    window.controls[i].focus();
    window.controls[i].scrollIntoView({ block: 'center', behavior: 'instant' });
    return document.activeElement === window.controls[i];
}"""
CELLS = """() => JSON.stringify(window.jupyterapp.shell.currentWidget.content.model.toJSON().cells
    .map(cell => [cell.id, cell.cell_type, cell.source]))"""
SCROLLED = """() => new Promise(done => requestAnimationFrame(() => setTimeout(() => done(
    document.querySelector('.jp-NotebookPanel:not(.lm-mod-hidden) .jp-WindowedPanel-outer')
        .scrollTop))))"""
NO_PAGE = 200  # pixels: a control may move what stands around it, a bit


def press_everything(lesson: LabPage) -> list[str]:
    """Presses all keys in all controls; returns what harm that did, up to a change of cells."""
    page, harm = lesson.page, []
    names, cells = page.evaluate(CONTROLS), page.evaluate(CELLS)
    assert names
    for i, name in enumerate(names):
        if not page.evaluate(FOCUS, i):
            continue  # another control has put it away
        top = page.evaluate(SCROLLED)
        page.keyboard.press("Space")
        if abs(page.evaluate(SCROLLED) - top) > NO_PAGE:
            harm.append(f"Space scrolls the page from {name}")
        for key in KEYS:
            page.keyboard.press(key)
        if page.evaluate(CELLS) != cells:
            return [*harm, f"a key changes the notebook from {name}"]
    return harm


@pytest.fixture(scope="module")
def few(browser: Browser, front: Lab) -> Iterator[LabPage]:
    """A film, a chart, a question and a card."""
    with offline_page(browser) as page:
        lesson = LabPage(page, front)
        names = ("jacobi", "capacity", "predict", "reveal")
        write_notebook(front.folder / "keys.ipynb", *names)
        lesson.open("keys.ipynb")
        lesson.run_all()
        yield lesson


def test_no_key_of_a_control_reaches_the_notebook(few: LabPage) -> None:
    assert press_everything(few) == []


@pytest.mark.slow
def test_no_key_of_any_control_of_any_explorer_reaches_the_notebook(explorers: LabPage) -> None:
    assert press_everything(explorers) == []


@pytest.mark.parametrize(
    "place",
    [".main-svg", ".readout", ".minillm.player .title", ".minillm.player .cell", ".card-kicker"],
)
def test_a_click_beside_the_controls_is_one_into_the_widget(few: LabPage, place: str) -> None:
    cells = few.page.evaluate(CELLS)
    for key in ("x", "b"):
        few.page.locator(place).first.click(force=True)
        few.page.keyboard.press(key)
        assert few.page.evaluate(CELLS) == cells


def test_what_is_the_notebooks_reaches_it(few: LabPage) -> None:
    player = few.page.locator(".minillm.player").first
    cell = few.page.locator(".jp-CodeCell").nth(1)
    prompt = cell.locator(".jp-InputPrompt")
    for key in ("Control+Enter", "Shift+Enter"):
        player.click(position={"x": 5, "y": 5})
        before = prompt.inner_text()
        player.press(key)
        expect(prompt).not_to_have_text(before)
        few.wait_idle()
        expect(player).to_be_visible()


def test_escape_leaves_for_the_cell(few: LabPage) -> None:
    few.page.locator("button.play").first.focus()
    few.page.keyboard.press("Escape")
    cell = few.page.locator(".jp-CodeCell").nth(1)
    expect(cell).to_be_focused()
    few.page.keyboard.press("ArrowDown")
    expect(few.page.locator(".jp-CodeCell").nth(2)).to_have_class(re.compile("jp-mod-active"))


def test_every_explorer_of_the_lessons_is_tried() -> None:
    stems = [path.parent.name for path in Path(widgets.__file__).parent.glob("*/__init__.py")]
    offered = [
        getattr(package, name)
        for stem in stems
        if stem not in ("common", "notebooks", "site")
        for package in [import_module(f"widgets.{stem}")]
        for name in package.__all__
    ]
    explorers = {
        thing.__name__
        for thing in offered
        if inspect.isclass(thing) and issubclass(thing, Pictured)
    }
    assert explorers
    cells = "\n".join(EXPLORERS.values())
    assert {name for name in explorers if f"{name}(" not in cells} == set()
