"""What a lesson costs a shared machine: processor time by cell, memory of its own, a table."""

import asyncio
import math
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from minillm.commands import notebooks
from minillm.commands.main import main
from widgets.notebooks import memory
from widgets.notebooks.cost import Cost, cost, table

BUSY = "import time\nwhile time.process_time() < 1.5: pass"


def lesson(path: Path, *sources: str) -> Path:
    cells = [new_markdown_cell("# 02\n\n*45 minutes.*"), *map(new_code_cell, sources)]
    for cell, name in zip(cells, "abcdefg", strict=False):
        cell["id"] = name
    nbformat.write(new_notebook(cells=cells), path)
    return path


def test_cells_are_charged_for_computing_and_not_for_waiting(tmp_path: Path) -> None:
    held = "held = bytearray(300_000_000)\nheld[::4096] = bytes(len(held[::4096]))"
    path = lesson(tmp_path / "02_x.ipynb", BUSY, "time.sleep(1.5)", held)
    found = asyncio.run(cost(path))
    assert (found.name, found.minutes) == ("02_x", 45)
    assert found.cells["b"] > 0.5 > found.cells["c"]
    assert 300 < found.megabytes < 450


def test_a_cell_that_fails_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="02_x, b: raises ZeroDivisionError"):
        asyncio.run(cost(lesson(tmp_path / "02_x.ipynb", "1 / 0")))


def test_the_table_shows_what_is_over_its_limit() -> None:
    rows = table([Cost("02_x", 45, {"b": 3.5, "c": 0.5}, 500), Cost("03_y", 30, {"d": 2.0}, 700)])
    assert rows.splitlines()[2:] == [
        "| 02_x | 45 | 4 | b, **3.5** | **1** | 500 |",
        "| 03_y | 30 | 2 | d, 2.0 | 0 | **700** |",
    ]


def test_the_command_runs_the_tool_on_the_lessons(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(notebooks.subprocess, "call", lambda line: calls.append(line) or 0)
    assert main(["notebooks", "cost", "02"]) == 0
    assert calls[0][3] == "widgets.notebooks.cost"
    assert calls[0][4].endswith("02_kv_cache.ipynb")


def test_unshared_memory_is_unknown_where_the_system_does_not_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none(self: Path) -> str:
        raise FileNotFoundError(self)

    monkeypatch.setattr(Path, "read_text", none)
    assert math.isnan(memory.unshared_megabytes())
