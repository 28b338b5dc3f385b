"""A page that is busy while its widgets load, as on two cores with a model at work."""

from collections.abc import Iterator

import pytest
from lab import LabPage, write_cells
from playwright.sync_api import expect

EXPLORER = """
import ipywidgets
from widgets.common.chart import Chart, ChartExplorer, Curve

class Slope(ChartExplorer):
    def __init__(self):
        super().__init__({"n": ipywidgets.IntSlider(3, 1, 9, description="n")})

    def chart(self):
        return Chart(f"n is {self['n']}", "x", "y", (Curve("line", (1, 2), (1, self["n"])),))

    def said(self):
        return f"The line ends at {self['n']}."

explorer = Slope()
explorer
"""
NO_TIME = """
const timeout = AbortSignal.timeout;
window.late = 0;
AbortSignal.timeout = (ms) => {
    window.late += ms === 2000;
    return timeout.call(AbortSignal, ms === 2000 ? 0 : ms); // anywidget's limit
};
"""


@pytest.fixture
def late_page(lab_page: LabPage) -> Iterator[LabPage]:
    lab_page.page.add_init_script(NO_TIME)
    yield lab_page
    assert lab_page.page.evaluate("window.late") > 0  # the limit is still 2000


def test_a_widget_that_loads_late_hears_the_kernel(late_page: LabPage):
    write_cells(late_page.lab.folder / "late.ipynb", EXPLORER)
    late_page.open("late.ipynb")
    late_page.run_all()
    explorer = late_page.output_with(".js-plotly-plot")
    for n in (4, 5):
        explorer.get_by_role("slider").press("ArrowRight")
        expect(explorer.locator(".readout")).to_have_text(f"The line ends at {n}.")
        expect(explorer.locator(".gtitle")).to_have_text(f"n is {n}")


def test_a_widget_that_loads_late_shows_what_changed_meanwhile(late_page: LabPage):
    change = 'explorer.controls["n"].value = 7'
    write_cells(late_page.lab.folder / "meanwhile.ipynb", EXPLORER, change)
    late_page.open("meanwhile.ipynb")
    late_page.run_all()
    explorer = late_page.output_with(".js-plotly-plot")
    expect(explorer.locator(".readout")).to_have_text("The line ends at 7.")
    expect(explorer.locator(".gtitle")).to_have_text("n is 7")
