"""Re-execute lessons in place: `python -m widgets.notebooks LESSON.ipynb ...`.

Each lesson runs in a fresh kernel. Its file is replaced only if every lesson came out clean: no
error, nothing on stderr, cells that fit a slide, and outputs that another machine reproduces (see
`widgets.common.stable`). Cells tagged `nbval-ignore-output` measure, and are not compared.
"""

import ast
import asyncio
import html
import json
import math
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from tqdm import tqdm

from minillm.checkpoint import write_whole
from widgets.common.stable import FLOAT

__all__ = ["MEASURED", "Executed", "execute", "flaws", "main"]

MEASURED = "nbval-ignore-output"  # the tag of a cell that is not compared
MAX_LINES = 15
MAX_BYTES = 1_000_000
CELL_SECONDS = 120
STABLE = 1e-6  # the least margin of a choice, and relative distance from a rounding boundary

_WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
_TEXTS = ("text/plain", "text/markdown", "text/latex", "text/html", "image/svg+xml")
_KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
_WATCH = "__import__('widgets.common.stable', fromlist=['_']).watch()"
_PEAK = "__import__('widgets.common.memory', fromlist=['_']).peak_megabytes()"
_HERE = [
    str(path)
    for path in (Path(__file__).parents[1], Path.home(), sys.prefix, tempfile.gettempdir())
    if len(str(path)) > 1
]


@dataclass(frozen=True)
class Executed:
    """A lesson after its run.

    Attributes:
        path: its file, not yet written.
        notebook: with new outputs, as it is to be committed.
        problems: why it must not be committed; empty for a clean lesson.
        seconds: wall-clock time from the kernel's start to its end.
        megabytes: the kernel's peak resident memory.
    """

    path: Path
    notebook: NotebookNode
    problems: list[str]
    seconds: float
    megabytes: float


def main(arguments: Sequence[str]) -> int:
    """Re-execute the notebooks at these paths; returns the exit code."""
    paths = [Path(argument) for argument in arguments]
    executed = []
    with tqdm(paths, desc="notebooks", unit="lesson") as lessons:
        for path in lessons:
            executed.append(execute(path, lessons.set_postfix_str))
    for lesson in executed:
        size, seconds = lesson.megabytes, lesson.seconds
        print(f"{lesson.path.stem:24} {seconds:5.1f} s {size:6.0f} MB peak resident")
    problems = [problem for lesson in executed for problem in lesson.problems]
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        print("nothing was written", file=sys.stderr)
        return 1
    for lesson in executed:
        write_whole(
            lesson.path, partial(Path.write_text, data=_text(lesson.notebook), encoding="utf-8")
        )
    return 0


def execute(path: Path, say: Callable[[str], object] = lambda text: None) -> Executed:
    """Run a lesson in a fresh kernel, in its own folder; `say` hears which cell runs."""
    notebook = _read(path)
    start = time.perf_counter()
    problems, megabytes = asyncio.run(_run(notebook, path, say))
    seconds = time.perf_counter() - start
    _clean(notebook)
    problems += flaws(notebook)
    return Executed(path, notebook, [f"{path.stem}: {p}" for p in problems], seconds, megabytes)


async def _run(
    notebook: NotebookNode, path: Path, say: Callable[[str], object]
) -> tuple[list[str], float]:
    """Execute all cells in place; the problems seen, and the kernel's peak memory in MB."""
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
        coalesce_streams=True,
        store_widget_state=False,
    )
    # Without other folders "python3" is this environment's own kernel, whatever a user installed.
    specs = KernelSpecManager(kernel_dirs=[])
    client.km = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=specs)
    problems: list[str] = []
    megabytes = math.nan  # of a kernel that is gone
    async with client.async_setup_kernel(stderr=subprocess.DEVNULL):  # chatter, not of the cells
        await _ask(client.kc, f"{_WATCH}.report()")
        for index, cell in enumerate(notebook.cells):
            if cell.cell_type != "code":
                continue
            say(f"{path.stem}: {_name(cell)}")
            compared = MEASURED not in cell.metadata.get("tags", [])
            try:
                if compared:
                    await _ask(client.kc, f"{_WATCH}.__enter__()")
                await client.async_execute_cell(cell, index)
            except CellExecutionError:
                break  # `flaws` finds the error among the outputs
            except (CellTimeoutError, DeadKernelError) as error:
                problems.append(f"{_name(cell)}: {str(error).splitlines()[0]}")
                break
            if compared:
                await _ask(client.kc, f"{_WATCH}.__exit__(None, None, None)")
                watched = json.loads(ast.literal_eval(await _ask(client.kc, f"{_WATCH}.report()")))
                problems += [f"{_name(cell)}: {p}" for p in _instabilities(cell, watched)]
        else:
            megabytes = float(await _ask(client.kc, _PEAK))
    return problems, megabytes


async def _ask(kernel: Any, expression: str) -> str:
    """The repr of an expression, evaluated by the kernel without leaving a trace."""
    request = kernel.execute("", silent=True, user_expressions={"answer": expression})
    while True:
        reply = await kernel.get_shell_msg(timeout=CELL_SECONDS)
        if reply["parent_header"].get("msg_id") == request:
            answer = reply["content"]["user_expressions"]["answer"]
            if answer["status"] != "ok":
                raise RuntimeError(f"{expression}: {answer['ename']}: {answer['evalue']}")
            return str(answer["data"]["text/plain"])


def _instabilities(cell: NotebookNode, watched: dict[str, Any]) -> list[str]:
    """What another machine may not reproduce of a compared cell's outputs."""
    problems = []
    if watched["gap"] < STABLE:
        problems.append(f"an argmax or topk with a margin of {watched['gap']:.1e}")
    shown = {mime for output in cell.outputs for mime in output.get("data", {})}
    for mime in shown - {*_TEXTS, _WIDGET_VIEW}:
        problems.append(f"shows {mime}, which is not compared as text")
    text = "\n".join(_texts(cell.outputs))
    problems += [f"prints the address {found}" for found in re.findall(r"0x[0-9a-f]{6,}", text)]
    for number in sorted(set(FLOAT.findall(text)) - set(FLOAT.findall(cell.source))):
        distance = watched["floats"].get(number)
        if distance is None:
            problems.append(f"prints {number}, which did not come through stable.digits")
        elif distance < STABLE:
            problems.append(f"prints {number}, which is {distance:.1e} from rounding differently")
    return problems


def _texts(outputs: Sequence[NotebookNode]) -> list[str]:
    """What a reader can read in these outputs, without markup."""
    texts = []
    for output in outputs:
        if output.output_type == "stream":
            texts.append(output.text)
        for mime in _TEXTS:
            text = str(output.get("data", {}).get(mime, ""))
            if mime in ("text/html", "image/svg+xml"):
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
    size = len(_text(notebook).encode())
    if size > MAX_BYTES:
        found.append(f"{size:,} bytes, more than {MAX_BYTES:,}")
    for cell in code:
        lines = len(cell.source.splitlines())
        if lines > MAX_LINES:
            found.append(f"{_name(cell)}: {lines} lines, more than {MAX_LINES}")
        for output in cell.outputs:
            if output.output_type == "error":
                found.append(f"{_name(cell)}: raises {output.ename}: {output.evalue}")
            if output.get("name") == "stderr":
                found.append(f"{_name(cell)}: writes to stderr: {output.text.strip()[:80]}")
            if _WIDGET_VIEW in output.get("data", {}):
                found.append(f"{_name(cell)}: holds a widget view")
        text = json.dumps([output for output in cell.outputs if output.output_type != "error"])
        found += [f"{_name(cell)}: shows the path {path}" for path in _HERE if path in text]
    if counts != list(range(1, len(code) + 1)):
        found.append(f"execution counts are not 1 to {len(code)}: {counts}")
    return found


def _clean(notebook: NotebookNode) -> None:
    """Drop what differs from run to run or from machine to machine."""
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": _KERNEL, "language_info": {"name": "python"}}
    )
    for cell in notebook.cells:
        kept = {key: cell.metadata[key] for key in ("jupyter", "tags") if key in cell.metadata}
        cell.metadata = nbformat.from_dict(kept)
        for output in cell.get("outputs", []):
            if "data" in output:
                output.data.pop(_WIDGET_VIEW, None)
                output.metadata = NotebookNode()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("data", True)]


def _read(path: Path) -> NotebookNode:
    """The notebook, each cell with an id that stays."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for index, cell in enumerate(notebook["cells"], start=1):
        cell.setdefault("id", f"cell-{index:02}")
    notebook["nbformat_minor"] = 5
    return nbformat.reads(json.dumps(notebook), as_version=4)


def _name(cell: NotebookNode) -> str:
    return f"cell {cell.id}"


def _text(notebook: NotebookNode) -> str:
    return str(nbformat.writes(notebook)) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
