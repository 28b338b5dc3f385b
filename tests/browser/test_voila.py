"""The explorers in Voila, worked by the keyboard alone: the player, a chart, predict and reveal."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import START, free_port, offline_page, serve, write_notebook
from playwright.sync_api import Browser, Locator, Page, expect

ICONS = "https://cdn.jsdelivr.net/npm/@fortawesome/**"  # Voila asks for them, and does without

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder, state = tmp_path_factory.mktemp("voila"), tmp_path_factory.mktemp("jupyter")
    write_notebook(Path(folder) / "explorers.ipynb", "player", "capacity", "predict", "reveal")
    url = f"http://127.0.0.1:{(port := free_port())}"
    arguments = [
        "-m",
        "voila",
        str(folder),
        "--no-browser",
        f"--port={port}",
        # Notebook's own extension logs errors here.
        "--VoilaConfiguration.extension_denylist=@jupyter-notebook/lab-extension",
    ]
    with serve(arguments, url, state), offline_page(browser, absent=ICONS) as page:
        page.goto(f"{url}/voila/render/explorers.ipynb", timeout=START)
        expect(page.locator(".minillm.player")).to_be_visible(timeout=START)
        expect(page.locator(".minillm.chart .main-svg").first).to_be_visible()
        expect(page.locator(".minillm.card")).to_have_count(2)
        yield page


def test_live_widgets_hide_their_stills(page: Page) -> None:
    expect(page.locator(".minillm-still")).to_have_count(4)
    expect(page.locator(".minillm-still:visible")).to_have_count(0)


def tab_to(page: Page, target: Locator) -> None:
    """Presses Tab until something has the focus."""
    for _ in range(100):
        page.keyboard.press("Tab")
        if target.evaluate("node => node === document.activeElement"):
            return
    raise AssertionError(f"Tab does not reach {target}")


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def test_the_player(page: Page) -> None:
    player = page.locator(".minillm.player")
    position = player.locator(".position")
    tab_to(page, player)
    press(page, "End")
    expect(position).to_have_text("step 15 / 15")
    press(page, "Home", "ArrowRight", "ArrowRight", "ArrowLeft")
    expect(position).to_have_text("step 2 / 15")
    press(page, "Space")
    expect(player.get_by_role("button", name="Pause")).to_be_visible()
    expect(position).not_to_have_text("step 2 / 15")
    press(page, "Space")
    expect(player.get_by_role("button", name="Play")).to_be_visible()

    tab_to(page, player.locator(".cell[tabindex='0']").first)
    press(page, "ArrowRight")
    expect(player.locator(".tip")).to_contain_text("written in step 1")
    tab_to(page, player.locator(".stage").last)
    press(page, "ArrowRight")
    expect(player.locator(".tip")).to_contain_text("step 1")
    tab_to(page, player.locator(".scrub"))
    press(page, "Home")
    expect(position).to_have_text("step 1 / 15")
    tab_to(page, player.locator("button.loop"))
    press(page, "Enter")
    expect(player.locator("button.loop")).to_have_attribute("aria-pressed", "true")


def test_a_chart(page: Page) -> None:
    chart = page.locator(".minillm.chart")
    readout = chart.locator(".readout")
    tab_to(page, chart.get_by_label("card", exact=True))
    press(page, "ArrowDown")
    expect(readout).not_to_contain_text("RTX 4090")
    tab_to(page, chart.get_by_role("slider", name="batch"))
    press(page, "ArrowRight")
    expect(readout).to_contain_text("batch 2")
    expect(chart.get_by_role("figure")).to_have_attribute("aria-label", re.compile("batch 2"))
    tab_to(page, chart.get_by_text("More settings"))
    press(page, "Space")
    tab_to(page, chart.get_by_role("slider", name="cards"))
    press(page, "ArrowRight")
    expect(readout).to_contain_text("on 2 x")
    expect(chart.locator(".main-svg", has_text="2 x").first).to_be_visible()


def test_predict_and_reveal(page: Page) -> None:
    question, answer = page.locator(".minillm.card").all()
    expect(answer).to_contain_text("no prediction")
    tab_to(page, question.get_by_label("Your prediction, number"))
    page.keyboard.type("10")
    press(page, "Enter")
    expect(question.get_by_role("status")).to_contain_text("Locked: 10×")
    expect(answer).to_contain_text("you said")
    tab_to(page, question.get_by_text("Start over"))
    press(page, "Enter")
    expect(answer).to_contain_text("no prediction")
