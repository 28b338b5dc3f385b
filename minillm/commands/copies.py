"""The learner's copy of the lessons, kept up to date without losing what the learner wrote.

The copy has no outputs, so that no prediction is spoiled. Lessons are handed out anew when a new
version of them arrives, but never over what the learner changed: then the new version is put
beside it. What was handed out is remembered by hash in a hidden folder of the learner's; a hash is
of the cells' sources, so that running a lesson is not changing it.
"""

import hashlib
import json
import platform
import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from minillm.files import write_whole

__all__ = ["HIDDEN", "hand_out"]

HIDDEN = ".minillm"  # in the learner's folder: hashes of what was handed out, files for Jupyter
_KERNELSPEC = {
    "argv": ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"],  # Jupyter's python
    "display_name": "Python 3 (minillm)",
    "language": "python",
}
_SETTINGS = {  # JupyterLab asks about news at its first start, over the lesson
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}
}


def hand_out(originals: Sequence[Path], folder: Path) -> list[str]:
    """Bring the learner's copies up to date; returns what there is to say about it.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    hidden = folder / HIDDEN
    _write_json(hidden / "kernels" / "python3" / "kernel.json", _KERNELSPEC)
    _write_json(hidden / "labconfig" / "default_setting_overrides.json", _SETTINGS)
    remembered = _read_json(hidden / "handed_out.json")
    handed_out = remembered if isinstance(remembered, dict) else {}
    here = {original.stem for original in originals}
    left = [name for name in handed_out if here and name.partition(".")[0] not in here]
    messages = [
        *(_hand_out(original, folder, handed_out) for original in originals),
        *(_take_back(name, folder, handed_out) for name in left),
    ]
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


def _take_back(name: str, folder: Path, handed_out: dict[str, str]) -> str | None:
    """Remove a lesson that has left the course, or has another name now, if it was not changed."""
    path, before = folder / name, handed_out.pop(name)
    if not path.exists():
        return None
    if _hash(_read_json(path)) != before:
        return f"{name} is no longer part of the course, but you changed yours: it is kept"
    path.unlink(missing_ok=True)
    return None


def _cleared(notebook: dict[str, Any]) -> dict[str, Any]:
    """A notebook as before its first run, for the kernel of this environment."""
    cells = [
        cell | {"outputs": [], "execution_count": None} if cell["cell_type"] == "code" else cell
        for cell in notebook["cells"]
    ]
    return notebook | {"cells": cells, "metadata": _metadata()}


def _metadata() -> dict[str, Any]:
    """What JupyterLab writes as it opens a lesson: so none is changed by being opened."""
    installed = _read_json(Path(sys.prefix, "share/jupyter/kernels/python3/kernel.json"))
    kernel = (installed or _KERNELSPEC)["display_name"]
    return {
        "kernelspec": {"name": "python3", "display_name": kernel, "language": "python"},
        "language_info": {
            "name": "python",
            "version": platform.python_version(),
            "mimetype": "text/x-python",
            "codemirror_mode": {"name": "ipython", "version": 3},
            "pygments_lexer": "ipython3",
            "nbconvert_exporter": "python",
            "file_extension": ".py",
        },
    }


def _hash(notebook: Any) -> str:
    """Of the kinds and sources of the cells; of anything at all where it is no notebook."""
    try:
        content = [
            (cell["cell_type"], "".join(cell["source"]), cell.get("attachments"))
            for cell in notebook["cells"]
        ]
    except (AttributeError, KeyError, TypeError):
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
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda beside: beside.write_text(text, encoding="utf-8"))
