"""What lessons cost a shared machine: `python -m widgets.notebooks.cost LESSON.ipynb ...`.

Core-seconds are the processor time of the kernel, which other work on the machine changes little,
with one thread as on a hub. Unshared memory is what is left to hold after Run All.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode
from tqdm import tqdm

from widgets.notebooks.execute import Say, ask, code_cells, fails, kernel
from widgets.notebooks.file import read

__all__ = ["Cost", "cost", "dear", "main", "table"]

CELL, LESSON, MEGABYTES = 3.0, 20.0, 600.0  # what a class of 30 on two cores and 24 GB allows

_SECONDS = "__import__('time').process_time()"
_UNSHARED = "__import__('widgets.notebooks.memory', fromlist=['_']).unshared_megabytes()"


@dataclass(frozen=True)
class Cost:
    """A lesson: minutes as it says, core-seconds by cell, and MB that no other process shares."""

    name: str
    minutes: int
    cells: dict[str, float]
    megabytes: float


def main(arguments: Sequence[str]) -> int:
    """Run these lessons and print what they cost; the exit code is 1 if a cell fails."""
    with tqdm(list(map(Path, arguments)), desc="notebooks", unit="lesson") as bar:
        try:
            costs = [asyncio.run(cost(path, bar.set_postfix_str)) for path in bar]
        except ValueError as error:
            print(error, file=sys.stderr)
            return 1
    print(table(costs))
    for one in filter(dear, costs):
        print(f"{one.name}: {dear(one)}")
    return 0


async def cost(path: Path, say: Say = lambda text: None) -> Cost:
    """Run a lesson in a fresh kernel of one thread.

    Raises:
        ValueError: a cell fails.
    """
    notebook = read(path)
    cells: dict[str, float] = {}
    async with kernel(notebook, path, OMP_NUM_THREADS="1") as client:
        for index, cell in code_cells(notebook):
            say(f"{path.stem}: {cell.id}")
            before = float(await ask(client.kc, _SECONDS))
            if failure := await fails(client, cell, index):
                raise ValueError(f"{path.stem}, {cell.id}: {failure}")
            cells[cell.id] = float(await ask(client.kc, _SECONDS)) - before
        megabytes = float(await ask(client.kc, _UNSHARED))
    return Cost(path.stem, _minutes(notebook), cells, megabytes)


def table(costs: Sequence[Cost]) -> str:
    """The costs in Markdown; what is over its limit is bold."""
    rows = [
        "| lesson | minutes | core-seconds | dearest cell, core-seconds | cells over "
        f"{CELL:g} | unshared memory, MB |",
        "|---|---|---|---|---|---|",
    ]
    for one in costs:
        dearest = max(one.cells, key=one.cells.__getitem__)
        over = sum(seconds > CELL for seconds in one.cells.values())
        rows.append(
            f"| {one.name} | {one.minutes} | {_bounded(sum(one.cells.values()), LESSON)} | "
            f"{dearest}, {_bounded(one.cells[dearest], CELL, 1)} | {_bounded(over, 0)} | "
            f"{_bounded(one.megabytes, MEGABYTES)} |"
        )
    return "\n".join(rows)


def dear(cost: Cost) -> str:
    """The cells over their limit, the dearest first, with their core-seconds.

    >>> dear(Cost("02_x", 45, {"a": 3.5, "b": 0.5, "c": 9.0}, 500.0))
    'c 9.0, a 3.5'
    """
    over = [(seconds, cell) for cell, seconds in cost.cells.items() if seconds > CELL]
    return ", ".join(f"{cell} {seconds:.1f}" for seconds, cell in sorted(over, reverse=True))


def _bounded(value: float, limit: float, digits: int = 0) -> str:
    """A number, bold where it is over its limit.

    >>> _bounded(19.6, 20), _bounded(3.14, 3, 1)
    ('20', '**3.1**')
    """
    shown = f"{value:.{digits}f}"
    return f"**{shown}**" if value > limit else shown


def _minutes(notebook: NotebookNode) -> int:
    """How long the lesson says that it takes; 0 where it says nothing."""
    said = re.search(r"(\d+) minutes", notebook.cells[0].source)
    return int(said[1]) if said else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
