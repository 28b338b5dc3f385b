"""The source view: the library's own code in the lesson, not a copy of it.

`source(decode_cached, highlight=["cache.truncate"])` shows what `inspect` finds, folded away or
open, highlighted, its key lines marked. A key line that is not found is an error, so a lesson
cannot point at code that has gone. The notebook stores the plain source, which nbval compares: a
lesson whose code has changed since it was executed fails its test.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from pygments import highlight as pygmentize
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from widgets.common.card import Card
from widgets.common.stable import verbatim
from widgets.common.strings import say

__all__ = ["MOST", "Listing", "listing", "source"]

MOST = 50  # lines that a reader, and a projected slide, can take

Code = Any  # whatever inspect.getsource reads: a function, a method or a class


@dataclass(frozen=True)
class Listing:
    """Source lines of `name` in `file`, from line `start` on; `keys` are indices of key lines."""

    name: str
    file: str
    start: int
    lines: tuple[str, ...]
    keys: frozenset[int]

    @property
    def heading(self) -> str:
        return say("source.heading", name=self.name, file=self.file)

    def text(self) -> str:
        """The heading and the key lines."""
        return verbatim("\n".join([self.heading, *(self.lines[i] for i in sorted(self.keys))]))

    def html(self, folded: bool = False) -> str:
        """Highlighted, numbered, with its key lines marked."""
        code = pygmentize("\n".join(self.lines), PythonLexer(stripnl=False), _FORMATTER)
        lines = "".join(
            f'<span class="card-line{" card-key" if i in self.keys else ""}" '
            f'data-line="{self.start + i}">{_spoken_key(i in self.keys)}{line or " "}</span>'
            for i, line in enumerate(code.rstrip("\n").split("\n"))
        )
        size = say("source.lines", count=len(self.lines))
        return (
            f"<details{'' if folded else ' open'}><summary><b>{escape(self.name)}</b> "
            f'<span class="card-file">{escape(self.file)}, {size}</span></summary>'
            f'<pre class="card-code" tabindex="0" '
            f'aria-label="{escape(self.heading)}"><code>{lines}</code></pre></details>'
        )

    def plain(self) -> str:
        """For where no style sheet is: GitHub, nbviewer, a notebook that is not trusted."""
        code = escape(verbatim("\n".join(self.lines)))
        heading = escape(self.heading)
        return f"<details><summary>{heading}</summary><pre><code>{code}</code></pre></details>"


def _spoken_key(key: bool) -> str:
    return f'<span class="card-spoken">{escape(say("source.key"))}: </span>' if key else ""


_FORMATTER = HtmlFormatter(nowrap=True)


def listing(code: Code, highlight: Sequence[str] = ()) -> Listing:
    """Read the source of a function, a method or a class.

    Args:
        code: what to show.
        highlight: texts; each line that contains one is a key line.

    Raises:
        ValueError: more than `MOST` lines, or a text that no line contains.
        TypeError: `code` has no Python source.
    """
    code = inspect.unwrap(code)
    found, start = inspect.getsourcelines(code)
    lines = inspect.cleandoc("\n" + "".join(found)).split("\n")
    if len(lines) > MOST:
        raise ValueError(f"{code.__qualname__} has {len(lines)} lines, at most {MOST} are shown")
    for text in highlight:
        if not any(text in line for line in lines):
            raise ValueError(f"{code.__qualname__} has no line that contains {text!r}")
    keys = frozenset(i for i, line in enumerate(lines) if any(text in line for text in highlight))
    return Listing(code.__qualname__, _file(code), start, tuple(lines), keys)


def _file(code: Code) -> str:
    """The file as one would look for it: from the package on, with forward slashes."""
    path = Path(inspect.getsourcefile(code) or "?")
    package = code.__module__.split(".")[0]
    parts = path.parts
    if package not in parts:
        return path.name
    return "/".join(parts[len(parts) - 1 - parts[::-1].index(package) :])


class SourceView(Card):
    """A card whose static form is the plain source."""

    def __init__(self, shown: Listing, folded: bool) -> None:
        super().__init__(shown.html(folded), picture="", summary=shown.text())
        self._plain = shown.plain()

    def still(self) -> str:
        return self._plain


def source(code: Code, highlight: Sequence[str] = (), *, folded: bool = False) -> SourceView:
    """Show the source of a library function; see `listing` for arguments and errors."""
    return SourceView(listing(code, highlight), folded)
