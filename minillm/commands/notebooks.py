"""`minillm notebooks run [LESSON...]`: execute lessons in place, all or none.

`minillm notebooks cost [LESSON...]` prints what each takes of a shared machine.

The work is `widgets.notebooks`; it runs in a process of its own, since `minillm` knows no Jupyter.
"""

import subprocess
import sys
from argparse import ArgumentParser, Namespace

from minillm.commands.lab import add_lessons, chosen

__all__ = ["add_arguments", "run"]

_ACTIONS = {
    "run": (
        "widgets.notebooks.execute",
        "execute lessons in fresh kernels, and write them back if every one is clean",
    ),
    "cost": (
        "widgets.notebooks.cost",
        "print the core-seconds and the memory of lessons, with one thread",
    ),
}


def add_arguments(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, (_, text) in _ACTIONS.items():
        add_lessons(actions.add_parser(name, help=text, description=text))


def run(arguments: Namespace) -> int:
    """Execute the lessons, or tell their cost; returns the exit code of that.

    Raises:
        ValueError: an unknown lesson.
        FileNotFoundError: there are no lessons.
    """
    module, _ = _ACTIONS[arguments.action]
    command = [sys.executable, "-P", "-m", module]
    return subprocess.call([*command, *map(str, chosen(arguments.lesson))])
