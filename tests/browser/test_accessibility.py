"""axe-core on the explorers in JupyterLab, light and dark. What keys do: `test_voila.py`."""

from collections.abc import Iterator
from importlib.resources import files
from typing import Any, Literal

import pytest
from lab import Lab, LabPage, offline_page, write_notebook
from playwright.sync_api import Browser, expect

AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
NAMES = (
    "player",
    "forward",
    "capacity",
    "distribution",
    "cost",
    "roofline",
    "free",
    "predict",
    "reveal",
)
RUN = """async () => (await axe.run(
    {include: [[".minillm"]]}, {resultTypes: ["violations"]})).violations"""


@pytest.fixture(scope="module")
def explorers(browser: Browser, lab: Lab) -> Iterator[LabPage]:
    """One of each kind, with all that folds open, and one prediction locked."""
    write_notebook(lab.folder / "explorers.ipynb", *NAMES)
    with offline_page(browser) as page:
        explorers = LabPage(page, lab)
        explorers.open("explorers.ipynb")
        explorers.run_all()
        for more in page.get_by_text("More settings").all():
            more.click()
        expect(page.locator("label:visible", has_text="bits")).to_be_visible()
        page.get_by_text("Audience poll").click()
        page.get_by_label("Your prediction, number").fill("20")
        page.get_by_text("Lock it in").click()
        page.evaluate(AXE)
        yield explorers


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(explorers: LabPage, theme: Literal["light", "dark"]) -> None:
    explorers.theme(theme)
    assert explorers.page.locator(".minillm:visible").count() >= len(NAMES)
    found: list[dict[str, Any]] = explorers.page.evaluate(RUN)
    serious = [
        f"{violation['id']}: {node['html'][:200]}"
        for violation in found
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]
    assert not serious, "\n".join(serious)
