"""A lesson's file: read with ids that stay, cleaned of what a run leaves, and judged.

What makes a notebook fit to be committed, as its file alone shows it, is in `flaws`; what `nbval`
compares of it on another machine is in `compared`.
"""

import html
import json
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from widgets.common.still import VIEW, inlined

__all__ = [
    "MEASURED",
    "TEXTS",
    "clean",
    "compared",
    "flaws",
    "is_compared",
    "name_of",
    "read",
    "readable",
    "text_of",
]

MEASURED = "nbval-ignore-output"  # the tag of a cell that is not compared
MAX_LINES = 15
MAX_BYTES = 1_000_000
TEXTS = ("text/plain", "text/markdown", "text/latex", "text/html")

_KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
_HERE = [
    str(path)
    for path in (Path(__file__).parents[2], Path.home(), sys.prefix, tempfile.gettempdir())
    if len(str(path)) > 1
]


def readable(outputs: Sequence[NotebookNode]) -> list[str]:
    """What a reader can read in these outputs, without markup."""
    texts = []
    for output in outputs:
        if output.output_type == "stream":
            texts.append(output.text)
        for mime in TEXTS:
            text = str(output.get("data", {}).get(mime, ""))
            if mime == "text/html":
                text = inlined(text)
                text = re.sub(r"<(style|script)\b.*?</\1>|<[^>]*>", " ", text, flags=re.S)
                text = html.unescape(text)
            texts.append(text)
    return texts


def flaws(notebook: NotebookNode) -> list[str]:
    """What keeps an executed notebook from being committed, as its file alone shows it."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    counts = [cell.execution_count for cell in code]
    found = []
    if "widgets" in notebook.metadata:
        found.append("holds widget state")
    size = len(text_of(notebook).encode())
    if size > MAX_BYTES:
        found.append(f"{size:,} bytes, more than {MAX_BYTES:,}")
    for cell in code:
        lines = len(cell.source.splitlines())
        if lines > MAX_LINES:
            found.append(f"{name_of(cell)}: {lines} lines, more than {MAX_LINES}")
        for output in cell.outputs:
            if output.output_type == "error":
                found.append(f"{name_of(cell)}: holds the error {output.ename}")
            if output.get("name") == "stderr":
                found.append(f"{name_of(cell)}: writes to stderr: {output.text.strip()[:80]}")
            if VIEW in output.get("data", {}):
                found.append(f"{name_of(cell)}: holds a widget view")
        text = "\n".join(line for output in cell.outputs for line in _lines(output))
        found += [f"{name_of(cell)}: shows the path {path}" for path in _HERE if path in text]
    if counts != list(range(1, len(code) + 1)):
        found.append(f"execution counts are not 1 to {len(code)}: {counts}")
    return found


def clean(notebook: NotebookNode) -> None:
    """Drop what differs from run to run or from machine to machine."""
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": _KERNEL, "language_info": {"name": "python"}}
    )
    for cell in notebook.cells:
        kept = {key: cell.metadata[key] for key in ("jupyter", "tags") if key in cell.metadata}
        cell.metadata = nbformat.from_dict(kept)
        for output in cell.get("outputs", []):
            if "data" in output:
                output.data.pop(VIEW, None)
                output.metadata = NotebookNode()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("data", True)]


def read(path: Path) -> NotebookNode:
    """The notebook, each cell with an id that stays."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for index, cell in enumerate(notebook["cells"], start=1):
        cell.setdefault("id", f"cell-{index:02}")
    notebook["nbformat_minor"] = 5
    return nbformat.reads(json.dumps(notebook), as_version=4)


def name_of(cell: NotebookNode) -> str:
    return f"cell {cell.id}"


def text_of(notebook: NotebookNode) -> str:
    return str(nbformat.writes(notebook)) + "\n"


def is_compared(cell: NotebookNode) -> bool:
    """Whether another machine's run of this code cell must show the same."""
    return MEASURED not in cell.metadata.get("tags", [])


def compared(notebook: NotebookNode) -> dict[str, list[str]]:
    """What each compared cell of a clean notebook shows, a text for each line; by its name."""
    return {
        name_of(cell): [line for output in cell.outputs for line in _lines(output)]
        for cell in notebook.cells
        if cell.cell_type == "code" and is_compared(cell)
    }


def _lines(output: NotebookNode) -> list[str]:
    data = output.get("data", {})
    shown = [output.get("text", ""), *(inlined(str(data[mime])) for mime in sorted(data))]
    return [line for text in shown for line in text.splitlines()]
