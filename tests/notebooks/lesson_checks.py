"""Run a lesson's checks again with a deviation planted, without Jupyter: which do not notice?

Of a lesson only those cells are run that a check needs, and the last of them again for each
deviation.
"""

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from types import FunctionType
from typing import Any
from unittest.mock import patch

import torch
from deviations import NoisyProducts, deviated, other_logits, spoiled_caches, wrong_token
from lesson_cells import Cell, needed

from minillm.decoding import Step
from widgets.common.meter import meters
from widgets.common.meter.exactness import Verdict

__all__ = ["unnoticed"]

REACH = 3  # cells that are run again for a check, its own among them
_NO_TRICK = (
    "minillm.tokens",
    "minillm.data.heldout",
    "minillm.checkpoint",
    "minillm.data.recorded",
)

Said = dict[tuple[str, int, int, int], Any]  # cell, line, argument, how often before: the value
Space = dict[str, Any]


def unnoticed(cells: Sequence[Cell]) -> Iterator[tuple[str, int, list[str]]]:
    """Of each cell with checks: how many, and those that no planted deviation turns red."""
    chains = {cell.id: needed(cells, i) for i, cell in enumerate(cells) if cell.checks}
    wanted = {cell.id for chain in chains.values() for cell in chain}
    space, before = Space(), dict[str, Space]()
    for cell in cells:
        if cell.id in wanted:
            before[cell.id] = dict(space)
            with _planted_meters() as (green, deaf):
                said = _run(cell, space)
            if cell.id in chains:
                after = dict(space)
                claims = {(cell.id, *place) for place in cell.claims}
                true = {key for key, x in said.items() if x is True and key[:3] in claims}
                standing = _standing(true, chains[cell.id], before, space)
                _restore(space, after)
                stay = [f"line {line}: stays True" for _, line, _, _ in sorted(standing)]
                yield cell.id, len(green) + len(true), [*deaf, *stay]


def _standing(
    true: set[Any], chain: Sequence[Cell], before: Mapping[str, Space], space: Space
) -> set[Any]:
    """What stays True whatever is planted."""
    behind_measured = len(chain) > 1 and chain[-2].measured
    for reach in range(1 + behind_measured, min(REACH, len(chain)) + 1):
        again = chain[-reach:]
        for plant in _plants(before[again[0].id], again):
            if not true:
                return true
            _restore(space, before[again[0].id])
            true = true - _turned(plant, again, space)
    return true


def _restore(space: Space, then: Space) -> None:
    space.clear()
    space.update(then)


def _turned(plant: "Plant", cells: Sequence[Cell], space: Space) -> set[Any]:
    """What is False with a deviation planted; nothing where the cells cannot live with it."""
    said = Said()
    try:
        with warnings.catch_warnings(action="ignore"), torch.random.fork_rng(), plant(space):
            for cell in cells:
                said = _run(cell, space)
    except Exception:
        return set()
    return {key for key, value in said.items() if value is False}


def _run(cell: Cell, space: Space) -> Said:
    """Run a cell; what it printed itself."""
    said = Said()

    def hear(*args: Any, **_: Any) -> None:
        frame = sys._getframe(1)
        for place, value in enumerate(args):
            key, count = (frame.f_code.co_filename, frame.f_lineno, place), 0
            while (*key, count) in said:
                count += 1
            said[*key, count] = value

    space["print"] = hear
    exec(compile(cell.tree, cell.id, "exec"), space)
    return said


# What is planted


Plant = Callable[[Space], AbstractContextManager[Any]]


def _plants(space: Space, cells: Sequence[Cell]) -> Iterator[Plant]:
    """The library's functions first, decoders before all; what the lesson wrote itself last."""
    names = set[str]().union(*(cell.reads for cell in cells))
    for name in list(names):
        names |= set(getattr(getattr(space.get(name), "__code__", None), "co_names", ()))
    tricks = sorted(name for name in names if _is_trick(space.get(name)))
    functions = [name for name in tricks if isinstance(_called(space[name]), FunctionType)]
    functions.sort(key=lambda name: "decode" not in _called(space[name]).__name__)
    own = sorted(name for name in names if _home(space.get(name)) == "builtins")
    own = [name for name in own if isinstance(space.get(name), FunctionType)]
    yield from (partial(_planted, name, 1e-3) for name in functions)
    yield from (lambda _, size=size: NoisyProducts(size) for size in (1e-3, 1.0))
    yield from (partial(_planted, name, size) for name in [*tricks, *own] for size in (1e-3, 10.0))


def _is_trick(value: Any) -> bool:
    """Whether the lesson has it from the part of the library that it is about."""
    if isinstance(value, Mapping):
        return bool(value) and all(map(_is_trick, value.values()))
    home = _home(value)
    return home.startswith("minillm") and home not in _NO_TRICK


def _called(value: Any) -> Any:
    """The function of a partial."""
    return getattr(value, "func", value)


def _home(value: Any) -> str:
    value = _called(value)
    return getattr(value, "__module__", None) or type(value).__module__


@contextmanager
def _planted(name: str, size: float, space: Space) -> Iterator[None]:
    with deviated(space[name], size) as space[name]:
        yield


@contextmanager
def _planted_meters() -> Iterator[tuple[list[Verdict], list[str]]]:
    """Meters that are green only if deviations are red: their verdicts, and what went unnoticed."""
    green, deaf = list[Verdict](), list[str]()
    measure, compare = meters.measure, meters.compare

    def hear(what: str, verdict: Verdict) -> None:
        if verdict.grade != "different":
            deaf.append(f"the meter does not see {what}")

    def compare_planted(a: Iterable[Step], b: Iterable[Step], **how: Any) -> Verdict:
        naive, fast = list(a), list(b)
        verdict = compare(naive, fast, **how)
        if verdict.grade in ("identical", "rounding"):
            green.append(verdict)
            hear("a wrong token", compare(naive, map(wrong_token, fast), **how))
            hear("other logits", compare(naive, map(other_logits, fast), **how))
        return verdict

    def measure_planted(naive: Any, fast: Any, prompts: Any, **how: Any) -> Verdict:
        def spoiled(prompts: Any) -> Iterator[Step]:
            with spoiled_caches():
                yield from fast(prompts)

        verdict = measure(naive, fast, prompts, **how)
        if verdict.cache is not None:
            hear("a spoiled cache", measure(naive, spoiled, prompts, **how))
        return verdict

    with patch.multiple(meters, measure=measure_planted, compare=compare_planted):
        yield green, deaf
