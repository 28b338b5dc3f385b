"""The exercises of lessons as homework for a grader: `python -m widgets.common.exercises.homework`.

A lesson is the only source. What its exercises stand on comes first: imports, cells tagged "setup",
and the statements that bind what the exercises read. The exercises follow, without solutions. The
grader asks `judge`, as the lesson's `check` does, so a student sees the verdict before handing in.

otter-grader gets a notebook and `tests/` for each lesson, nbgrader an assignment whose solutions it
removes itself.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from minillm.files import write_whole
from widgets.common.exercises.solutions import Solution, solutions

__all__ = ["GRADERS", "main"]

Cell = dict[str, Any]

_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
_JUDGED = """\
import widgets.{stem}.exercises
from widgets.common.exercises import judge

verdict = judge({key!r}, {answer})
assert verdict.grade == "right", f"{{verdict.says}} {{verdict.look}}"
"""
_OTTER = '''\
"""Exercise {key}, for otter-grader."""

from otter.test_files import test_case

import widgets.{stem}.exercises
from widgets.common.exercises import judge

OK_FORMAT = False
name = "{name}"
points = 1


@test_case()
def test_verdict(env):
    verdict = judge({key!r}, eval({answer!r}, env))
    assert verdict.grade == "right", f"{{verdict.says}} {{verdict.look}}"
'''
_NBGRADER = """\
# In this folder: `nbgrader generate_assignment LESSON`, then `nbgrader autograde LESSON`.
c = get_config()
c.CourseDirectory.course_id = "minillm"
c.ClearSolutions.code_stub = {"python": "# Replace the ... above."}
c.ExecutePreprocessor.timeout = 120
"""


def main(arguments: Sequence[str]) -> int:
    """Write homework: the grader, a folder, and the lessons' paths; returns the exit code."""
    grader, folder, *paths = arguments
    for path in map(Path, paths):
        lesson = json.loads(path.read_text(encoding="utf-8"))
        if solutions(lesson):
            GRADERS[grader](Path(folder), path.stem, lesson)
    return 0


def _for_otter(folder: Path, name: str, lesson: dict[str, Any]) -> None:
    for solution in solutions(lesson):
        values = {"key": solution.key, "answer": solution.answer, "stem": name.partition("_")[2]}
        test = _OTTER.format(name=_id(solution), **values)
        _write(folder / name / "tests" / f"{_id(solution)}.py", test)
    homework = _notebook(name, lesson, lambda cell, solution: [new_code_cell(cell["source"])])
    _write(folder / name / f"{name}.ipynb", nbformat.writes(homework))


def _for_nbgrader(folder: Path, name: str, lesson: dict[str, Any]) -> None:
    stem = name.partition("_")[2]

    def graded(cell: Cell, solution: Solution) -> list[NotebookNode]:
        stub, mark, call = "".join(cell["source"]).rpartition("\ncheck(")
        solved = f"### BEGIN SOLUTION\n{solution.code.rstrip()}\n### END SOLUTION"
        answer = new_code_cell(f"{stub.rstrip()}\n\n{solved}\n{mark}{call}")
        answer.metadata["nbgrader"] = _role(f"answer-{_id(solution)}", solution=True)
        judged = _JUDGED.format(key=solution.key, answer=solution.answer, stem=stem)
        test = new_code_cell(judged)
        test.metadata["nbgrader"] = _role(f"test-{_id(solution)}", grade=True, points=1)
        return [answer, test]

    _write(folder / "nbgrader_config.py", _NBGRADER)
    homework = _notebook(name, lesson, graded)
    _write(folder / "source" / name / f"{name}.ipynb", nbformat.writes(homework))


GRADERS = {"nbgrader": _for_nbgrader, "otter": _for_otter}


def _role(grade_id: str, **role: Any) -> dict[str, Any]:
    """What nbgrader reads of a cell."""
    whole = {"schema_version": 3, "grade": False, "solution": False, "task": False}
    return whole | {"locked": "grade" in role, "grade_id": grade_id} | role


def _id(solution: Solution) -> str:
    """A name without a dot, as graders want it.

    >>> _id(Solution("02.1", "", ""))
    'q02_1'
    """
    return f"q{solution.key.replace('.', '_')}"


def _notebook(
    name: str,
    lesson: dict[str, Any],
    graded: Callable[[Cell, Solution], list[NotebookNode]],
) -> NotebookNode:
    """Setup and exercises of a lesson; `graded` makes of the cell with a check what is wanted."""
    before, exercises = _split(lesson["cells"])
    ground = new_code_cell("\n".join(_ground(before, exercises)))
    cells = [new_markdown_cell(f"# {name}: homework"), ground]
    waiting = iter(solutions(lesson))
    for cell in exercises:
        if cell["cell_type"] == "markdown":
            cells.append(new_markdown_cell(cell["source"]))
        else:
            cells += graded(cell, next(waiting))
    for number, cell in enumerate(cells):
        cell["id"] = f"{name.replace('_', '-')}-{number}"
        cell["source"] = "".join(cell["source"])
    return new_notebook(cells=cells, metadata={"kernelspec": _KERNEL})


def _split(cells: list[Cell]) -> tuple[list[Cell], list[Cell]]:
    """The cells before the last exercise that belong to none, and those of exercises.

    An exercise is the cell with its check, and the prose right above.
    """
    taken: set[int] = set()
    for i, cell in enumerate(cells):
        if cell["cell_type"] == "code" and "check(" in "".join(cell["source"]):
            above = i
            while cells[above - 1]["cell_type"] == "markdown" and not _tagged(
                cells[above - 1], "solution"
            ):
                above -= 1
            taken |= set(range(above, i + 1))
    before = [cell for i, cell in enumerate(cells[: max(taken)]) if i not in taken]
    return before, [cells[i] for i in sorted(taken)]


def _ground(before: list[Cell], exercises: list[Cell]) -> list[str]:
    """The statements that the exercises stand on, in their order.

    Backwards from the last exercise: what binds a name that is still read is kept, and what it
    reads is looked for in turn.
    """
    read: set[str] = set()
    ground: list[str] = []
    for _, statement in reversed(_statements(exercises)):
        read = (read - _binds(statement)) | _reads(statement)
    for cell, statement in reversed(_statements(before)):
        imports = isinstance(statement, ast.Import | ast.ImportFrom)
        if imports or _tagged(cell, "setup") or _binds(statement) & read:
            ground.append(ast.unparse(statement))
            read = (read - _binds(statement)) | _reads(statement)
    return ground[::-1]


def _statements(cells: list[Cell]) -> list[tuple[Cell, ast.stmt]]:
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    return [(cell, one) for cell in code for one in ast.parse("".join(cell["source"])).body]


def _reads(statement: ast.stmt) -> set[str]:
    """Names that it takes from before.

    >>> sorted(_reads(ast.parse("y = [f(a, b) for a in x]").body[0]))
    ['b', 'f', 'x']
    >>> sorted(_reads(ast.parse("y |= x").body[0]))
    ['x', 'y']
    """
    nodes = list(ast.walk(statement))
    own = {node.arg for node in nodes if isinstance(node, ast.arg)}
    own |= {n for node in nodes if isinstance(node, ast.comprehension) for n in _names(node.target)}
    own |= {n for node in nodes if isinstance(node, ast.FunctionDef) for n in _names(node)}
    own |= {n for node in nodes if isinstance(node, ast.For) for n in _names(node.target)}
    own |= {node.name for node in nodes if isinstance(node, ast.ExceptHandler) and node.name}
    grown = {n for node in nodes if isinstance(node, ast.AugAssign) for n in _names(node.target)}
    return ({*_names(statement, ast.Load)} | grown) - own


def _binds(statement: ast.stmt) -> set[str]:
    """Names that it gives to what comes after, or whose items it sets.

    >>> sorted(_binds(ast.parse("for x in y: z[x] = a = x").body[0]))
    ['a', 'x', 'z']
    >>> sorted(_binds(ast.parse("from x import y, z as a").body[0]))
    ['a', 'y']
    """
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {name.asname or name.name for name in statement.names}
    items = [node for node in ast.walk(statement) if isinstance(node, ast.Subscript)]
    stored = [node.value for node in items if isinstance(node.ctx, ast.Store)]
    targets = [n.target for n in ast.walk(statement) if isinstance(n, ast.comprehension)]
    inner = {name for target in targets for name in _names(target)}
    return {*_names(statement)} - inner | {node.id for node in stored if isinstance(node, ast.Name)}


def _names(tree: ast.AST, context: type[ast.expr_context] = ast.Store) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, context):
            yield node.id


def _tagged(cell: Cell, tag: str) -> bool:
    return tag in cell["metadata"].get("tags", ())


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, partial(Path.write_text, data=text, encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
