"""A lesson as a page: prose, code, outputs, and a place for each widget that `site.js` fills."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape
from markupsafe import Markup
from nbconvert.filters.ansi import ansi2html, strip_ansi
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from widgets.common.predict.spoilers import places
from widgets.common.strings import section
from widgets.site.run import Lesson, model_of

__all__ = ["Cell", "Section", "cells", "look", "marks", "sections", "template"]

CODE = {"light": "xcode", "dark": "monokai"}  # pygments' styles whose every colour can be read
_LINK = re.compile(r'(<a [^>]*href=")(?:\./)?(\d\d_\w+)\.ipynb')
_ANCHOR = re.compile(r'<a class="anchor-link"[^>]*>.*?</a>')
_CODE = HtmlFormatter(nowrap=True)


@dataclass(frozen=True)
class Cell:
    """What the page shows of a cell.

    Attributes:
        name: its id.
        prose: HTML of a markdown cell; empty for code.
        code: highlighted source; empty for prose.
        folded: the source opens on request.
        outputs: HTML of each output.
        mark: its part in a question, as HTML attributes.
    """

    name: str
    prose: Markup
    code: Markup
    folded: bool
    outputs: tuple[Markup, ...]
    mark: Markup


@dataclass(frozen=True)
class Section:
    """What a search finds: a heading, where it is, and the prose below it."""

    anchor: str
    title: str
    text: str


def template(name: str) -> Any:
    """A jinja2 template of this folder, which has the words of the site as `words`."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=select_autoescape(default=True))
    environment.globals["words"] = section("site")
    environment.trim_blocks = environment.lstrip_blocks = True
    return environment.get_template(name)


def cells(lesson: Lesson) -> list[Cell]:
    """The cells of a lesson, in order."""
    pairs = zip(lesson.notebook.cells, marks(lesson.notebook), strict=True)
    return [_cell(cell, lesson, mark) for cell, mark in pairs]


def marks(notebook: NotebookNode) -> list[Markup]:
    """Attributes by which `slides.js` knows each cell: that it asks a question, or has to wait.

    Each cell after a question, and up to its reveal, waits for it; a question waits for none.
    """
    asked, told = places(notebook)
    found = {i: Markup('data-asks="{}"').format(key) for key, i in asked.items()}
    for i in set(range(len(notebook.cells))) - found.keys():
        if gates := [key for key, at in asked.items() if at < i <= told.get(key, at)]:
            found[i] = Markup('data-gates="{}"').format(" ".join(gates))
    return [found.get(i, Markup()) for i in range(len(notebook.cells))]


def look() -> str:
    """CSS of highlighted code, light and dark."""
    styles = [
        HtmlFormatter(style=style).get_style_defs(f':root[data-theme="{theme}"] .site-code')
        for theme, style in CODE.items()
    ]
    return "\n".join(styles)


def _cell(cell: NotebookNode, lesson: Lesson, mark: Markup) -> Cell:
    prose = code = Markup()
    if cell.cell_type == "markdown":
        prose = _prose(cell.source)
    else:
        code = Markup(highlight(cell.source, PythonLexer(), _CODE))
    folded = bool(cell.metadata.get("jupyter", {}).get("source_hidden"))
    outputs = tuple(_output(output, lesson) for output in cell.get("outputs", []))
    return Cell(cell.id, prose, code, folded, outputs, mark)


def _prose(source: str) -> Markup:
    rendered = MarkdownWithMath(renderer=IPythonRenderer(escape=False)).render(source)
    return Markup(_LINK.sub(r"\1\2.html", _ANCHOR.sub("", rendered)))


def _output(output: NotebookNode, lesson: Lesson) -> Markup:
    """A still comes before its live view, which takes its place if there is a record of it."""
    if output.output_type == "stream":
        return Markup(f"<pre>{ansi2html(output.text)}</pre>")
    if model := model_of(output):
        known = model in lesson.records
        return Markup(f'<div class="site-live" data-model="{model}"></div>') if known else Markup()
    data = output.get("data", {})
    if "text/html" in data:
        return Markup(data["text/html"])
    return Markup(f"<pre>{html.escape(strip_ansi(data.get('text/plain', '')))}</pre>")


def sections(lesson: Lesson) -> list[Section]:
    """The prose of a lesson, by its headings."""
    found: list[Section] = []
    for cell in lesson.notebook.cells:
        if cell.cell_type == "markdown":
            parts = re.split(
                r'<h[1-6] id="([^"]*)">(.*?)</h[1-6]>', _prose(cell.source), flags=re.S
            )
            before, *rest = [part if i % 3 == 1 else _words(part) for i, part in enumerate(parts)]
            if found and before:
                last = found.pop()
                found.append(Section(last.anchor, last.title, f"{last.text} {before}"))
            found += [Section(*rest[i : i + 3]) for i in range(0, len(rest), 3)]
    return found


def _words(markup: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", markup)).split())
