"""`minillm lab`: the lessons in JupyterLab, in a copy that belongs to the learner.

Jupyter runs as `python -P -m jupyterlab` of this environment, and its kernel `python3` is this
environment's too, whatever kernels the user or the system has under that name. Because of -P,
modules are not looked for in the current folder: a `random.py` there is the learner's affair.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from minillm.commands.handout import HIDDEN, hand_out
from minillm.commands.named_path import named_path

__all__ = [
    "add_arguments",
    "command",
    "environment",
    "lessons",
    "lessons_folder",
    "run",
]


def lessons_folder() -> Path:
    """Where the committed notebooks are: in the package (a wheel), or beside it (a checkout).

    Raises:
        FileNotFoundError: neither is there.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "notebooks", package.parent / "notebooks"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"no notebooks in {package} nor beside it")


def lessons() -> list[Path]:
    """The committed notebooks, in the order of their numbers."""
    return sorted(lessons_folder().glob("[0-9][0-9]_*.ipynb"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "minillm lab [LESSON] [--folder DIR] [--originals] [JUPYTER OPTIONS]"
    parser.epilog = (
        "LESSON comes first and is a number, a name or both: 02, kv_cache, 02_kv_cache; by default "
        "the first lesson opens. Every other option is Jupyter's: --no-browser --ip=0.0.0.0 "
        "--port=8888"
    )
    parser.add_argument(
        "--folder",
        type=named_path,
        default=Path("~/minillm-lessons"),
        metavar="DIR",
        help="where your copy of the lessons is, or will be (~/minillm-lessons)",
    )
    parser.add_argument(
        "--originals", action="store_true", help="open the committed notebooks, not your copy"
    )
    parser.set_defaults(rest=[])


def run(arguments: argparse.Namespace) -> int:
    wanted, options = None, arguments.rest
    if options and not options[0].startswith("-"):
        wanted, *options = options
    lesson = find(wanted)
    if find_spec("jupyterlab") is None:
        raise FileNotFoundError(
            f"JupyterLab is not installed beside {sys.executable}: python -m pip install jupyterlab"
        )
    try:
        folder = arguments.folder.expanduser().absolute()
    except RuntimeError as error:
        raise ValueError(f"{arguments.folder}: {error}") from error
    originals = lessons_folder().resolve()
    if folder.resolve().is_relative_to(originals):
        raise ValueError(f"{folder} holds the committed lessons: name another folder")
    for message in hand_out([] if arguments.originals else lessons(), folder):
        print(message, file=sys.stderr)
    root = lessons_folder() if arguments.originals else folder
    superuser = hasattr(os, "geteuid") and os.geteuid() == 0
    if superuser and "--allow-root" not in options:
        print("running as root: Jupyter is given --allow-root", file=sys.stderr)
        options = ["--allow-root", *options]
    line = command(root, lesson.name, options)
    if os.name == "nt":  # there exec returns to the shell at once
        return subprocess.call(line, env=environment(folder, os.environ))
    sys.stderr.flush()
    os.execve(line[0], line, environment(folder, os.environ))


def find(name: str | None) -> Path:
    """The lesson of that number, name or both; the first one for None.

    Raises:
        ValueError: there is no such lesson; the message lists them.
        FileNotFoundError: there are no lessons at all.
    """
    known = lessons()
    if not known:
        raise FileNotFoundError(f"there are no lessons in {lessons_folder()}")
    if name is None:
        return known[0]
    for path in known:
        number, stem = path.stem.split("_", 1)
        if name in (number, stem, path.stem, path.name):
            return path
    raise ValueError(f"no lesson {name!r}: there are {', '.join(path.stem for path in known)}")


def command(root: Path, lesson: str, options: Sequence[str]) -> list[str]:
    """The command line of JupyterLab; `options` are the user's and overrule ours."""
    return [
        sys.executable,
        "-P",
        "-m",
        "jupyterlab",
        f"--ServerApp.root_dir={root}",
        f"--LabApp.default_url=/lab/tree/{lesson}",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.news_url=None",
        *options,
    ]


def environment(folder: Path, inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment of JupyterLab: this one, what `hand_out` hid for Jupyter, and two orders.

    Any other kernel named `python3` comes after this environment's, which is the one installed here
    or, where none is, the hidden one. The hidden settings are defaults: what the user sets in
    JupyterLab overrules them.
    """
    hidden = str(folder / HIDDEN)
    data = [str(Path(sys.prefix, "share", "jupyter")), hidden, inherited.get("JUPYTER_PATH")]
    config = [inherited.get("JUPYTER_CONFIG_PATH"), hidden]
    return {
        **inherited,
        "JUPYTER_PATH": os.pathsep.join(filter(None, data)),
        "JUPYTER_CONFIG_PATH": os.pathsep.join(filter(None, config)),
    }
