"""Where each number in a lesson's prose comes from; `unsourced` finds those that come from nowhere.

A number is *shown* where a cell of the lesson prints or holds it, so that one which has drifted is
found; *cited* where its paragraph, row or item has a link; *given* where the text poses it, in an
exercise, a question or a sum done by hand, or as a year, a lesson, a section. Digits that stand
alone are words ("two copies") and need none. Prose is markdown without code and formulas.
"""

import re
from collections.abc import Iterator

from nbformat import NotebookNode

from widgets.notebooks.file import readable

__all__ = ["unsourced"]

_NOT_PROSE = re.compile(r"```.*?```|`[^`\n]*`|\$[^$]*\$|(?<=\])\([^)]*\)|<[^>]*>", re.S)
_NUMBER = re.compile(r"(?<![\w.,])\d[\d,]*(?:\.\d+)?(?![\w])")
_PASSAGE = re.compile(r"\n\s*\n|\n(?=\s*(?:\||[-*] |\d+\. ))")  # paragraphs, rows, items
_NAMED = re.compile(r"(?:lessons?|sections?|chapters?|tables?|figures?|pages?|and|to) $", re.I)
_YEAR = re.compile(r"(?:19|20)\d\d")
_GIVEN = re.compile(r"\*\*(?:\d\d\.\d|Quiz)|[Bb]y hand|^\*\d+ minutes\.")
_LINK = re.compile(r"\]\(|https?://|arXiv")


def unsourced(notebook: NotebookNode) -> list[str]:
    """The numbers of the prose that no cell shows and no source covers, each in its words."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    texts = [text for cell in code for text in (cell.source, *readable(cell.outputs))]
    shown = {_plain(number) for text in texts for number in re.findall(r"\d[\d,_]*\.?\d*", text)}
    return [
        words
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        for number, words in _numbers(cell.source)
        if _plain(number) not in shown
    ]


def _numbers(markdown: str) -> Iterator[tuple[str, str]]:
    """The numbers of a cell that have to be shown, with the words around them."""
    given = bool(_GIVEN.search(markdown))
    for passage in _PASSAGE.split(markdown):
        if given or _LINK.search(passage):
            continue
        prose = _NOT_PROSE.sub(" ", passage)
        for found in _NUMBER.finditer(prose):
            number, before = found[0].rstrip(","), prose[: found.start()]
            if len(number) > 1 and not (_NAMED.search(before) or _YEAR.fullmatch(number)):
                yield number, prose[max(0, found.start() - 30) : found.end() + 15].strip()


def _plain(number: str) -> str:
    """Without what separates thousands, and without zeros that say nothing.

    >>> _plain("2,048"), _plain("1.50"), _plain("10")
    ('2048', '1.5', '10')
    """
    digits = number.replace(",", "").replace("_", "").rstrip(".")
    return digits.rstrip("0").rstrip(".") if "." in digits else digits
