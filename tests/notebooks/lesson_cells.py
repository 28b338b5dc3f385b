"""What the code of a lesson's cells says: which cells a cell needs, and where it claims equality.

A claim is a printed comparison that means "the same": `==`, `torch.equal` and the like, or a
difference within `NEAR`.
"""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import nbformat

from widgets.notebooks.file import MEASURED

__all__ = ["Cell", "cells_of", "needed"]

NEAR = 1e-3
_METER = "widgets.common.meter"
_EQUAL = {"equal", "allclose", "isclose"}  # attributes


class Cell(NamedTuple):
    """A code cell.

    Attributes:
        meters: how the lesson calls the exactness meter.
        printed: what it printed when the lesson was committed.
        measured: whether its outputs are not compared: the cell behind it checks them.
    """

    id: str
    tree: ast.Module
    meters: frozenset[str] = frozenset()
    printed: str = ""
    measured: bool = False

    @property
    def binds(self) -> set[str]:
        """The names that it leaves behind."""
        return set().union(*map(_bound, self.tree.body))

    @property
    def reads(self) -> set[str]:
        """The names that it needs from cells before it."""
        found, bound = set[str](), set[str]()
        for statement in self.tree.body:
            own = {node.arg for node in ast.walk(statement) if isinstance(node, ast.arg)}
            if not isinstance(statement, ast.Assign | ast.AugAssign):
                own |= _bound(statement) | _names(statement, ast.Store)
            found |= _names(statement, ast.Load) - bound - own
            bound |= _bound(statement)
        return found

    @property
    def changes(self) -> set[str]:
        """The names of what it assigns to a part of: `name[0] = ...`."""
        parts = [n for n in ast.walk(self.tree) if isinstance(n, ast.Subscript | ast.Attribute)]
        return {_root(n) for n in parts if isinstance(n.ctx, ast.Store)}

    @property
    def claims(self) -> Iterator[tuple[int, int]]:
        """The line and the place of each argument that is printed and claims equality."""
        for call in self._calls("print"):
            for place, said in enumerate(call.args):
                if any(map(_claims_equality, [said, *self._made(said)])):
                    yield call.lineno, place

    @property
    def calls_meter(self) -> bool:
        return bool(self._calls(*self.meters))

    @property
    def checks(self) -> bool:
        """Whether it calls the meter, or claims an equality that held."""
        return self.calls_meter or ("True" in self.printed and any(self.claims))

    def _calls(self, *names: str) -> list[ast.Call]:
        calls = [node for node in ast.walk(self.tree) if isinstance(node, ast.Call)]
        return [call for call in calls if getattr(call.func, "id", "") in names]

    def _made(self, said: ast.expr) -> Iterator[ast.expr]:
        """What the cell puts under the names that are said."""
        names = _names(said, ast.Load)
        appended = {f"{name}.append" for name in names}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Assign) and names & _bound(node):
                yield node.value
            if isinstance(node, ast.Call) and ast.unparse(node.func) in appended:
                yield node.args[0]


def cells_of(path: Path) -> list[Cell]:
    """The code cells of a lesson."""
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    trees = [ast.parse(cell.source) for cell in cells]
    meters = frozenset(
        alias.asname or alias.name
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == _METER
        for alias in node.names
    )
    return [
        Cell(
            cell.id,
            tree,
            meters,
            "".join(out.get("text", "") for out in cell.outputs),
            MEASURED in cell.metadata.get("tags", []),
        )
        for cell, tree in zip(cells, trees, strict=True)
    ]


def needed(cells: Sequence[Cell], last: int) -> list[Cell]:
    """The cells that the last of them needs, and itself, in order."""
    found, names = [cells[last]], cells[last].reads
    for cell in reversed(cells[:last]):
        if names & (cell.binds | cell.changes):
            found.append(cell)
            names = names - cell.binds | cell.reads
    return found[::-1]


def _bound(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return {statement.name}
    aliases = [node for node in ast.walk(statement) if isinstance(node, ast.alias)]
    imported = {alias.asname or alias.name.partition(".")[0] for alias in aliases}
    return imported | _names(statement, ast.Store)


def _names(tree: ast.AST, use: type[ast.expr_context]) -> set[str]:
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    return {name.id for name in names if isinstance(name.ctx, use)}


def _root(node: ast.AST) -> str:
    """The `name` of name.attribute[index]."""
    while isinstance(node, ast.Subscript | ast.Attribute):
        node = node.value
    return getattr(node, "id", "")


def _claims_equality(said: ast.expr) -> bool:
    nodes = list(ast.walk(said))
    compared = [node for node in nodes if isinstance(node, ast.Compare)]
    ordered = [node for node in compared if not isinstance(node.ops[0], ast.Eq)]
    denied = any(isinstance(node, ast.Not) for node in nodes)
    if denied or not all(map(_is_near, ordered)) or any(map(_counts, compared)):
        return False
    return bool(compared) or any(getattr(node, "attr", "") in _EQUAL for node in nodes)


def _counts(compared: ast.Compare) -> bool:
    return isinstance(compared.left, ast.Call) and getattr(compared.left.func, "id", "") == "len"


def _is_near(compared: ast.Compare) -> bool:
    bound = getattr(compared.comparators[-1], "value", None)
    below = isinstance(compared.ops[-1], ast.Lt | ast.LtE)
    return below and isinstance(bound, float) and bound <= NEAR
