"""`minillm lab`: the lessons in JupyterLab, in a copy that belongs to the learner.

The copy has no outputs, so that no prediction is spoiled. Lessons are handed out anew when a new
version of them arrives, but never over what the learner changed: then the new version is put
beside it. What was handed out is remembered by hash in a hidden folder of the learner's; a hash is
of the cells' sources, so that running a lesson is not changing it.

Jupyter runs as `python -m jupyterlab` of this environment, and its kernel `python3` is this
environment's too, whatever kernels the user or the system has under that name.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

from minillm.checkpoint import write_whole

__all__ = [
    "add_arguments",
    "command",
    "environment",
    "hand_out",
    "lessons",
    "lessons_folder",
    "run",
]

_HIDDEN = ".minillm"  # in the learner's folder: hashes of what was handed out, and our kernel
_KERNELSPEC = {
    "argv": ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"],  # Jupyter's python
    "display_name": "Python 3 (minillm)",
    "language": "python",
}


def lessons_folder() -> Path:
    """Where the committed notebooks are: in the package (a wheel), or beside it (a checkout).

    Raises:
        FileNotFoundError: neither is there.
    """
    package = Path(__file__).parent
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
        type=Path,
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
    folder = arguments.folder.expanduser().absolute()
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
        "-m",
        "jupyterlab",
        f"--ServerApp.root_dir={root}",
        f"--LabApp.default_url=/lab/tree/{lesson}",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.news_url=None",
        *options,
    ]


def environment(folder: Path, inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment of JupyterLab: any other kernel named `python3` comes after this one's.

    That is the kernel installed here or, where none is, the one that `hand_out` wrote.
    """
    ours = [str(Path(sys.prefix, "share", "jupyter")), str(folder / _HIDDEN)]
    paths = [*ours, *filter(None, [inherited.get("JUPYTER_PATH")])]
    return {**inherited, "JUPYTER_PATH": os.pathsep.join(paths)}


def hand_out(originals: Sequence[Path], folder: Path) -> list[str]:
    """Bring the learner's copies up to date; returns what there is to say about it.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    hidden = folder / _HIDDEN
    kernel = hidden / "kernels" / "python3"
    kernel.mkdir(parents=True, exist_ok=True)
    _write_json(kernel / "kernel.json", _KERNELSPEC)
    handed_out = _read_json(hidden / "handed_out.json") or {}
    messages = [_hand_out(original, folder, handed_out) for original in originals]
    _write_json(hidden / "handed_out.json", handed_out)
    return [message for message in messages if message]


def _hand_out(original: Path, folder: Path, handed_out: dict[str, str]) -> str | None:
    """Put one lesson under the first name that is free, unchanged, or made from this version."""
    lesson = _cleared(json.loads(original.read_text(encoding="utf-8")))
    version = _hash(lesson)
    for number in count():
        name = original.stem + ("" if number == 0 else f".new{number}") + ".ipynb"
        path, before = folder / name, handed_out.get(name)
        now = _hash(_read_json(path)) if path.exists() else None
        if before == version and (now or number):
            return None  # theirs comes from this version; a .new one they removed stays away
        if now in (None, before, version):
            if now != version:
                _write_json(path, lesson)
            handed_out[name] = version
            break
    if number == 0:
        return (
            f"{name} is new in this version of the course" if now not in (None, version) else None
        )
    return f"{original.name} has a new version, but you changed yours: it is kept, see {name}"


def _cleared(notebook: dict[str, Any]) -> dict[str, Any]:
    """A notebook as before its first run, for the kernel of this environment."""
    metadata = {k: v for k, v in notebook["metadata"].items() if k != "widgets"}
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [
        cell | {"outputs": [], "execution_count": None} if cell["cell_type"] == "code" else cell
        for cell in notebook["cells"]
    ]
    return notebook | {"cells": cells, "metadata": metadata | {"kernelspec": kernel}}


def _hash(notebook: Any) -> str:
    """Of the kinds and sources of the cells; of anything at all where it is no notebook."""
    try:
        content = [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]
    except (KeyError, TypeError):
        content = notebook
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _read_json(path: Path) -> Any:
    """None where there is no such file or it is broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _write_json(path: Path, value: object) -> None:
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    write_whole(path, lambda beside: beside.write_text(text, encoding="utf-8"))
