"""Keys stay in the widget in which they are pressed: the start of every widget's program."""

from pathlib import Path

__all__ = ["program"]

_KEYS = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")


def program(path: Path) -> str:
    """A widget's program in JavaScript, for `_esm`. What it begins with takes effect once a page.

    No module of anywidget's can import another, and any of them may be the only one of a page.
    """
    return _KEYS + path.read_text(encoding="utf-8")
