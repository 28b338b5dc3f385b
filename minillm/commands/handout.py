"""`minillm handout DIR`: a reader's copy of the lessons in a folder, without opening it.

A second call brings the copy up to date, and never over what its reader changed: see `copies`.
`--for otter` or `--for nbgrader` writes the exercises as homework for that grader instead. That
work is `widgets.common.exercises.homework`; it runs in a process of its own, since `minillm` knows
no Jupyter.
"""

import subprocess
import sys
from argparse import ArgumentParser, Namespace

from minillm.commands.copies import hand_out
from minillm.commands.lab import lessons, refuse_originals
from minillm.commands.named_path import named_path

__all__ = ["add_arguments", "run"]

_HOMEWORK = "widgets.common.exercises.homework"


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "folder", type=named_path, metavar="DIR", help="where the copy is, or will be"
    )
    parser.add_argument(
        "--for",
        dest="grader",
        choices=("otter", "nbgrader"),
        help="write homework for this grader, to a new folder or an empty one",
    )


def run(arguments: Namespace) -> int:
    """Hand the lessons out and say what is new, or write homework; returns the exit code.

    Raises:
        ValueError: the folder is that of the committed lessons, or homework would overwrite it.
        OSError: the folder cannot be written, or the disk is full.
    """
    folder = arguments.folder
    refuse_originals(folder)
    if arguments.grader:
        if folder.exists() and any(folder.iterdir()):
            raise ValueError(f"{folder} is not empty: name a new folder")
        command = [sys.executable, "-P", "-m", _HOMEWORK, arguments.grader, str(folder)]
        return subprocess.call([*command, *map(str, lessons())])
    for message in hand_out(lessons(), folder):
        print(message)
    return 0
