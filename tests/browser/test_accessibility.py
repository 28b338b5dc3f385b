"""axe-core on the explorers in JupyterLab, light and dark. Keys: `test_keys.py`."""

from importlib.resources import files
from typing import Any, Literal

import pytest
from explorers import NAMES
from lab import LabPage

AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
RUN = """async () => (await axe.run(
    {include: [[".minillm"]]}, {resultTypes: ["violations"]})).violations"""

WITHOUT = """() => [...document.querySelectorAll(".minillm.chart, .minillm.player")].filter(card =>
    ![...card.querySelectorAll("[data-tag]")].some(tag => tag.textContent && tag.checkVisibility()))
    .map(card => card.textContent.slice(0, 80))"""


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(explorers: LabPage, theme: Literal["light", "dark"]) -> None:
    explorers.page.evaluate(AXE)
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


@pytest.mark.slow
def test_every_film_and_chart_says_where_its_numbers_come_from(explorers: LabPage) -> None:
    assert explorers.page.evaluate(WITHOUT) == []
