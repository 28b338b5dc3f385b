"""Slides over a kernel: controls recompute, keys turn slides, answers wait, the last row reads."""

import re
import secrets
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from explorers import EXPLORERS, NAMES
from lab import RUN_ALL, START, free_port, offline_page, serve
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from playwright.sync_api import Browser, Locator, Page, expect
from test_one_screen import BEYOND, FILMS, HALL

HOLDS_ANSWER = "print('measured: twenty')"
SAYS = '<svg data-key="00.test" data-answer="20" data-unit="x"></svg>'  # a reveal, as committed
PROJECTORS = {HALL: 24, (1280, 720): 16}  # and the smallest type on them, in pixels
HALF = NAMES.index("attention")
PARTS = {  # of all explorers: as many as Voila connects on a busy machine
    "first": [EXPLORERS[name] for name in NAMES[:HALF]],
    "second": [EXPLORERS[name] for name in NAMES[HALF:]],
    "longest": list(FILMS.values()),
}
TALL = "() => document.documentElement.scrollHeight"

# The smallest type that is seen of an explorer, whose figure may be drawn larger than laid out.
SMALLEST = """explorer => Math.min(...[explorer, ...explorer.querySelectorAll("*")]
    .filter(node => node.checkVisibility({visibilityProperty: true}))
    .filter(node => !node.closest(".spoken, .film .readout, .modebar"))
    .filter(node => node.matches("input:is([type=text], [type=number])") || [...node.childNodes]
        .some(child => child.nodeType === Node.TEXT_NODE && child.data.trim()))
    .map(node => {
      const plot = node.closest(".js-plotly-plot");
      const times = plot ? new DOMMatrix(getComputedStyle(plot).transform).a : 1;
      return Math.round(10 * parseFloat(getComputedStyle(node).fontSize) * times) / 10;
    }))"""

pytestmark = pytest.mark.slow


def lesson() -> list[NotebookNode]:
    """A lesson with a widget of each kind, and the one output that tells where its answer is."""
    return [
        new_markdown_cell("# 02 · A lecture\n\nWhat it costs.\n\n## The player"),
        new_code_cell(EXPLORERS["setup"], metadata={"jupyter": {"source_hidden": True}}),
        new_markdown_cell("Words for the lecturer."),
        *(new_code_cell(EXPLORERS[name]) for name in ("player", "predict")),
        new_code_cell(HOLDS_ANSWER),
        new_code_cell(EXPLORERS["reveal"], outputs=[new_output("display_data", still())]),
        new_code_cell("print('on a slide of its own')\n" + EXPLORERS["capacity"]),
    ]


def still() -> dict[str, str]:
    picture = b64encode(SAYS.encode()).decode()
    return {"text/html": f'<img alt="" src="data:image/svg+xml;base64,{picture}">'}


@contextmanager
def lecture(browser: Browser, folder: Path, cells: list[NotebookNode]) -> Iterator[Page]:
    """The first slide of these cells in a hall."""
    path = folder / "02_lecture.ipynb"
    nbformat.write(new_notebook(cells=cells), path)
    token, url = secrets.token_hex(), f"http://localhost:{(port := free_port())}"
    arguments = ["-m", "widgets.site.live", str(path), "--no-browser"]
    arguments += [f"--port={port}", f"--token={token}"]
    with serve(arguments, f"{url}/login", folder), offline_page(browser) as page:
        page.set_viewport_size({"width": HALL[0], "height": HALL[1]})
        page.goto(f"{url}/?token={token}", timeout=RUN_ALL)
        expect(page.locator("#slide")).to_have_text(re.compile("^1 / "), timeout=START)
        expect(page.get_by_role("heading", name="02 · A lecture")).to_be_visible(timeout=START)
        yield page


@pytest.fixture(scope="module")
def page(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with lecture(browser, tmp_path_factory.mktemp("lecture"), lesson()) as page:
        yield page


@pytest.fixture
def slide(page: Page) -> Locator:
    """The number of the slide; the first one is shown, and no widget has the focus."""
    page.mouse.click(5, 5)
    page.keyboard.press("Home")
    expect(page.locator("#slide")).to_have_text("1 / 8")
    return page.locator("#slide")


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def test_arrows_turn_slides_and_a_player_keeps_its_own(page: Page, slide: Locator) -> None:
    press(page, "ArrowRight", "ArrowRight")
    expect(slide).to_have_text("3 / 8")
    player = page.locator(".minillm.player").first
    player.focus()
    press(page, "End", "ArrowLeft")
    expect(player.locator(".position")).to_have_text("step 14 / 15")
    expect(slide).to_have_text("3 / 8")
    press(page, "Escape", "ArrowLeft")
    expect(slide).to_have_text("2 / 8")


def test_notes_and_code_are_shown_on_request(page: Page, slide: Locator) -> None:
    press(page, "ArrowRight")
    notes, source = page.get_by_text("Words for the lecturer."), page.get_by_text("growth(24)")
    expect(notes).to_be_hidden()
    press(page, "n")
    expect(notes).to_be_visible()
    press(page, "ArrowRight")
    expect(source).to_be_hidden()
    press(page, "c")
    expect(source).to_be_visible()
    press(page, "n", "c")
    expect(source).to_be_hidden()


def test_an_answer_waits_until_its_question_is_locked(page: Page, slide: Locator) -> None:
    press(page, "End")
    expect(slide).to_have_text("4 / 8")
    told = page.get_by_text("measured: twenty", exact=True)
    expect(page.get_by_role("button", name="Show without")).to_be_visible()
    page.get_by_label("Your prediction, number").fill("5")
    page.get_by_text("Lock it in").click()
    expect(page.get_by_role("button", name="Show without")).to_have_count(0)
    page.mouse.click(5, 5)
    press(page, "ArrowRight")
    expect(told).to_be_visible()
    press(page, "ArrowRight")
    expect(page.locator(".card-numbers:visible")).to_contain_text("5×")


def test_every_control_asks_the_kernel(page: Page, slide: Locator) -> None:
    if page.get_by_role("button", name="Show without").count():
        page.get_by_role("button", name="Show without").click(force=True)
    press(page, "End")
    expect(slide).to_have_text("8 / 8")
    chart = page.locator(".minillm.chart:visible")
    readout = chart.locator(".readout")
    chart.get_by_label("model").select_option("GPT-3")
    expect(readout).to_contain_text("GPT-3")
    chart.get_by_role("slider", name="batch").focus()
    press(page, "ArrowRight", "ArrowRight")
    both = re.compile(r"GPT-3 .*, batch 3,")  # a record has one control at a time
    expect(readout).to_contain_text(both)
    expect(slide).to_have_text("8 / 8")


@pytest.mark.parametrize("part", PARTS)
def test_the_last_row_reads_every_word_of_every_explorer_on_one_screen(
    browser: Browser, tmp_path: Path, part: str
) -> None:
    sources = [EXPLORERS["setup"], *PARTS[part]]
    cells = [new_markdown_cell("# 02 · A lecture"), *map(new_code_cell, sources)]
    with lecture(browser, tmp_path, cells) as page:
        for source in PARTS[part]:
            press(page, "ArrowRight")
            explorer = page.locator(".shown .minillm").first
            expect(explorer).to_be_visible(timeout=START)
            for size, least in PROJECTORS.items():
                page.set_viewport_size({"width": size[0], "height": size[1]})
                page.wait_for_timeout(500)  # plotly measures its room once more
                assert explorer.evaluate(SMALLEST) >= least, (source, size)
                assert explorer.evaluate(BEYOND) <= 0, (source, size)
                assert page.evaluate(TALL) <= size[1], (source, size)
