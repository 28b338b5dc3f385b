"""The site in a browser, from the disk and without a network: its widgets, gates, search, theme."""

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from explorers import EXPLORERS
from lab import offline_page
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from playwright.sync_api import Browser, Page, expect
from test_accessibility import AXE

from widgets.site.build import build

HOLDS_ANSWER = "print('measured: twenty')"
RUN_AXE = """async () => (await axe.run({resultTypes: ["violations"], preload: false})).violations
    .filter(found => ["serious", "critical"].includes(found.impact))
    .map(found => `${found.id}: ${found.nodes[0].html.slice(0, 200)}`)"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two lessons: one with a widget of each kind, one of prose."""
    folder = tmp_path_factory.mktemp("site")
    shown = ["player", "predict", HOLDS_ANSWER, "reveal", "capacity", "forward"]
    first = [
        new_markdown_cell("# 02 · First lesson\n\nA question."),
        *(new_code_cell(EXPLORERS.get(name, name)) for name in ("setup", *shown)),
    ]
    second = [new_markdown_cell("# 03 · Second lesson\n\n## Needle\n\nin a haystack")]
    paths = [folder / "02_first.ipynb", folder / "03_second.ipynb"]
    for path, cells in zip(paths, (first, second), strict=True):
        nbformat.write(new_notebook(cells=cells), path)
    build(folder / "site", paths)
    return folder / "site"


@pytest.fixture
def page(browser: Browser, site: Path) -> Iterator[Page]:
    with offline_page(browser) as page:
        page.goto((site / "02_first.html").as_uri())
        yield page


def test_the_player_plays(page: Page) -> None:
    player = page.locator(".minillm.player").first
    player.focus()
    for key in ("End", "ArrowLeft"):
        page.keyboard.press(key)
    expect(player.locator(".position")).to_have_text("step 14 / 15")
    expect(page.locator(".minillm-still")).to_have_count(
        page.locator(".site-live:not(.ready)").count()
    )


def test_an_answer_waits_until_its_question_is_locked(page: Page) -> None:
    told = page.get_by_text("measured: twenty", exact=True)
    reveal = page.locator(".minillm.card").filter(has_text="no prediction")
    expect(page.locator(".minillm.card input[type=number]").first).to_be_visible()
    expect(told).to_be_hidden()
    expect(reveal).to_have_count(0)
    page.locator(".minillm.card input[type=number]").first.fill("5")
    page.get_by_role("button", name="Lock it in").click()
    expect(told).to_be_visible()
    expect(page.locator(".card-numbers")).to_contain_text("5×")
    expect(page.locator(".card-numbers")).to_contain_text("20×")
    page.reload()  # what was locked stays
    expect(told).to_be_visible()
    expect(page.locator(".card-numbers")).to_contain_text("5×")


def test_an_answer_shows_without_a_prediction_on_request_and_on_paper(page: Page) -> None:
    told = page.get_by_text("measured: twenty", exact=True)
    expect(page.get_by_role("button", name="Show without")).to_be_visible()
    page.emulate_media(media="print")
    expect(told).to_be_visible()
    page.emulate_media(media="screen")
    expect(told).to_be_hidden()
    page.get_by_role("button", name="Show without").click()
    expect(told).to_be_visible()


def test_controls_show_what_was_recorded_for_them(page: Page) -> None:
    page.locator(".site-live").last.scroll_into_view_if_needed()
    chart = page.locator(".minillm.chart").filter(has=page.locator(".js-plotly-plot"))
    model, batch = chart.get_by_label("model"), chart.get_by_label("batch")
    readout = chart.locator(".readout")
    expect(readout).to_contain_text("Llama-2-7B")
    expect(chart.locator(".main-svg").first).to_be_visible()
    model.select_option("GPT-3")
    expect(readout).to_contain_text("GPT-3")
    expect(chart.locator(".gtitle")).to_contain_text("GPT-3")
    batch.select_option(index=1)
    expect(readout).to_contain_text("Llama-2-7B")  # the other controls as at first
    film = page.locator(".minillm.film")
    film.get_by_role("combobox", name="layer").select_option("7")
    expect(film.locator(".readout")).to_contain_text("Layer 7")


def test_search_finds_a_section_of_another_lesson(page: Page) -> None:
    page.get_by_role("searchbox").fill("haystack")
    page.get_by_role("link", name="Needle").click()
    expect(page.get_by_role("heading", name="Needle")).to_be_visible()
    assert page.url.endswith("03_second.html#Needle")
    page.get_by_role("searchbox").fill("nowhere")
    expect(page.get_by_text("Nothing found.")).to_be_visible()


def test_lessons_follow_each_other(page: Page) -> None:
    page.get_by_role("link", name="03 · Second lesson").press("Enter")
    expect(page.get_by_role("heading", name="03 · Second lesson")).to_be_visible()
    page.get_by_role("navigation").first.get_by_role("link", name="Lessons").click()
    expect(page.get_by_role("link", name="02 · First lesson")).to_be_visible()


def test_light_and_dark_are_the_readers_choice_and_axe_finds_nothing(page: Page) -> None:
    page.get_by_role("button", name="Show without").click()
    for place in page.locator(".site-live").all():
        place.scroll_into_view_if_needed()
    expect(page.locator(".site-live.ready")).to_have_count(page.locator(".site-live").count())
    page.evaluate(AXE)
    background = "() => getComputedStyle(document.body).backgroundColor"
    looks = []
    for _ in range(2):
        looks.append(page.evaluate(background))
        assert page.evaluate(RUN_AXE) == []
        page.get_by_role("button", name="Light or dark").click()
    assert looks[0] != looks[1]
    page.reload()
    assert page.evaluate(background) == looks[0]


def test_slides_turn_by_keys_that_a_player_keeps_for_itself(page: Page) -> None:
    number = page.locator("#slide")
    page.get_by_role("button", name="Slides").click()
    expect(number).to_have_text("1 / 7")
    page.keyboard.press("ArrowRight")
    expect(number).to_have_text("2 / 7")
    player = page.locator(".minillm.player").first
    expect(player).to_be_visible()
    player.focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    expect(player.locator(".position")).to_have_text("step 14 / 15")
    expect(number).to_have_text("2 / 7")
    page.keyboard.press("Escape")
    page.keyboard.press("End")  # stops at the question
    expect(page.get_by_role("button", name="Show without")).to_be_visible()
    expect(number).to_have_text("3 / 7")
    page.get_by_role("button", name="Show without").click()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_text("measured: twenty", exact=True)).to_be_visible()
    source = page.get_by_text(HOLDS_ANSWER)
    expect(source).to_be_hidden()
    page.mouse.click(5, 5)
    page.keyboard.press("c")
    expect(source).to_be_visible()
    page.reload()  # the slide stands in the address
    expect(number).to_have_text(re.compile(r"^[34] / 7$"))
