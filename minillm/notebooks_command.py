"""`minillm notebooks run [LESSON...]`: execute lessons in place, all or none.

The work is `widgets.notebooks`; it runs in a process of its own, since `minillm` knows no Jupyter.
"""

import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

__all__ = ["add_arguments", "find", "lessons", "run"]


def add_arguments(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    text = "execute lessons in fresh kernels, and write them back if every one is clean"
    action = actions.add_parser("run", help=text, description=text)
    action.add_argument(
        "lesson", nargs="*", help="as 02_kv_cache, kv_cache or 02; all lessons if none is given"
    )


def run(arguments: Namespace) -> int:
    """Execute the lessons; returns the exit code of that.

    Raises:
        ValueError: an unknown lesson.
    """
    paths = find(arguments.lesson)
    return subprocess.call([sys.executable, "-m", "widgets.notebooks", *map(str, paths)])


def lessons() -> list[Path]:
    """The notebooks, in order: beside the package in a clone, inside it in a wheel.

    Raises:
        FileNotFoundError: there are none.
    """
    package = Path(__file__).parent
    for folder in (package.parent / "notebooks", package / "notebooks"):
        if found := sorted(folder.glob("[0-9][0-9]_*.ipynb")):
            return found
    raise FileNotFoundError(f"no lessons in {folder}")


def find(names: Sequence[str]) -> list[Path]:
    """The lessons of these names, numbers or stems; all of them for no name.

    Raises:
        ValueError: an unknown lesson; the message lists the known.
    """
    known: dict[str, Path] = {}
    for path in lessons():
        number, _, stem = path.stem.partition("_")
        known |= {path.stem: path, number: path, stem: path}
    for name in names:
        if name not in known:
            titles = ", ".join(path.stem for path in lessons())
            raise ValueError(f"unknown lesson {name!r}; there are {titles}")
    return [known[name] for name in names] or lessons()
