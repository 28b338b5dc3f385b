"""No number in a lesson's prose comes from nowhere, and the tool that says so can say no."""

import nbformat
import pytest

from minillm.commands.lab import lessons
from widgets.notebooks.file import read
from widgets.notebooks.numbers import unsourced


def lesson(prose: str, code: str = "", output: str = "") -> nbformat.NotebookNode:
    shown = nbformat.v4.new_output("stream", text=output)
    cell = nbformat.v4.new_code_cell(code, outputs=[shown])
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(prose), cell])


@pytest.mark.parametrize("path", lessons(), ids=lambda path: path.stem)
def test_every_number_in_prose_is_shown_cited_or_given(path):
    assert unsourced(read(path)) == []


@pytest.mark.parametrize(
    ("prose", "code", "output"),
    [
        ("It takes 2,048 bytes.", "", "2048 bytes"),
        ("It takes 2,048 bytes.", "size = 2_048", ""),
        ("It is 1.50 times as fast.", "", "1.5 times"),
        ("The paper reports 73 % ([arXiv 2210.06313](https://arxiv.org/abs/2210.06313)).", "", ""),
        ("**03.1 · compute.** A card reads 2,000 GB a second.", "", ""),
        ("By hand: 40 steps of 25 ms take a second.", "", ""),
        ("Since 2023, as lesson 03 and section 12 say, in `f(4096)` and $x^{17}$.", "", ""),
        ("Two copies, or 3.", "", ""),
    ],
)
def test_a_number_with_a_home_is_let_through(prose: str, code: str, output: str):
    assert unsourced(lesson(prose, code, output)) == []


@pytest.mark.parametrize(
    ("prose", "output"),
    [
        ("It takes 2,048 bytes.", "2049 bytes"),  # has drifted
        ("It is 1.5 times as fast.", "11.5 times"),
        ("Half of 73 % are lost.\n\n[a link](https://example.org) elsewhere", ""),
        ("| a | 73 |\n| b | [a link](https://example.org) |", ""),
        ("- one in 73\n- [a link](https://example.org)", ""),
    ],
)
def test_a_number_from_nowhere_is_found(prose: str, output: str):
    assert len(unsourced(lesson(prose, output=output))) == 1
