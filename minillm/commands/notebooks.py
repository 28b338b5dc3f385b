"""`minillm notebooks run [LESSON...]`: execute lessons in place, all or none.

The work is `widgets.notebooks`; it runs in a process of its own, since `minillm` knows no Jupyter.
"""

import subprocess
import sys
from argparse import ArgumentParser, Namespace

from minillm.commands.lab import find, lessons

__all__ = ["add_arguments", "run"]


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
        FileNotFoundError: there are no lessons.
    """
    paths = [find(name) for name in arguments.lesson] or lessons()
    command = [sys.executable, "-P", "-m", "widgets.notebooks.execute"]
    return subprocess.call([*command, *map(str, paths)])
