"""Explorers of lesson 02 in JupyterLab: the player, a chart, predict and reveal; a reload.

They run once; each test brings its explorer into the state that it needs.
"""

from collections.abc import Iterator

import pytest
from lab import Lab, LabPage, offline_page, write_notebook
from playwright.sync_api import Browser, Locator, expect

HANDLE = "[role=slider]:visible"
STATUS = "Locked: 20×. Run the next cells to find out."


@pytest.fixture(scope="module")
def lesson(browser: Browser, lab: Lab) -> Iterator[LabPage]:
    with offline_page(browser) as page:
        lesson = LabPage(page, lab)
        write_notebook(lab.folder / "lesson.ipynb", "player", "capacity", "predict", "reveal")
        lesson.open("lesson.ipynb")
        lesson.run_all()
        yield lesson


@pytest.fixture
def player(lesson: LabPage) -> Locator:
    return lesson.page.locator(".minillm.player", has_text="KV-cache growth")


@pytest.fixture
def capacity(lesson: LabPage) -> Locator:
    return lesson.page.locator(".minillm.chart", has_text="memory (GB)")


@pytest.fixture
def question(lesson: LabPage) -> Locator:
    return lesson.page.locator(".minillm.card", has_text="How many times faster").filter(
        has=lesson.page.locator("fieldset")
    )


@pytest.fixture
def answer(lesson: LabPage) -> Locator:
    return lesson.page.locator(".minillm.card", has_text="How many times faster").filter(
        has_not=lesson.page.locator("fieldset")
    )


def at(player: Locator, step: int) -> None:
    expect(player.locator(".position")).to_have_text(f"step {step} / 15")


def texts(chart: Locator) -> list[str]:
    """All that is written in a figure: its title, ticks, levels and notes."""
    return chart.locator(".main-svg text").all_text_contents()


def lock(question: Locator) -> None:
    if not question.locator("input[type=number]").first.is_enabled():
        question.get_by_text("Start over").click()
    question.locator("input[type=number]").first.fill("20")
    question.get_by_text("Lock it in").click()
    expect(question.locator("> .card-status [role=status]")).to_have_text(STATUS)


def test_no_question_covers_the_lesson(lesson: LabPage) -> None:
    expect(lesson.page.locator(".Toastify__toast")).to_have_count(0)


def test_keys_and_buttons_step(player: Locator) -> None:
    player.press("Home")
    at(player, 1)
    for _ in range(2):
        player.press("ArrowRight")
    player.locator("button.ArrowLeft").click()
    at(player, 2)
    player.press("End")
    at(player, 15)


def test_the_scrubber_seeks(player: Locator) -> None:
    player.locator(".scrub").fill("4")
    at(player, 5)
    expect(player.locator(".caption")).to_contain_text("Without the cache this step takes")


def test_it_plays_to_the_end(player: Locator) -> None:
    player.press("Home")
    player.locator("select").select_option("25")
    player.locator("button.play").click()
    expect(player.get_by_role("button", name="Pause")).to_be_visible()
    at(player, 15)
    expect(player.get_by_role("button", name="Play")).to_be_visible()


def test_pointing_at_a_slot_lights_its_token(player: Locator) -> None:
    player.press("End")
    player.locator(".heat canvas").last.hover(position={"x": 5, "y": 5})
    expect(player.locator(".tip")).to_contain_text("written in step 1")
    expect(player.locator(".lanes .cell.lit")).to_have_count(1)
    player.locator(".lanes .cell").first.hover()
    expect(player.locator(".heat .area:not(.mark-area):visible")).to_have_count(2)  # in both


def test_a_slider_moves_its_figure_and_its_words(lesson: LabPage, capacity: Locator) -> None:
    before, said = texts(capacity), capacity.locator(".readout").inner_text()
    capacity.locator(HANDLE).first.press("ArrowRight")
    expect(capacity.locator(".readout")).not_to_have_text(said)
    lesson.page.wait_for_function(
        "([svg, before]) => svg.textContent !== before",
        arg=[capacity.locator(".main-svg").first.element_handle(), "".join(before)],
    )
    lesson.wait_idle()


def test_further_settings_open(capacity: Locator) -> None:
    bits = capacity.get_by_label("bits", exact=True)
    expect(bits).to_be_hidden()
    capacity.get_by_text("More settings").click()
    expect(bits).to_be_visible()
    capacity.get_by_text("More settings").click()
    expect(bits).to_be_hidden()


@pytest.mark.parametrize("width", [1280, 1920])
def test_a_figure_fills_its_card(lesson: LabPage, capacity: Locator, width: int) -> None:
    lesson.page.set_viewport_size({"width": width, "height": 900})
    lesson.page.wait_for_function(
        """card => {
            const [figure, readout] = [".main-svg", ".readout"].map(
                name => card.querySelector(name).getBoundingClientRect());
            return Math.abs(figure.width - readout.width) < 2;
        }""",
        arg=capacity.element_handle(),
    )


def test_predict_lock_reveal(question: Locator, answer: Locator) -> None:
    lock(question)
    expect(answer).to_contain_text("you said")
    expect(answer).to_contain_text("20×")
    slider = question.get_by_label("Your prediction, slider")
    expect(slider).not_to_have_class("card-unsaid")
    question.get_by_text("Start over").click()
    expect(answer).to_contain_text("no prediction")
    expect(slider).to_have_class("card-unsaid")  # without a knob


@pytest.mark.slow
def test_a_reload_changes_nothing(
    lesson: LabPage, player: Locator, capacity: Locator, question: Locator, answer: Locator
) -> None:
    handle = capacity.locator(HANDLE).first
    handle.press("Home")
    lock(question)
    for batch in (2, 3):  # plotly loses what moves after a first reload
        player.locator(".scrub").fill(str(batch))
        at(player, batch + 1)
        handle.press("ArrowRight")
        expect(capacity.locator(".readout")).to_contain_text(f"batch {batch}")
        lesson.wait_idle()
        lesson.figures(capacity)
        said, drawn = capacity.locator(".readout").inner_text(), texts(capacity)

        lesson.reload()

        at(player, batch + 1)
        expect(capacity.locator(".readout")).to_have_text(said)
        lesson.figures(capacity)
        assert texts(capacity) == drawn
        expect(question.locator("> .card-status [role=status]")).to_have_text(STATUS)
        expect(answer).to_contain_text("you said 20×, measured 20×: within 5 %")
