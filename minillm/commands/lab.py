"""`minillm lab`: the lessons in JupyterLab, in a copy that belongs to the learner.

Jupyter runs as `python -P -m jupyterlab` of this environment, and its kernel `python3` is this
environment's too, whatever kernels the user or the system has under that name. Because of -P,
modules are not looked for in the current folder: a `random.py` there is the learner's affair.
Two servers on one folder would save over each other, so a second start joins the first.
"""

import argparse
import json
import os
import subprocess
import sys
import webbrowser
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

from minillm.commands.copies import HIDDEN, hand_out
from minillm.commands.named_path import named_path

__all__ = [
    "add_arguments",
    "add_lessons",
    "chosen",
    "command",
    "environment",
    "lessons",
    "lessons_folder",
    "refuse_originals",
    "run",
    "running",
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


def refuse_originals(folder: Path) -> None:
    """A copy must not be made over the committed notebooks.

    Raises:
        ValueError: the folder is theirs, or in theirs.
    """
    if folder.resolve().is_relative_to(lessons_folder().resolve()):
        raise ValueError(f"{folder} holds the committed lessons: name another folder")


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
    refuse_originals(folder)
    for message in hand_out([] if arguments.originals else lessons(), folder):
        print(message, file=sys.stderr)
    root = lessons_folder() if arguments.originals else folder
    surroundings = environment(folder, os.environ)
    if address := running(root, lesson.name, Path(surroundings["JUPYTER_RUNTIME_DIR"])):
        print(f"JupyterLab is already open on {root}: {address}", file=sys.stderr)
        if "--no-browser" not in options:
            webbrowser.open(address)
        return 0
    superuser = hasattr(os, "geteuid") and os.geteuid() == 0
    if superuser and "--allow-root" not in options:
        print("running as root: Jupyter is given --allow-root", file=sys.stderr)
        options = ["--allow-root", *options]
    line = command(root, lesson.name, options)
    if os.name == "nt":  # there exec returns to the shell at once
        return subprocess.call(line, env=surroundings)
    sys.stderr.flush()
    os.execve(line[0], line, surroundings)


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


def add_lessons(parser: argparse.ArgumentParser) -> None:
    """The argument that `chosen` reads."""
    parser.add_argument(
        "lesson", nargs="*", help="as 02_kv_cache, kv_cache or 02; all lessons if none is given"
    )


def chosen(names: Sequence[str]) -> list[Path]:
    """These lessons, each once; all of them if none is named. See `find` for the errors."""
    return list(dict.fromkeys(map(find, names))) or lessons()


def running(root: Path, lesson: str, runtime: Path) -> str | None:
    """The lesson's address on a server that is open on this folder already; None if none is."""
    direct = build_opener(ProxyHandler({}))
    for path in sorted(runtime.glob("jpserver-*.json")):
        try:
            server = json.loads(path.read_text(encoding="utf-8"))
            if Path(server["root_dir"]).resolve() != root.resolve():
                continue
            with direct.open(f"{server['url']}api?token={server['token']}", timeout=2):
                return f"{server['url']}lab/tree/{lesson}?token={server['token']}"
        except (OSError, ValueError, KeyError):
            continue  # of a server that is no more
    return None


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
    JupyterLab overrules them. What `running` reads stands where the user wants it, else there too.
    """
    hidden = str(folder / HIDDEN)
    data = [str(Path(sys.prefix, "share", "jupyter")), hidden, inherited.get("JUPYTER_PATH")]
    config = [inherited.get("JUPYTER_CONFIG_PATH"), hidden]
    return {
        **inherited,
        "JUPYTER_PATH": os.pathsep.join(filter(None, data)),
        "JUPYTER_CONFIG_PATH": os.pathsep.join(filter(None, config)),
        "JUPYTER_RUNTIME_DIR": inherited.get("JUPYTER_RUNTIME_DIR") or str(Path(hidden, "runtime")),
    }
