"""The step player: one anywidget component that plays a `Film` in the browser.

Python sends all frames at once; playing, stepping, scrubbing and hovering then need no kernel.
`step` is shared both ways, so that it survives a page reload and Python can observe it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import traitlets

from widgets.common.drawing.film import Film, Json
from widgets.common.drawing.svg import picture, summary
from widgets.common.program import Program, program
from widgets.common.still import Pictured
from widgets.common.strings import section
from widgets.common.theme import ICONS, SERIES, STATES, css

__all__ = ["StepPlayer"]

_HERE = Path(__file__).parent


def _wire(film: Film, _widget: Any = None) -> Json:
    """The film and the words it needs: all that the browser gets."""
    return {
        **film.to_json(),
        "words": section("player"),
        "tags": section("tag"),
        "labels": section("state") | section("series"),
        "icons": ICONS,
        "events": [name for name, state in STATES.items() if state.event],
        "series": list(SERIES),
    }


class StepPlayer(Pictured, Program):
    """Plays `film`; `step` is the frame shown, from 0. Another film starts where it says.

    `rate` (steps per second) and `loop` are the reader's choices. All sizes follow JupyterLab's
    font size, so that its presentation mode is the size for a lecture hall.
    """

    _esm = program(_HERE / "player.js")
    _css = (_HERE / "player.css").read_text(encoding="utf-8") + css()

    film = traitlets.Instance(Film).tag(sync=True, to_json=_wire)
    step = traitlets.Int(0).tag(sync=True)
    rate = traitlets.Int(2).tag(sync=True)
    loop = traitlets.Bool(False).tag(sync=True)

    def __init__(self, film: Film, **traits: Any) -> None:
        super().__init__(film=film, **{"step": film.opening, **traits})

    @traitlets.validate("step")
    def _in_range(self, proposal: Any) -> int:
        step = int(proposal["value"])
        last = max(self.film.steps - 1, 0)
        if not 0 <= step <= last:
            raise ValueError(f"step {step}: this film has steps 0 to {last}")
        return step

    @traitlets.observe("film")
    def _rewind(self, change: Any) -> None:
        if isinstance(change["old"], Film):
            self.step = self.film.opening

    def picture(self) -> str:
        return picture(self.film, self.step)

    def summary(self) -> str:
        return summary(self.film, self.step)
