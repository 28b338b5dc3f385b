"""The site's records and pages, without a browser (with one: tests/browser/test_site.py)."""

import gzip
import json

import ipywidgets
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from minillm.commands import lecture
from minillm.commands.lab import lessons
from minillm.commands.main import main
from widgets.common.chart import Chart, ChartExplorer, Curve
from widgets.common.controls import Prompt, choice, slider
from widgets.common.predict.control import predict
from widgets.common.still import VIEW, Pictured
from widgets.notebooks.file import read
from widgets.site.build import build, write
from widgets.site.page import cells, sections
from widgets.site.record import MOST, record, recorded
from widgets.site.run import Lesson


class Lines(ChartExplorer):
    def __init__(self):
        super().__init__(
            {
                "name": choice("name", {"low": 1, "high": 2}),
                "height": slider("height", 1, 100, 50),
                "prompt": Prompt(["a", "b"]),
                "own": ipywidgets.FloatText(1.0, description="own"),
            }
        )

    def chart(self):
        y = self["name"] * self["height"]
        return Chart("Up", "x", "y", (Curve("line", [0, 1], [0, y]),))

    def said(self):
        return f"{self['name']} {self['height']} {self['prompt']}"


def test_an_explorer_is_recorded_for_one_control_at_a_time():
    explorer = Lines()
    found = recorded(explorer)
    names = [control["name"] for control in found["controls"]]
    assert names == ["name", "height", "prompt", "own"]
    options = [len(control["options"]) for control in found["controls"]]
    assert options == [2, MOST + 1, 2, 0]  # 50 is none of six steps from 1 to 100
    firsts = [control["options"][control["first"]] for control in found["controls"][:3]]
    assert firsts == ["low", "50", "a"]
    said = {key: state["readout"] for key, state in found["states"].items()}
    assert said[""] == "1 50 a"
    assert said["0.1"] == "2 50 a"
    assert said["1.0"] == "1 1 a"
    assert said["2.1"] == "1 50 b"
    assert len(said) == 1 + 1 + MOST + 1
    heights = [found["states"][key]["view"]["figure"]["data"][0]["y"] for key in ("", "0.1")]
    assert heights[0] != heights[1]
    assert explorer.said() == "1 50 a"  # as it was


def test_a_reveal_is_recorded_with_what_it_says_to_each_answer():
    guess = predict("02.site", "How many?", low=1, high=10)
    said = {reply["said"]: reply["spoken"] for reply in recorded(guess.reveal(4))["replies"]}
    assert len(said) == 101
    assert "spot on" in said[4.06] or "4.06" in said[4.06]
    assert said[4.06] != said[10]
    assert recorded(guess)["question"] == recorded(guess.reveal(4))["answers"] == "02.site"
    which = predict("02.which", "Which?", choices=["a", "b"])
    replies = recorded(which.reveal("a"))["replies"]
    assert [reply["said"] for reply in replies] == ["a", "b"]
    assert replies[0]["html"] != replies[1]["html"]


def test_what_needs_a_kernel_is_not_recorded(tmp_path):
    button, guess = ipywidgets.Button(), predict("02.site", "How many?", low=1, high=10)
    record([button.model_id, guess.model_id], str(tmp_path / "records"))
    records = json.loads(gzip.decompress((tmp_path / "records").read_bytes()))
    assert records[button.model_id] is None
    assert records[guess.model_id]["program"] == "predict"


def lesson(*shown, **sources):
    """A lesson whose code cells show widgets with these records, with sources of some."""
    notebook = new_notebook(cells=[new_markdown_cell("# 02 · Title\n\nSee [it](03_b.ipynb#Next).")])
    for model in shown:
        data = {VIEW: {"model_id": model}}
        notebook.cells.append(
            new_code_cell(
                sources.get(model, "x < y"), outputs=[new_output("display_data", data)], id=model
            )
        )
    notebook.cells.append(new_markdown_cell("## Second `part`\n\nwords &amp; more", id="end"))
    return notebook


QUESTION = {"program": "predict", "traits": {}, "question": "02.a"}


def test_an_answer_waits_behind_its_question():
    asked = {name: f'predict("02.{name}", "How many?", low=1, high=9)' for name in ("a", "b")}
    notebook = lesson("a", "b", "measured", "told", **asked)
    told = notebook.cells[4].outputs[0].data
    told["text/html"] = Pictured.still(predict("02.a", "How many?", low=1, high=9).reveal(4))
    marks = {cell.name: cell.mark for cell in cells(Lesson("02_a", notebook, {}))[1:]}
    assert marks == {
        "a": 'data-asks="02.a"',
        "b": 'data-asks="02.b"',
        "measured": 'data-gates="02.a"',
        "told": 'data-gates="02.a"',
        "end": "",
    }


def test_a_page_keeps_text_as_text_and_links_pages():
    prose, code, *_ = cells(Lesson("02_a", lesson("q"), {"q": QUESTION}))
    assert 'href="03_b.html#Next"' in prose.prose
    assert "&lt;" in code.code
    assert 'data-model="q"' in code.outputs[0]
    (unknown,) = cells(Lesson("02_a", lesson("q"), {}))[1].outputs
    assert unknown == ""


def test_search_finds_prose_by_its_headings():
    first, second = sections(Lesson("02_a", lesson(), {}))
    assert (first.title, first.text) == ("02 · Title", "See it .")
    assert (second.title, second.text) == ("Second part", "words & more")


def test_a_failing_lesson_leaves_nothing(tmp_path):
    path = tmp_path / "02_a.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("1 / 0", id="broken")]), path)
    with pytest.raises(ValueError, match="broken raises ZeroDivisionError"):
        build(tmp_path / "site", [path])
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_folder_that_holds_something_is_not_touched(tmp_path):
    kept = tmp_path / "site" / "mine.txt"
    kept.parent.mkdir()
    kept.write_text("mine")
    with pytest.raises(ValueError, match="is not an empty folder"):
        build(tmp_path / "site", [])
    assert kept.read_text() == "mine"


def test_the_command_names_an_unknown_lesson(tmp_path, capsys):
    assert main(["site", str(tmp_path / "site"), "99"]) == 2
    assert "99" in capsys.readouterr().err


def test_a_lecture_hands_its_options_to_voila(monkeypatch):
    called = []
    monkeypatch.setattr(lecture.subprocess, "call", lambda command: called.append(command) or 0)
    assert main(["lecture", "04", "--no-browser", "--port=8899"]) == 0
    ((_, *flags, path, browser, port),) = called
    assert flags == ["-P", "-m", "widgets.site.live"]
    assert path.endswith("04_speculative.ipynb")
    assert (browser, port) == ("--no-browser", "--port=8899")


def test_a_lecture_without_voila_tells_both_ways(monkeypatch, capsys):
    monkeypatch.setattr(lecture, "find_spec", lambda name: None)
    assert main(["lecture", "04"]) == 2
    said = capsys.readouterr().err
    assert "minillm[classroom]" in said
    assert "--recorded" in said
    assert main(["lecture", "04", "--recorded", "--port=1"]) == 2
    assert "--port=1" in capsys.readouterr().err


def test_the_pages_of_all_lessons_are_small(tmp_path):
    """From the committed outputs: what a run records of the widgets adds 1 MB."""
    write(tmp_path / "site", [Lesson(path.stem, read(path), {}) for path in lessons()])
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "site").iterdir()}
    assert sum(sizes.values()) < 24e6
    shared = sizes["site.css"] + sizes["words.js"] + sizes["site.js"]
    assert sizes["index.html"] + shared < 1e6
    alive = shared + sizes["programs.js"] + sizes["slides.js"]  # plotly comes with a chart
    for path in lessons():
        assert sizes[f"{path.stem}.html"] + sizes[f"{path.stem}.js"] + alive < 1e6
