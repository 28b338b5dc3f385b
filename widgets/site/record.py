"""What a page without a kernel needs of a widget, as JSON: taken in the kernel, after the lesson.

A player needs its film, a chart its figure, a question its scale, and a reveal what it would say to
each answer. An explorer is recorded once for each option of each control, the others as they
are: one control at a time then works without a kernel.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import ipywidgets
import plotly.graph_objects as go

from widgets.common.card import Card
from widgets.common.controls import Explorer, Prompt
from widgets.common.drawing.film import Json
from widgets.common.named_model import ModelBox
from widgets.common.player.step_player import StepPlayer
from widgets.common.predict.control import Predict, Reveal
from widgets.common.predict.question import Answer
from widgets.common.strings import say

__all__ = ["PROGRAMS", "record", "recorded"]

PROGRAMS: dict[str, Any] = {"player": StepPlayer, "predict": Predict, "card": Card}
MOST = 6  # options of a control that are recorded


def record(models: Sequence[str], path: str) -> None:
    """Write what is known of the widgets with these ids, by id, as gzipped JSON."""
    widgets = {model: ipywidgets.widgets.widget._instances[model] for model in models}
    records = {model: recorded(widget) for model, widget in widgets.items()}
    Path(path).write_bytes(gzip.compress(json.dumps(records).encode()))


def recorded(widget: ipywidgets.Widget) -> Json | None:
    """A widget as `site.js` draws it; None for one that is nothing without a kernel."""
    match widget:
        case StepPlayer():
            return _program("player", widget, "film", "step", "rate", "loop")
        case Predict():
            shown = _program("predict", widget, "ask", "said", "locked", "counts")
            return {**shown, "question": widget.question.key}
        case Reveal():
            shown = _program("card", widget, "html", "spoken")
            return {**shown, "answers": widget.question.key, "replies": _replies(widget)}
        case Card():
            return _program("card", widget, "html", "spoken")
        case go.FigureWidget():
            return {"figure": json.loads(str(go.Figure(widget).to_json()))}
        case Explorer():
            return _explorer(widget)
        case _:
            return None


def _program(name: str, widget: Any, *traits: str) -> Json:
    state = widget.get_state(traits)
    return {"program": name, "traits": {trait: state[trait] for trait in traits}}


def _replies(card: Reveal) -> list[Json]:
    """What the card says to each answer that a control offers."""
    offered: list[Answer] = [*card.question.choices, *card.question.stops()]
    said = [(answer, card.reply(answer)) for answer in offered]
    return [{"said": answer, "html": html, "spoken": text} for answer, (html, text) in said]


def _explorer(explorer: Explorer) -> Json:
    controls = [_options(control) for control in explorer.controls.values()]
    states = {"": _state(explorer)}
    for c, (control, (_, options)) in enumerate(
        zip(explorer.controls.values(), controls, strict=True)
    ):
        first = control.value
        for i, (_, value) in enumerate(options):
            if value != first:
                control.value = value
                states[f"{c}.{i}"] = _state(explorer)
        if control.value != first:
            control.value = first
    return {
        "classes": list(explorer._dom_classes),
        "controls": [
            {
                "name": name,
                "options": [label for label, _ in options],
                "first": next(
                    (i for i, (_, value) in enumerate(options) if value == control.value), -1
                ),
            }
            for control, (name, options) in zip(explorer.controls.values(), controls, strict=True)
        ],
        "states": states,
    }


def _state(explorer: Explorer) -> Json:
    *_, view, readout = explorer.children
    return {"view": recorded(view), "readout": readout.text}


def _options(control: Any) -> tuple[str, list[tuple[str, Any]]]:
    """A control's name, and those of its values that are recorded, each with its label."""
    match control:
        case Prompt():
            texts = [control.value, *control._examples]
            options = [(shorten(text, 60, placeholder="…"), text) for text in dict.fromkeys(texts)]
            return say("prompt.text"), _spread(options, control.value)
        case ModelBox():
            return control.label, []  # no kernel loads one
        case ipywidgets.IntSlider():
            values = range(control.min, control.max + 1, control.step)
            return control.description, _spread([(f"{n:,}", n) for n in values], control.value)
        case ipywidgets.Checkbox() | ipywidgets.ToggleButton():
            return control.description, [(say("site.off"), False), (say("site.on"), True)]
        case _ if hasattr(control, "_options_full"):
            return control.description, _spread(list(control._options_full), control.value)
        case _:
            return control.description, []


def _spread(options: list[tuple[str, Any]], first: Any) -> list[tuple[str, Any]]:
    """At most `MOST` of them, from end to end, and the first value in any case."""
    last, most = len(options) - 1, min(MOST, len(options))
    kept = {round(i * last / max(most - 1, 1)) for i in range(most)}
    return [o for i, o in enumerate(options) if i in kept or o[1] == first]
