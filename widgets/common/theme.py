"""The look of the course, defined once: colours, token states with their glyphs, plotly templates.

Python is the only source. The player receives this as generated CSS (`css()`), static pictures
read the same tables, plotly gets `template(dark)`. The palette is Okabe and Ito's, which stays
apart under the common kinds of colour blindness; each state also has a glyph, so colour is never
the only sign. Dark tones are chosen, not inverted. Text on its fill meets WCAG AA (4.5 : 1),
which the tests compute.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

import plotly.graph_objects as go

from widgets.common.strings import say

__all__ = [
    "DARK",
    "DIVERGING",
    "ICONS",
    "LIGHT",
    "MARKS",
    "SEQUENTIAL",
    "SERIES",
    "STATES",
    "Series",
    "Surface",
    "TokenState",
    "Tone",
    "contrast",
    "css",
    "template",
]


@dataclass(frozen=True)
class Tone:
    """Colours of one cell: its fill, its border and the ink of text and glyph on the fill."""

    fill: str
    line: str
    ink: str


@dataclass(frozen=True)
class TokenState:
    """What a token or slot is at one step.

    `glyph` is the path of a 10 x 10 stroked icon. `event` says that something happens to the
    cell in this state (it is written), in contrast to a state in which it merely rests.
    """

    name: str
    glyph: str
    light: Tone
    dark: Tone
    event: bool = False
    dashed: bool = False
    struck: bool = False

    @property
    def label(self) -> str:
        return say(f"state.{self.name}")

    def tone(self, dark: bool) -> Tone:
        return self.dark if dark else self.light


@dataclass(frozen=True)
class Series:
    """A quantity drawn as a bar: a distribution, or time spent on something."""

    name: str
    light: str
    dark: str

    @property
    def label(self) -> str:
        return say(f"series.{self.name}")

    def colour(self, dark: bool) -> str:
        return self.dark if dark else self.light


@dataclass(frozen=True)
class Surface:
    """Everything that is neither a cell nor a bar."""

    page: str
    soft: str
    line: str
    text: str
    muted: str
    accent: str
    on_accent: str


LIGHT = Surface("#ffffff", "#f5f7f9", "#d8dee4", "#1b1f24", "#57606a", "#0072b2", "#ffffff")
DARK = Surface("#0e1116", "#181d24", "#30373f", "#e8ebef", "#9ba5b0", "#5cb3f2", "#06141f")

_STRONG_BLUE = (Tone("#0072b2", "#0072b2", "#ffffff"), Tone("#5cb3f2", "#5cb3f2", "#06141f"))
_PALE_BLUE = (Tone("#cbe5f7", "#9ccbeb", "#08395a"), Tone("#143c57", "#1f587f", "#b7ddf8"))
_MID_BLUE = (Tone("#9ccbeb", "#5aa5d6", "#08395a"), Tone("#1f587f", "#3f86b5", "#e3f3ff"))
_GREEN = (Tone("#d5f0e6", "#009e73", "#0b4a38"), Tone("#0f3a2d", "#35c193", "#c9f2e2"))
_VERMILION = (Tone("#fbe0d2", "#d55e00", "#7a2e00"), Tone("#4a2010", "#f0864a", "#ffd9c4"))
_AMBER = (Tone("#fcefcb", "#b87f00", "#5c3f00"), Tone("#40300a", "#e0ad35", "#fae6b4"))
_PURPLE = (Tone("#f4deea", "#b0528a", "#6b2450"), Tone("#42193a", "#dc8fbd", "#f7d6e8"))
_GREY = (Tone("#f0f2f5", "#d5dae0", "#57606a"), Tone("#1c2129", "#2f363f", "#9ba5b0"))
_SOLID_GREY = (Tone("#e9edf1", "#e9edf1", "#343c45"), Tone("#232a33", "#232a33", "#c3cbd4"))
_OPEN = (Tone("#ffffff", "#a3adb8", "#57606a"), Tone("#0e1116", "#56606b", "#9ba5b0"))

STATES: dict[str, TokenState] = {
    state.name: state
    for state in (
        TokenState("computed", "M6 .8 2.2 5.7H5L4 9.2 7.8 4.3H5Z", *_STRONG_BLUE, event=True),
        TokenState("read", "M1.5 2.3h7M1.5 5h7M1.5 7.7h7", *_PALE_BLUE),
        TokenState("free", "M5 4.4a.6.6 0 1 0 .01 0Z", *_OPEN, dashed=True),
        TokenState("accepted", "M1.3 5.4 3.9 8 8.7 2.2", *_GREEN, event=True),
        TokenState("rejected", "M2 2 8 8M8 2 2 8", *_VERMILION, event=True, struck=True),
        TokenState(
            "resampled", "M8.4 5.2A3.4 3.4 0 1 1 7.2 2.5M7.5.4V2.8H5.1", *_AMBER, event=True
        ),
        TokenState("bonus", "M5 1.2v7.6M1.2 5h7.6", *_PURPLE, event=True),
        TokenState("unchecked", "M2 5h6", *_GREY),
        TokenState("guess", "M3 3.2a2 2 0 1 1 2.9 1.8Q5 5.5 5 6.5M5 8.7v.1", *_OPEN, dashed=True),
        TokenState("early", "M1.2 4q1.9-2 3.8 0t3.8 0M1.2 7q1.9-2 3.8 0t3.8 0", *_AMBER),
        TokenState("settling", "M5 .8v5.4M2.6 4 5 6.4 7.4 4M1.8 9.1h6.4", *_GREEN, event=True),
        TokenState("settled", "M1.8 3.6h6.4M1.8 6.4h6.4", *_SOLID_GREY),
        TokenState("kept", "M5 1.2a3.8 3.8 0 1 0 .01 0ZM5 2.9v2.3l1.7 1", *_PALE_BLUE),
        TokenState("looking", "M1.3 5h6.6M5.2 2.3 7.9 5 5.2 7.7", *_STRONG_BLUE),
        TokenState("visible", "M.8 5Q5 .6 9.2 5 5 9.4.8 5ZM5 4.6v.8", *_MID_BLUE),
        TokenState("wasted", "M5 1.2a3.8 3.8 0 1 0 .01 0ZM2.4 7.6 7.6 2.4", *_GREY, dashed=True),
        TokenState("masked", "M2.2 7.8 7.8 2.2", *_GREY),
    )
}

SERIES: dict[str, Series] = {
    series.name: series
    for series in (
        Series("trick", "#0072b2", "#5cb3f2"),
        Series("baseline", "#b3bbc4", "#5a646f"),
        Series("draft", "#8cc4ea", "#2a6591"),
        Series("verify", "#0072b2", "#5cb3f2"),
        Series("rest", "#d55e00", "#f0864a"),
        Series("target", "#0072b2", "#5cb3f2"),
        Series("proposal", "#8cc4ea", "#2a6591"),
        Series("overlap", "#009e73", "#35c193"),
        Series("residual", "#d99a00", "#e0ad35"),
        Series("nearest", "#b3bbc4", "#5a646f"),
        Series("gptq", "#0072b2", "#5cb3f2"),
    )
}

# Colour scales of heat maps, low to high. Diverging ones have zero in the middle.
SEQUENTIAL = {
    False: ("#f5f7f9", "#bcdcf2", "#56a7dc", "#0072b2", "#06304d"),
    True: ("#181d24", "#123a56", "#1f6ea6", "#5cb3f2", "#dff1ff"),
}
DIVERGING = {
    False: ("#a34300", "#f0a878", "#f7f7f7", "#7fbde6", "#005a8f"),
    True: ("#ff9a5c", "#7a3a16", "#181d24", "#1d557d", "#74c0f7"),
}

# Marks that stand for white space inside a token, 10 x 10 like the glyphs of the states.
MARKS = {
    "newline": "M8.6 1.6V5.6H1.6M4 3.2 1.6 5.6 4 8",
    "tab": "M1 5h6.4M5 2.6 7.4 5 5 7.4M9 2v6",
    "space": "M1.2 5.4v2.6h7.6V5.4",
}

# Buttons of the player, 16 x 16; those that step are named after their key.
ICONS = {
    "Home": "M4 3v10M13 3 6.5 8 13 13Z",
    "ArrowLeft": "M11.5 3 5 8 11.5 13Z",
    "play": "M5 3 12.5 8 5 13Z",
    "pause": "M5 3v10M11 3v10",
    "ArrowRight": "M4.5 3 11 8 4.5 13Z",
    "End": "M12 3v10M3 3 9.5 8 3 13Z",
    "loop": "M3 8V6.5Q3 4.5 5 4.5H13M11 2.5l2 2-2 2M13 8V9.5Q13 11.5 11 11.5H3M5 9.5l-2 2 2 2",
    "large": "M1.5 13 5 4.5 8.5 13M2.8 10H7.2M12.5 4v5M10 6.5h5",
}


def contrast(one: str, other: str) -> float:
    """WCAG contrast ratio of two `#rrggbb` colours, between 1 and 21.

    >>> round(contrast("#ffffff", "#000000"))
    21
    """

    def luminance(colour: str) -> float:
        channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        linear = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def css() -> str:
    """The style sheet of everything above, under the class `minillm`.

    Light is the default. Dark applies where JupyterLab, Notebook, Voila or VS Code say so on
    `<body>`, and where none of them does, when the reader's system prefers it.
    """
    hosts = "body:not([data-jp-theme-light]):not([data-vscode-theme-kind])"
    dark = (
        'body[data-jp-theme-light="false"] .minillm,\n'
        'body[data-vscode-theme-kind*="dark"] .minillm,\n'
        'body[data-vscode-theme-kind="vscode-high-contrast"] .minillm'
    )
    rules = [
        f".minillm {{\n{_variables(False)}\n}}",
        f"{dark} {{\n{_variables(True)}\n}}",
        f"@media (prefers-color-scheme: dark) {{\n{hosts} .minillm {{\n{_variables(True)}\n}}\n}}",
    ]
    rules += [_state_rule(state) for state in STATES.values()]
    rules += [
        f'.minillm [data-series="{name}"] {{ background-color: var(--{name}); }}' for name in SERIES
    ]
    rules += [
        f'.minillm [data-mark="{name}"] {{ mask-image: var(--mark-{name}); }}' for name in MARKS
    ]
    return "\n".join(rules) + "\n"


def _variables(dark: bool) -> str:
    surface = DARK if dark else LIGHT
    values = {
        "page": f"var(--jp-layout-color0, {surface.page})",
        "soft": surface.soft,
        "line": surface.line,
        "text": surface.text,
        "muted": surface.muted,
        "accent": surface.accent,
        "on-accent": surface.on_accent,
        "sequential": ", ".join(SEQUENTIAL[dark]),
        "diverging": ", ".join(DIVERGING[dark]),
    }
    for state in STATES.values():
        tone = state.tone(dark)
        values |= {
            f"{state.name}-fill": tone.fill,
            f"{state.name}-line": tone.line,
            f"{state.name}-ink": tone.ink,
            f"{state.name}-glyph": _icon(state.glyph, tone.ink),
        }
    values |= {name: series.colour(dark) for name, series in SERIES.items()}
    values |= {f"mark-{name}": _icon(path, "black") for name, path in MARKS.items()}
    return "\n".join(f"  --{name}: {value};" for name, value in values.items())


def _state_rule(state: TokenState) -> str:
    n = state.name
    extra = " border-style: dashed;" if state.dashed else ""
    extra += " text-decoration: line-through;" if state.struck else ""
    return (
        f'.minillm [data-state="{n}"] {{ background-color: var(--{n}-fill); '
        f"border-color: var(--{n}-line); color: var(--{n}-ink); "
        f"background-image: var(--{n}-glyph);{extra} }}"
    )


def _icon(path: str, colour: str) -> str:
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10" fill="none" '
        f'stroke="{colour}" stroke-width="1.5" stroke-linecap="round" '
        f'stroke-linejoin="round"><path d="{path}"/></svg>'
    )
    return f'url("data:image/svg+xml,{quote(svg, safe=" =/:")}")'.replace("%22", "'")


def template(dark: bool) -> go.layout.Template:
    """The plotly template of the course: quiet grid, one accent first, tabular ticks."""
    surface = DARK if dark else LIGHT
    axis = {
        "gridcolor": surface.line,
        "linecolor": surface.line,
        "zerolinecolor": surface.line,
        "ticks": "outside",
        "tickcolor": surface.line,
        "title": {"font": {"color": surface.muted}},
        "tickfont": {"color": surface.muted},
        "automargin": True,
    }
    states = ("computed", "rejected", "accepted", "bonus", "resampled")
    lines = [STATES[name].tone(dark).line for name in states]
    scale = SEQUENTIAL[dark]
    steps = [[i / (len(scale) - 1), colour] for i, colour in enumerate(scale)]
    return go.layout.Template(
        layout={
            "paper_bgcolor": surface.page,
            "plot_bgcolor": surface.page,
            "font": {"color": surface.text, "family": "system-ui, sans-serif", "size": 14},
            "title": {"font": {"size": 18}, "x": 0, "xref": "container", "pad": {"l": 16}},
            "colorway": [*lines, SERIES["baseline"].colour(dark)],
            "colorscale": {"sequential": steps},
            "xaxis": axis,
            "yaxis": axis,
            "legend": {"orientation": "h", "y": 1.08, "x": 0, "font": {"color": surface.muted}},
            "hoverlabel": {
                "bgcolor": surface.soft,
                "bordercolor": surface.line,
                "font": {"color": surface.text},
            },
            "margin": {"l": 56, "r": 16, "t": 56, "b": 48},
        }
    )
