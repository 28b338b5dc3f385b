"""Build the site: `python -m widgets.site.build DIR LESSON.ipynb ...`.

The pages need no server: opened from a disk they work too, so each is one file of HTML, and what
it reads are plain scripts beside it.
"""

from __future__ import annotations

import base64
import gzip
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import plotly
from tqdm import tqdm

from widgets.common.controls import STYLE
from widgets.common.drawing.film import Json
from widgets.common.strings import section
from widgets.site.page import cells, look, sections, template
from widgets.site.record import PROGRAMS
from widgets.site.run import Lesson, execute

__all__ = ["build", "main", "write"]

_HERE = Path(__file__).parent


def main(arguments: Sequence[str]) -> int:
    """Execute these notebooks and write their site; returns the exit code."""
    folder, *paths = map(Path, arguments)
    try:
        build(folder, paths)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def build(folder: Path, paths: Sequence[Path]) -> None:
    """Execute lessons and write their site to a new or empty folder, once it is whole beside it.

    Raises:
        ValueError: the folder holds something, or a cell failed.
    """
    folder = folder.resolve()
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ValueError(f"{folder} is not an empty folder: name a new one")
    with tqdm(paths, desc="site", unit="lesson") as bar:
        lessons = [execute(path, bar) for path in bar]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        made = Path(place, "site")
        write(made, lessons)
        folder.mkdir(exist_ok=True)
        for path in made.iterdir():
            path.rename(folder / path.name)


def write(folder: Path, lessons: Sequence[Lesson]) -> None:
    """Write the pages of executed lessons, and all that they read."""
    folder.mkdir()
    titles = [(lesson.name, sections(lesson)[0].title) for lesson in lessons]
    for i, lesson in enumerate(lessons):
        page = template("lesson.html.j2").render(
            name=lesson.name,
            title=titles[i][1],
            cells=cells(lesson),
            before=titles[i - 1] if i else None,
            after=titles[i + 1] if i + 1 < len(titles) else None,
        )
        (folder / f"{lesson.name}.html").write_text(page, encoding="utf-8")
        _script(folder / f"{lesson.name}.js", "records", _packed(lesson.records))
    index = template("index.html.j2").render(lessons=titles)
    (folder / "index.html").write_text(index, encoding="utf-8")
    found = [
        {"page": lesson.name, "anchor": s.anchor, "title": s.title, "text": s.text}
        for lesson in lessons
        for s in sections(lesson)
    ]
    _script(folder / "search.js", "sections", found)
    programs = {name: str(widget._esm) for name, widget in PROGRAMS.items()}
    _script(folder / "programs.js", "programs", programs)
    _script(folder / "words.js", "words", section("site"))
    styles = [STYLE, *dict.fromkeys(str(widget._css) for widget in PROGRAMS.values())]
    own = (_HERE / "site.css").read_text(encoding="utf-8")
    (folder / "site.css").write_text("\n".join([*styles, look(), own]), encoding="utf-8")
    for name in ("slides.js", "site.js"):
        shutil.copy(_HERE / name, folder)
    shutil.copy(Path(plotly.__file__).parent / "package_data" / "plotly.min.js", folder)


def _script(path: Path, name: str, value: Json | list[Json] | str) -> None:
    text = json.dumps(value, ensure_ascii=False).replace("</", "<\\/")
    path.write_text(f"(globalThis.minillm ??= {{}}).{name} = {text};\n", encoding="utf-8")


def _packed(records: dict[str, Json]) -> str:
    """As a page unpacks it by itself, from a disk too: gzip in base64."""
    return base64.b64encode(gzip.compress(json.dumps(records).encode(), mtime=0)).decode()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
