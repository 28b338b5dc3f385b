"""Re-execute lessons in place: `python -m widgets.notebooks.execute LESSON.ipynb ...`.

Each lesson runs in a fresh kernel, up to three times on a busy machine (see
`widgets.notebooks.quiet`). Its file is replaced only if every lesson came out clean: times of a
quiet machine, no error, nothing on stderr, cells that fit a slide, and outputs that another machine
reproduces. That is judged from how near the run came to other outputs (see
`widgets.common.stable`), and then by runs on imitated machines (see `widgets.notebooks.elsewhere`).
Cells tagged `nbval-ignore-output` measure, and are not compared; they must not fail there either.
"""

import ast
import asyncio
import copy
import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from tqdm import tqdm

from minillm.files import write_whole
from widgets.common.stable import FLOAT
from widgets.common.still import VIEW
from widgets.notebooks.file import (
    TEXTS,
    clean,
    compared,
    flaws,
    is_compared,
    name_of,
    read,
    readable,
    text_of,
)
from widgets.notebooks.quiet import Quiet, plain_loop

__all__ = [
    "MACHINES",
    "Executed",
    "ask",
    "audit",
    "code_cells",
    "execute",
    "fails",
    "kernel",
    "kernel_manager",
    "main",
]

CELL_SECONDS = 120
STABLE = 1e-6  # the least margin of a choice, and relative distance from a rounding boundary
TRIES = 3  # on a busy machine
MACHINES = range(1, 6)  # seeds of the imitated ones

Say = Callable[[str], object]

_WATCH = "__import__('widgets.common.stable', fromlist=['_']).watch()"
_PEAK = "__import__('widgets.notebooks.memory', fromlist=['_']).peak_megabytes()"
_MOVE = "__import__('widgets.notebooks.elsewhere', fromlist=['_']).move({})"


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
    executed, problems, quiet = [], [], Quiet(plain_loop())
    with tqdm(paths, desc="notebooks", unit="lesson") as lessons:
        for path in lessons:
            lesson = _quietly(quiet, path, lessons.set_postfix_str)
            found = lesson.problems or audit(lesson.notebook, path, lessons.set_postfix_str)
            problems += [f"{path.stem}: {problem}" for problem in found]
            executed.append(lesson)
    for lesson in executed:
        size, seconds = lesson.megabytes, lesson.seconds
        print(f"{lesson.path.stem:24} {seconds:5.1f} s {size:6.0f} MB peak resident")
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        print("nothing was written", file=sys.stderr)
        return 1
    for lesson in executed:
        write_whole(
            lesson.path, partial(Path.write_text, data=text_of(lesson.notebook), encoding="utf-8")
        )
    return 0


def _quietly(quiet: Quiet, path: Path, say: Say) -> Executed:
    """Run a lesson, again as long as the machine is busy; the last run tells of it."""
    runs: list[Executed] = []
    while disturbance := quiet.disturbed_during(lambda: runs.append(execute(path, say))):
        if len(runs) == TRIES:
            return replace(runs[-1], problems=[*runs[-1].problems, disturbance])
    return runs[-1]


def execute(path: Path, say: Say = lambda text: None) -> Executed:
    """Run a lesson in a fresh kernel, in its own folder; `say` hears which cell runs."""
    notebook = read(path)
    start = time.perf_counter()
    problems, megabytes = asyncio.run(_run(notebook, path, say))
    seconds = time.perf_counter() - start
    clean(notebook)
    return Executed(path, notebook, problems + flaws(notebook), seconds, megabytes)


def audit(
    notebook: NotebookNode,
    path: Path,
    say: Say = lambda text: None,
    machines: Sequence[int] | None = None,
) -> list[str]:
    """What an executed lesson shows here, and another machine does not.

    Args:
        notebook: with the outputs of here, clean.
        path: its file.
        say: hears which cell runs.
        machines: see `widgets.notebooks.elsewhere.move`; each runs the lesson once, in a kernel. By
            default all of `MACHINES`.
    """
    here = compared(notebook)
    problems: dict[str, str] = {}
    for machine in MACHINES if machines is None else machines:
        there = copy.deepcopy(notebook)
        failed = asyncio.run(_run_elsewhere(there, path, machine, say))
        clean(there)
        for cell, lines in compared(there).items():
            if lines != here[cell]:
                pairs = zip_longest(here[cell], lines, fillvalue="nothing")
                old, new = next((a, b) for a, b in pairs if a != b)
                problems.setdefault(cell, f"shows {old!r}; elsewhere ({machine}) {new!r}")
        if failed:
            problems.setdefault(*failed)
    order = [name_of(cell) for _, cell in code_cells(notebook)]
    return [f"{cell}: {problems[cell]}" for cell in order if cell in problems]


def kernel_manager() -> AsyncKernelManager:
    """Of this environment's own kernel, whatever else a user has installed as "python3"."""
    specs = KernelSpecManager(kernel_dirs=[])
    return AsyncKernelManager(kernel_name="python3", kernel_spec_manager=specs)


@asynccontextmanager
async def kernel(
    notebook: NotebookNode, path: Path, **environment: str
) -> AsyncIterator[NotebookClient]:
    """A fresh kernel for a notebook, in the folder of its file."""
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
        coalesce_streams=True,
        store_widget_state=False,
    )
    client.km = kernel_manager()
    quiet = {"stderr": subprocess.DEVNULL, "env": os.environ | environment}  # no kernel's chatter
    async with client.async_setup_kernel(**quiet):
        yield client


async def _run(notebook: NotebookNode, path: Path, say: Say) -> tuple[list[str], float]:
    """Execute all cells in place; the problems seen, and the kernel's peak memory in MB."""
    problems: list[str] = []
    megabytes = math.nan  # of a kernel that is gone
    async with kernel(notebook, path) as client:
        await ask(client.kc, f"{_WATCH}.report()")
        for index, cell in code_cells(notebook):
            say(f"{path.stem}: {name_of(cell)}")
            if is_compared(cell):
                await ask(client.kc, f"{_WATCH}.__enter__()")
            if failure := await fails(client, cell, index):
                problems += [f"{name_of(cell)}: {failure}"]
                break
            if is_compared(cell):
                await ask(client.kc, f"{_WATCH}.__exit__(None, None, None)")
                watched = json.loads(ast.literal_eval(await ask(client.kc, f"{_WATCH}.report()")))
                problems += [f"{name_of(cell)}: {p}" for p in _instabilities(cell, watched)]
        else:
            megabytes = float(await ask(client.kc, _PEAK))
    return problems, megabytes


async def _run_elsewhere(
    notebook: NotebookNode, path: Path, machine: int, say: Say
) -> tuple[str, str] | None:
    """Execute all cells in place on an imitated machine; the cell that failed there, and how."""
    async with kernel(notebook, path, OMP_NUM_THREADS="1") as client:
        await ask(client.kc, _MOVE.format(machine))
        for index, cell in code_cells(notebook):
            say(f"{path.stem}, machine {machine}: {name_of(cell)}")
            if failure := await fails(client, cell, index):
                return name_of(cell), f"elsewhere ({machine}) {failure}"
    return None


def code_cells(notebook: NotebookNode) -> list[tuple[int, NotebookNode]]:
    """The cells that run, with their numbers among all."""
    return [(i, cell) for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"]


async def fails(client: NotebookClient, cell: NotebookNode, index: int) -> str | None:
    """Execute a cell; how it failed, if it did."""
    try:
        await client.async_execute_cell(cell, index)
    except CellExecutionError as error:
        return f"raises {error.ename}: {error.evalue}"
    except (CellTimeoutError, DeadKernelError) as error:
        return str(error).splitlines()[0]
    return None


async def ask(client: Any, expression: str) -> str:
    """The repr of an expression, evaluated by the kernel without leaving a trace."""
    request = client.execute("", silent=True, user_expressions={"answer": expression})
    while True:
        reply = await client.get_shell_msg(timeout=CELL_SECONDS)
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
    for mime in shown - {*TEXTS, VIEW}:
        problems.append(f"shows {mime}, which is not compared as text")
    text = "\n".join(readable(cell.outputs))
    problems += [f"prints the address {found}" for found in re.findall(r"0x[0-9a-f]{6,}", text)]
    for number in sorted(set(FLOAT.findall(text)) - set(FLOAT.findall(cell.source))):
        distance = watched["floats"].get(number)
        if distance is None:
            problems.append(f"prints {number}, which did not come through stable.digits")
        elif distance < STABLE:
            problems.append(f"prints {number}, which is {distance:.1e} from rounding differently")
    return problems


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
