"""Solutions stand folded in the notebook; these functions find them, and check that they are right.

A solution is a markdown cell tagged "solution" that comes after its `check("02.1", name)`:

    <details><summary>Solution</summary>

    ```python
    name = ...
    ```

    </details>

Folded in JupyterLab, on GitHub and on paper, and never run by Run All, so it does not overwrite
what the reader wrote.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from widgets.common.exercises.exercise import Verdict, judge

__all__ = ["Solution", "solutions", "try_solutions"]

_CODE = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Solution:
    """The code that answers exercise `key`; `answer` is what the notebook hands to `check`."""

    key: str
    code: str
    answer: str


def solutions(notebook: Mapping[str, Any]) -> list[Solution]:
    """The solutions in a notebook, in their order.

    Raises:
        ValueError: a solution without code or without a check above it, or a check without one.
    """
    found: list[Solution] = []
    waiting: tuple[str, str] | None = None
    for i, cell in enumerate(notebook["cells"]):
        for call in _checks(cell):
            if waiting:
                raise ValueError(f"exercise {waiting[0]} has no solution below it")
            waiting = call
        if "solution" not in cell["metadata"].get("tags", ()):
            continue
        source = _source(cell)
        code = "\n".join(_CODE.findall(source))
        if not code or "<details" not in source:
            raise ValueError(f"cell {i} is tagged solution but has no folded python code")
        if waiting is None:
            raise ValueError(f"the solution in cell {i} has no check above it")
        found.append(Solution(waiting[0], code, waiting[1]))
        waiting = None
    if waiting:
        raise ValueError(f"exercise {waiting[0]} has no solution below it")
    return found


def try_solutions(notebook: Mapping[str, Any]) -> dict[str, Verdict]:
    """The verdict on every solution of a notebook.

    Each runs after the notebook's imports and its cells tagged "setup" only, in a namespace of its
    own; so a solution has to be complete.
    """
    setup = "\n".join(_setup(notebook))
    verdicts = {}
    for solution in solutions(notebook):
        namespace: dict[str, Any] = {"__name__": "__main__"}
        exec(setup, namespace)
        exec(solution.code, namespace)
        verdicts[solution.key] = judge(solution.key, eval(solution.answer, namespace))
    return verdicts


def _source(cell: Mapping[str, Any]) -> str:
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)


def _checks(cell: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Key and second argument of each `check("...", answer)` in a code cell."""
    if cell["cell_type"] != "code" or "check(" not in _source(cell):
        return
    for node in ast.walk(ast.parse(_source(cell))):
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "check":
            key, answer = node.args
            yield str(ast.literal_eval(key)), ast.unparse(answer)


def _setup(notebook: Mapping[str, Any]) -> Iterator[str]:
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        if "setup" in cell["metadata"].get("tags", ()):
            yield _source(cell)
        else:
            for node in ast.parse(_source(cell)).body:
                if isinstance(node, ast.Import | ast.ImportFrom):
                    yield ast.unparse(node)
