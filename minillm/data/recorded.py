"""Experiments too long for a lesson: JSON in the package, with the command that made it."""

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from minillm.files import read_json, write_whole

__all__ = ["read", "refuse_loss", "versions", "write"]

_DATA = Path(__file__).parent


def read(name: str) -> dict[str, Any]:
    """The record that the package holds of an experiment.

    Raises:
        FileNotFoundError: there is none.
    """
    return read_json(_DATA / f"{name}.json")


def refuse_loss(out: Path) -> None:
    """See before hours of work that its result has a place.

    Raises:
        FileNotFoundError: no folder for the file.
        PermissionError: the folder cannot be written to.
        ValueError: the file is there.
    """
    if out.exists():
        raise ValueError(f"{out} is there already: choose another name")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"no folder {out.parent}")
    if not os.access(out.parent, os.W_OK):
        raise PermissionError(f"cannot write to {out.parent}")


def write(out: Path, record: dict[str, Any]) -> None:
    """Write a record as JSON, whole or not at all; each of its points on a line of its own."""
    points = ",\n".join(f"  {json.dumps(point)}" for point in record["points"])
    head = json.dumps(record | {"points": []}, indent=1)
    text = head.replace('"points": []', f'"points": [\n{points}\n ]') + "\n"
    write_whole(out, lambda path: path.write_text(text, encoding="utf-8"))


def versions() -> dict[str, str]:
    """Of what an experiment's numbers depend on."""
    names = ("minillm", "torch", "tokenizers")
    return {"python": platform.python_version(), **{name: _version(name) for name in names}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
