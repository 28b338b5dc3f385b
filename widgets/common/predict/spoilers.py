"""Does a notebook give an answer away before it is predicted?

The static picture of every reveal carries key, answer and unit as attributes. `spoilers` pairs it
with the cell that asks `predict("<key>", ...)` and reads everything above the lock, source and
outputs: a number counts as given away where it is the answer, rounded; a right choice, where an
output above says it. One digit alone proves nothing, so it counts only with its unit.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from html import unescape
from typing import Any
from xml.etree import ElementTree

from widgets.common.still import inlined

__all__ = ["places", "spoilers"]

_NUMBER = re.compile(
    r"(?<![\w.])(?P<number>(?:\d{1,3}(?:,\d{3})++|\d++)(?:\.\d++)?+(?:[eE][+-]?\d+)?)(?!\.\d)"
    r"[\s-]*(?P<word>[^\W\d]+|×)?"
)
_SCALES = {"k": 1e3, "thousand": 1e3, "M": 1e6, "million": 1e6, "G": 1e9, "billion": 1e9, "T": 1e12}
_TIMES = {"x", "×", "times", "fold"}


def spoilers(notebook: Mapping[str, Any]) -> list[str]:
    """What gives an answer away, one line each; also predictions without reveal and vice versa.

    Args:
        notebook: the parsed JSON of an executed .ipynb.
    """
    cells = notebook["cells"]
    asked = {key: i for i, cell in enumerate(cells) for key in _asked(cell)}
    revealed = {r["data-key"]: (i, r) for i, cell in enumerate(cells) for r in _revealed(cell)}
    found = [
        f"{key}: predicted in cell {i}, never revealed"
        for key, i in asked.items()
        if key not in revealed
    ]
    for key, (at, reveal) in revealed.items():
        if key not in asked:
            found.append(f"{key}: revealed in cell {at}, never predicted")
        elif at <= asked[key]:
            found.append(f"{key}: revealed in cell {at}, not below its lock in cell {asked[key]}")
        else:
            found += _given_away(cells, asked[key], key, reveal)
    return found


def places(notebook: Mapping[str, Any]) -> tuple[dict[str, int], dict[str, int]]:
    """By key, which cell of an executed notebook asks each question, and which reveals it."""
    cells = notebook["cells"]
    asked = {key: i for i, cell in enumerate(cells) for key in _asked(cell)}
    return asked, {r["data-key"]: i for i, cell in enumerate(cells) for r in _revealed(cell)}


def _given_away(cells: list[Any], lock: int, key: str, reveal: Mapping[str, str]) -> Iterator[str]:
    above = [(i, name, text) for i, cell in enumerate(cells[:lock]) for name, text in _texts(cell)]
    above += [(lock, "question", text) for text in _questions(cells[lock], key)]
    answer, unit = reveal["data-answer"], reveal["data-unit"]
    is_number = _NUMBER.fullmatch(answer.removeprefix("-"))
    for i, name, text in above:
        if is_number:
            told = _tells(text, answer, unit)
        else:
            told = _tells_choice(text, answer) if name != "source" else ""
        if told:
            yield f"{key}: the {name} of cell {i} tells {told!r}, above the lock in cell {lock}"


def _tells(text: str, answer: str, unit: str) -> str:
    """The first number in `text` that is `answer`, either of them rounded; empty if none is.

    >>> _tells("about 2.1 times", "2.13", "x"), _tells("2 layers", "2.13", "x")
    ('2.1 times', '')
    >>> _tells("in 16 bits", "16.1", "x"), _tells("in 16 bits", "16.1", "bits")
    ('', '16 bits')
    """
    digits, exponent = _parts(answer)
    value, known = float(digits) * 10**exponent, _half(digits) * 10**exponent
    for match in _NUMBER.finditer(text):
        if match["word"] == "bits" != unit:  # the name of a format
            continue
        scale, has_unit = _meaning(match["word"] or "", unit)
        digits, exponent = _parts(match["number"])
        scale *= 10**exponent
        near = abs(float(digits) * scale - value) <= max(_half(digits) * scale, known) * (1 + 1e-9)
        if near and (has_unit or len(digits.replace(".", "").strip("0")) >= 2):
            return match[0].strip()
    return ""


def _parts(number: str) -> tuple[str, float]:
    """Digits without commas, and the exponent."""
    digits, _, exponent = number.replace(",", "").lower().partition("e")
    return digits, float(exponent or 0)


def _half(digits: str) -> float:
    """Half of the last digit: how far a rounded number may be from what it stands for."""
    return 0.5 * 10.0 ** -len(digits.partition(".")[2])


def _meaning(word: str, unit: str) -> tuple[float, bool]:
    """The factor in the word behind a number, and whether the word stands for a quantity at all.

    >>> _meaning("MB", "B"), _meaning("times", "x"), _meaning("layers", "x")
    ((1000000.0, True), (1.0, True), (1.0, False))
    """
    if word in _SCALES:
        return _SCALES[word], True
    if word and (word == unit or {word, unit} <= _TIMES):
        return 1.0, True
    if unit and word[1:] == unit and word[:1] in _SCALES:
        return _SCALES[word[:1]], True
    return 1.0, False


def _tells_choice(text: str, choice: str) -> str:
    return choice if re.search(rf"(?<!\w){re.escape(choice)}(?!\w)", text, re.IGNORECASE) else ""


def _texts(cell: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Source and outputs of a cell as (name, plain text)."""
    yield "source", _joined(cell["source"])
    for output in cell.get("outputs", ()):
        yield "output", _joined(output.get("text", ""))
        for mime, data in output.get("data", {}).items():
            if mime == "text/html":
                markup = r"<style>.*?</style>|<[^>]*>"
                yield "output", unescape(re.sub(markup, " ", inlined(_joined(data)), flags=re.S))
            elif mime.startswith("text/"):
                yield "output", _joined(data)


def _joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)


def _revealed(cell: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    for output in cell.get("outputs", ()):
        still = inlined(_joined(output.get("data", {}).get("text/html", "")))
        if drawing := re.search(r"<svg [^>]*data-key=.*</svg>", still, re.S):
            yield dict(ElementTree.fromstring(drawing[0]).attrib)


def _calls(cell: Mapping[str, Any]) -> Iterator[ast.Call]:
    """The calls of `predict("...", ...)` in a code cell."""
    if cell["cell_type"] != "code" or "predict(" not in _joined(cell["source"]):
        return
    for node in ast.walk(ast.parse(_joined(cell["source"]))):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("predict") and node.args:
            yield node


def _asked(cell: Mapping[str, Any]) -> Iterator[str]:
    for call in _calls(cell):
        if isinstance(call.args[0], ast.Constant):
            yield str(call.args[0].value)


def _questions(cell: Mapping[str, Any], key: str) -> Iterator[str]:
    """The wording of the question itself; its scale and choices have to be there."""
    for call in _calls(cell):
        if isinstance(call.args[0], ast.Constant) and call.args[0].value == key:
            for text in call.args[1:]:
                yield ast.unparse(text)
