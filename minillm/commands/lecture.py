"""`minillm lecture LESSON`: a lesson as slides in the browser, from a run made for the occasion.

It is the lesson's page of `minillm site`, opened at its first slide.
"""

import tempfile
import webbrowser
from argparse import ArgumentParser, Namespace
from pathlib import Path

from minillm.commands import site
from minillm.commands.lab import find

__all__ = ["add_arguments", "run"]


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("lesson", help="as 04_speculative, speculative or 04")


def run(arguments: Namespace) -> int:
    """Execute the lesson, write its page to a folder that stays, and open it.

    Raises:
        ValueError: an unknown lesson.
    """
    path = find(arguments.lesson)
    folder = Path(tempfile.mkdtemp(prefix="minillm-lecture-"))
    if code := site.run(Namespace(folder=folder, lesson=[arguments.lesson])):
        return code
    page = (folder / f"{path.stem}.html").as_uri() + "#slide-1"
    print(page)
    webbrowser.open(page)
    return 0
