"""Lessons run to their end on a public model, where their first cell names one."""

from pathlib import Path
from typing import Any

import pytest
from fetched import needs

from minillm.commands.lab import lessons
from widgets.notebooks import execute
from widgets.notebooks.file import read, text_of

OURS, PUBLIC = 'MODEL = "stories"', 'MODEL = "smollm2"'
IN_A_MINUTE = {"00_transformer", "01_decoding", "02_kv_cache", "11_gptq", "12_scaling"}
ANY = [path for path in lessons() if path.stem != "15_public_model"]  # which has its own


@pytest.mark.parametrize("path", ANY, ids=lambda path: path.stem)
def test_the_first_code_cell_names_the_model_and_no_other_does(path: Path) -> None:
    first, *others = [cell.source for cell in read(path).cells if cell.cell_type == "code"]
    assert first.count(OURS) == 1
    assert not any("MODEL = " in source for source in others)


def marked(path: Path) -> Any:
    mark = pytest.mark.slow if path.stem in IN_A_MINUTE else pytest.mark.public
    return pytest.param(path, marks=mark, id=path.stem)


@needs("smollm2")
@pytest.mark.parametrize("path", [marked(path) for path in ANY])
def test_the_lesson_runs_to_its_end_on_a_public_model(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execute, "CELL_SECONDS", 900)  # what stories takes a tenth of a second for
    notebook = read(path)
    for cell in notebook.cells:
        cell.source = cell.source.replace(OURS, PUBLIC)
    copy = tmp_path / path.name
    copy.write_text(text_of(notebook), encoding="utf-8")
    run = execute.execute(copy)
    assert [problem for problem in run.problems if "raises" in problem or "error" in problem] == []
    assert all(cell.execution_count for cell in run.notebook.cells if cell.cell_type == "code")
