"""A reader opens a lesson in JupyterLab, runs it, and moves a control.

Their explorers on small data are in `test_explorers.py`, the quick one; `nbval` runs them all.
"""

import pytest
from lab import LabPage, write_cells
from playwright.sync_api import expect

SLIDER = ".widget-slider .noUi-handle"  # an ipywidgets one: the kernel draws the answer
FIGURE = ".js-plotly-plot"


@pytest.mark.slow
@pytest.mark.parametrize(
    "lesson",
    ["02_kv_cache", "03_roofline", "05_speedup", "07_jacobi", "08_lookahead", "09_sparsity"],
)
def test_a_lesson_runs_and_a_control_changes_its_figure(lab_page: LabPage, lesson: str):
    lab_page.open(f"{lesson}.ipynb")
    lab_page.run_all()
    charts = lab_page.outputs().filter(has=lab_page.page.locator(FIGURE))
    explorer = charts.filter(has=lab_page.page.locator(SLIDER)).first
    slider = explorer.locator(SLIDER).first
    slider.scroll_into_view_if_needed()
    expect(slider).to_be_visible()
    before = lab_page.figures(explorer)
    was = slider.get_attribute("aria-valuenow")
    slider.press("ArrowRight")
    expect(slider).not_to_have_attribute("aria-valuenow", was or "")
    lab_page.wait_changed(explorer, before, timeout=120_000)  # both decoders run anew


def test_a_cell_that_fails_is_an_assertion_error(lab_page: LabPage):
    """How JupyterLab draws it is its own affair."""
    write_cells(lab_page.lab.folder / "fails.ipynb", "1 + 1", "1 / 0")
    lab_page.open("fails.ipynb")
    with pytest.raises(AssertionError, match="ZeroDivisionError: division by zero"):
        lab_page.run_all()
