"""`minillm lecture LESSON`: a lesson as slides in the browser, its explorers over a kernel.

Voila runs the lesson when the page opens (`widgets.site.live`). With `--recorded` it is the page of
`minillm site`, from a run made for the occasion: an explorer then answers to one control at a time,
and nothing has to stay open.
"""

import subprocess
import sys
import tempfile
import webbrowser
from argparse import ArgumentParser, Namespace
from importlib.util import find_spec
from pathlib import Path

from minillm.commands import site
from minillm.commands.lab import find

__all__ = ["add_arguments", "run"]


def add_arguments(parser: ArgumentParser) -> None:
    parser.usage = "minillm lecture LESSON [--recorded] [VOILA OPTIONS]"
    parser.epilog = "Every other option is Voila's: --no-browser --port=8866"
    parser.add_argument("lesson", help="as 04_speculative, speculative or 04")
    parser.add_argument(
        "--recorded", action="store_true", help="slides of a recorded run, without a kernel"
    )
    parser.set_defaults(rest=[])


def run(arguments: Namespace) -> int:
    """Serve the lesson until it is interrupted, or write its page to a folder and open it.

    Raises:
        ValueError: an unknown lesson, or an option that nobody reads.
        FileNotFoundError: Voila is not installed.
    """
    path = find(arguments.lesson)
    if arguments.recorded:
        return _recorded(path, arguments.rest)
    if find_spec("voila") is None:
        raise FileNotFoundError(
            "slides over a kernel need Voila: python -m pip install 'minillm[classroom]', "
            "or take --recorded"
        )
    command = [sys.executable, "-P", "-m", "widgets.site.live", str(path)]
    return subprocess.call([*command, *arguments.rest])


def _recorded(path: Path, options: list[str]) -> int:
    if options:
        raise ValueError(f"unrecognized arguments: {' '.join(options)}")
    folder = Path(tempfile.mkdtemp(prefix="minillm-lecture-"))
    if code := site.run(Namespace(folder=folder, lesson=[path.stem])):
        return code
    page = (folder / f"{path.stem}.html").as_uri() + "#slide-1"
    print(page)
    webbrowser.open(page)
    return 0
