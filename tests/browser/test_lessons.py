"""A reader opens a lesson in JupyterLab, runs it, and moves a control."""

from lab import LabPage
from playwright.sync_api import expect

SLIDER = ".widget-slider .noUi-handle"  # an ipywidgets one: the kernel draws the answer


def test_lesson_02_runs_and_a_control_changes_its_figure(lab_page: LabPage):
    lab_page.open("02_kv_cache.ipynb")
    lab_page.run_all()
    explorer = lab_page.output_with(SLIDER)
    slider = explorer.locator(SLIDER).first
    slider.scroll_into_view_if_needed()
    expect(slider).to_be_visible()
    before = lab_page.figures(explorer)
    slider.press("ArrowRight")
    lab_page.wait_changed(explorer, before)
