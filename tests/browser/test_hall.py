"""The hall's page on a phone, by touch and by keyboard; the lecturer's card while it votes."""

import re
from collections.abc import Iterator
from typing import Literal

import pytest
from lab import LabPage, offline_page, write_notebook
from playwright.sync_api import Browser, Page, expect
from test_accessibility import AXE

from widgets.common.predict.hall import Hall
from widgets.common.predict.question import Question

SPEED = Question("02.speed", "How many times faster is decoding with a cache?", 1, 100, "x")
PHONE = {"width": 390, "height": 844}
SERIOUS = """async () => (await axe.run()).violations
    .map(found => `${found.id}: ${found.nodes[0].html.slice(0, 200)}`)"""
WIDER = "() => document.documentElement.scrollWidth > document.documentElement.clientWidth"


@pytest.fixture
def hall() -> Iterator[Hall]:
    hall = Hall("127.0.0.1", port=0)
    hall.ask(SPEED, lambda counts: None)
    yield hall
    hall.close()


@pytest.fixture
def phone(browser: Browser, hall: Hall) -> Iterator[Page]:
    with offline_page(browser) as page:
        page.set_viewport_size(PHONE)
        page.goto(hall.address)
        yield page


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_and_axe_finds_nothing(
    phone: Page, hall: Hall, scheme: Literal["light", "dark"]
) -> None:
    phone.emulate_media(color_scheme=scheme)
    phone.get_by_label("5 to 10×").check()
    assert not phone.evaluate(WIDER)
    least = min(label.bounding_box()["height"] for label in phone.locator("label").all())  # type: ignore[index]
    assert least >= 44  # what a finger needs
    phone.evaluate(AXE)
    assert phone.evaluate(SERIOUS) == []
    phone.get_by_role("button", name="Vote").click()
    expect(phone.get_by_role("status")).to_have_text("You voted: 5 to 10×.")
    assert hall.poll
    assert hall.poll.counts == [0, 0, 1, 0, 0, 0]
    hall.poll.open = False
    phone.get_by_role("link", name="Look for the next question").click()
    expect(phone.get_by_role("status")).to_contain_text("The vote is closed.")
    phone.evaluate(AXE)
    assert phone.evaluate(SERIOUS) == []


def test_the_keyboard_votes(phone: Page, hall: Hall) -> None:
    for key in ("Tab", "Space", "ArrowDown", "Tab", "Enter"):
        phone.keyboard.press(key)
    expect(phone.get_by_role("status")).to_have_text("You voted: 2 to 5×.")


@pytest.mark.slow
def test_the_card_shows_the_address_and_the_votes(lab_page: LabPage, browser: Browser) -> None:
    write_notebook(lab_page.lab.folder / "hall.ipynb", "predict", "reveal")
    lab_page.open("hall.ipynb")
    lab_page.run_all()
    page = lab_page.page
    page.get_by_text("Audience poll").click()
    page.get_by_role("button", name="Ask the hall").press("Enter")
    invitation = page.locator(".card-address")
    expect(invitation).to_have_text(re.compile(r"^Vote at [\d.]+:\d+$"))
    expect(page.locator(".card-qr")).to_be_visible()
    with browser.new_context(viewport=PHONE) as context:  # type: ignore[arg-type]
        phone = context.new_page()
        phone.goto(f"http://{invitation.inner_text().removeprefix('Vote at ')}/")
        phone.get_by_label("10 to 20×").check()
        phone.get_by_role("button", name="Vote").click()
        expect(phone.get_by_role("status")).to_have_text("You voted: 10 to 20×.")
    expect(page.get_by_label("Votes for 10 to 20×")).to_have_value("1")
    expect(page.locator(".card-hall [role=status]")).to_have_text("Votes: 1")
    page.get_by_role("button", name="Close the vote").click()
    expect(page.locator(".card-hall [role=status]")).to_have_text("Votes: 1. The vote is closed.")
    expect(page.locator("caption", has_text="Audience: 0 of 1 said 20 to 50×")).to_be_visible()
