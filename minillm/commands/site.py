"""`minillm site DIR`: the lessons as pages that need neither kernel nor network.

The work is `widgets.site`; it runs in a process of its own, since `minillm` knows no Jupyter.
"""

import subprocess
import sys
from argparse import ArgumentParser, Namespace

from minillm.commands.lab import add_lessons, chosen
from minillm.commands.named_path import named_path

__all__ = ["add_arguments", "run"]


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "folder", type=named_path, metavar="DIR", help="a new folder, or an empty one"
    )
    add_lessons(parser)


def run(arguments: Namespace) -> int:
    """Execute the lessons and write their pages; returns the exit code of that.

    Raises:
        ValueError: an unknown lesson.
        FileNotFoundError: there are no lessons.
    """
    command = [sys.executable, "-P", "-m", "widgets.site.build", str(arguments.folder)]
    return subprocess.call([*command, *map(str, chosen(arguments.lesson))])
