"""What the commands ask of a name of a file or a folder."""

import argparse
from pathlib import Path

__all__ = ["named_path"]


def named_path(text: str) -> Path:
    """The type of an option that names a file or a folder; no name is not the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("the name of a file or folder is needed, got ''")
    return Path(text)
