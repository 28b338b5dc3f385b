"""A lesson executed for the site: its notebook, and the records of the widgets it shows."""

from __future__ import annotations

import gzip
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL

from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from tqdm import tqdm

from widgets.common.drawing.film import Json
from widgets.common.still import VIEW
from widgets.notebooks.execute import kernel_manager
from widgets.notebooks.file import name_of, read

__all__ = ["Lesson", "execute", "model_of"]


@dataclass(frozen=True)
class Lesson:
    """An executed notebook, and what its widgets show, by the ids of their models."""

    name: str
    notebook: NotebookNode
    records: dict[str, Json]


def execute(path: Path, bar: tqdm) -> Lesson:
    """Run a lesson in a fresh kernel, in its own folder, and record its widgets.

    Raises:
        ValueError: a cell failed.
    """
    notebook = read(path)
    client = NotebookClient(
        notebook,
        timeout=None,  # a busy machine takes its time
        resources={"metadata": {"path": str(path.parent)}},
        store_widget_state=False,
        coalesce_streams=True,
    )
    client.km = kernel_manager()
    with tempfile.TemporaryDirectory() as folder, client.setup_kernel(stderr=DEVNULL):
        for index, cell in enumerate(notebook.cells):
            bar.set_postfix_str(f"{path.stem}: {name_of(cell)}")
            _run(client, cell, index)
        bar.set_postfix_str(f"{path.stem}: its explorers, one control at a time")
        shown = [model_of(output) for cell in notebook.cells for output in cell.get("outputs", [])]
        file = Path(folder, "records")
        arguments = [model for model in shown if model], str(file)
        source = "from widgets.site.record import record\nrecord(*{!r})"
        notebook.cells.append(new_code_cell(source.format(arguments), id="record"))
        _run(client, notebook.cells[-1], len(notebook.cells) - 1)
        notebook.cells.pop()
        records = json.loads(gzip.decompress(file.read_bytes()))
    return Lesson(path.stem, notebook, {model: r for model, r in records.items() if r})


def _run(client: NotebookClient, cell: NotebookNode, index: int) -> None:
    try:
        client.execute_cell(cell, index)
    except CellExecutionError as error:
        raise ValueError(f"{name_of(cell)} raises {error.ename}: {error.evalue}") from error
    except DeadKernelError as error:
        raise ValueError(f"{name_of(cell)} killed its kernel: is there memory enough?") from error


def model_of(output: NotebookNode) -> str:
    """The id of the widget that an output shows; empty if it shows none."""
    return str(output.get("data", {}).get(VIEW, {}).get("model_id", ""))
