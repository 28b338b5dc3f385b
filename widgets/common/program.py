"""What all widgets that run in the browser share: how their programs start, and who they are."""

from pathlib import Path
from uuid import uuid4

import anywidget
import traitlets

__all__ = ["Program", "program"]

_HERE = Path(__file__).parent
_START = "".join((_HERE / name).read_text(encoding="utf-8") for name in ("keys.js", "hear.js"))


def program(path: Path) -> str:
    """A widget's program in JavaScript, for `_esm`. What it begins with takes effect once a page.

    No module of anywidget's can import another, and any of them may be the only one of a page.
    """
    return _START + path.read_text(encoding="utf-8")


class Program(anywidget.AnyWidget):
    """A widget whose program knows by which name the page keeps it, as `hear.js` needs."""

    own_id = traitlets.Unicode().tag(sync=True)

    @traitlets.default("own_id")
    def _new_id(self) -> str:
        return uuid4().hex

    def open(self) -> None:
        self._model_id = self.own_id  # before the page is told of the widget
        super().open()
