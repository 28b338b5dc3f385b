"""The look of the course, defined once: colours, token states with their glyphs, plotly templates.

Python is the only source. The player receives this as generated CSS (`css()`), static pictures
read the same tables, plotly gets `template()`. The palette is Okabe and Ito's, with a darker red
and purple: a test tells what stands together apart under three kinds of colour blindness. Each
state also has a glyph, so colour is never the only sign. Dark tones are chosen, not inverted. Text
on its fill meets WCAG AA (4.5 : 1), which the tests compute.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

import plotly.graph_objects as go

from widgets.common.strings import say

__all__ = [
    "BASELINE",
    "CURVES",
    "DARK",
    "DIVERGING",
    "ICONS",
    "LIGHT",
    "MARKS",
    "SEQUENTIAL",
    "SERIES",
    "STATES",
    "TAGS",
    "Hue",
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
class Hue:
    """The colour of a series in a chart: its line or bar, and its name, which is text."""

    name: str
    light: str
    light_text: str
    dark: str
    dark_text: str


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

# One meaning each: at work now; read from the cache; in sight; right; wrong; taken another time; a
# gift of the target; from an earlier pass; takes no part; done; not there yet.
_STRONG_BLUE = (Tone("#0072b2", "#0072b2", "#ffffff"), Tone("#5cb3f2", "#5cb3f2", "#06141f"))
_PALE_BLUE = (Tone("#cbe5f7", "#9ccbeb", "#08395a"), Tone("#143c57", "#1f587f", "#b7ddf8"))
_MID_BLUE = (Tone("#9ccbeb", "#5aa5d6", "#08395a"), Tone("#1f587f", "#3f86b5", "#e3f3ff"))
_GREEN = (Tone("#d5f0e6", "#009e73", "#0b4a38"), Tone("#0f3a2d", "#35c193", "#c9f2e2"))
_VERMILION = (Tone("#fbe0d2", "#a83800", "#7a2e00"), Tone("#4a2010", "#f0864a", "#ffd9c4"))
_AMBER = (Tone("#fcefcb", "#b87f00", "#5c3f00"), Tone("#40300a", "#e0ad35", "#fae6b4"))
_PURPLE = (Tone("#f4deea", "#85286a", "#6b2450"), Tone("#42193a", "#dc8fbd", "#f7d6e8"))
_LAVENDER = (Tone("#e4e2f7", "#a9a3e3", "#2f2a6b"), Tone("#282458", "#5b54a8", "#d9d6fb"))
_GREY = (Tone("#f0f2f5", "#d5dae0", "#57606a"), Tone("#1c2129", "#2f363f", "#9ba5b0"))
_SOLID_GREY = (Tone("#e9edf1", "#e9edf1", "#343c45"), Tone("#232a33", "#232a33", "#c3cbd4"))
_OPEN = (Tone("#ffffff", "#a3adb8", "#57606a"), Tone("#0e1116", "#56606b", "#9ba5b0"))

STATES: dict[str, TokenState] = {
    state.name: state
    for state in (
        TokenState("computed", "M6 .8 2.2 5.7H5L4 9.2 7.8 4.3H5Z", *_STRONG_BLUE, event=True),
        TokenState("again", "M1.8 3.2h6M6 1.3l2 1.9-2 1.9M8.2 6.8h-6M4 4.9 2 6.8l2 1.9", *_AMBER),
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
        TokenState("kept", "M5 1.2a3.8 3.8 0 1 0 .01 0ZM5 2.9v2.3l1.7 1", *_LAVENDER),
        TokenState("looking", "M1.3 5h6.6M5.2 2.3 7.9 5 5.2 7.7", *_STRONG_BLUE),
        TokenState("visible", "M.8 5Q5 .6 9.2 5 5 9.4.8 5ZM5 4.6v.8", *_MID_BLUE),
        TokenState("held", "M1.8 2.6h6.4v4.8H1.8Z", *_PALE_BLUE),
        TokenState("shared", "M1.4 1.4h4.4v4.4H1.4ZM4.2 4.2h4.4v4.4H4.2Z", *_PURPLE),
        TokenState("remembered", "M2.8 1.4h4.4v7.2L5 6.6 2.8 8.6Z", *_AMBER),
        TokenState("wasted", "M5 1.2a3.8 3.8 0 1 0 .01 0ZM2.4 7.6 7.6 2.4", *_GREY, dashed=True),
        TokenState("masked", "M2.2 7.8 7.8 2.2", *_GREY),
        TokenState("shut", "M2 5.4h6v3.4H2ZM3.4 5.4V3.6a1.6 1.6 0 0 1 3.2 0V5.4", *_GREY),
    )
}

# Of charts: colours tell series apart, in this order, and mean nothing else.
CURVES = (
    Hue("curve-1", "#0072b2", "#0072b2", "#5cb3f2", "#5cb3f2"),
    Hue("curve-2", "#a83800", "#a83800", "#f0864a", "#f0864a"),
    Hue("curve-3", "#009e73", "#00704f", "#35c193", "#35c193"),
    Hue("curve-4", "#85286a", "#85286a", "#dc8fbd", "#dc8fbd"),
    Hue("curve-5", "#b87f00", "#7f5700", "#e0ad35", "#e0ad35"),
)
BASELINE = Hue("curve-0", "#7d8791", LIGHT.muted, "#77828e", DARK.muted)

# What a bar is about, light and dark: one colour for one meaning.
_TARGET = ("#3b3699", "#c3beff")  # the target model: its law, its pass
_DRAFT = ("#8077d8", "#6d66c9")  # the draft model: its law, its steps
_TRICK = ("#006a7a", "#3cc2d2")  # what the lesson adds
_PLAIN = (BASELINE.light, BASELINE.dark)  # what it is compared with
_KEPT = (_GREEN[0].line, _GREEN[1].line)  # as an accepted token
_AGAIN = (_AMBER[0].line, _AMBER[1].line)  # as a resampled token
_REST = ("#4f5963", "#9ba5b0")
_PREFILL = ("#a8466b", "#e58aae")  # serving: a prompt is read
_DECODE = ("#2b6cb0", "#7fb2e8")  # serving: a token is written
_WAITING = ("#8a8f5c", "#8c9160")  # serving: nothing happens for a request

SERIES: dict[str, Series] = {
    series.name: series
    for series in (
        Series("trick", *_TRICK),
        Series("gptq", *_TRICK),
        Series("baseline", *_PLAIN),
        Series("nearest", *_PLAIN),
        Series("draft", *_DRAFT),
        Series("proposal", *_DRAFT),
        Series("verify", *_TARGET),
        Series("target", *_TARGET),
        Series("overlap", *_KEPT),
        Series("residual", *_AGAIN),
        Series("rest", *_REST),
        Series("prefill", *_PREFILL),
        Series("decode", *_DECODE),
        Series("waiting", *_WAITING),
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

# Where a number comes from, 10 x 10 like the glyphs of states: a length, a sum, quotation marks,
# a disc.
TAGS = {
    "measured": "M1.2 2.2v5.6M8.8 2.2v5.6M1.2 5h7.6",
    "computed": "M7.8 2.6V1.4H2.2L5.4 5 2.2 8.6h5.6V7.4",
    "recorded": "M8.8 5A3.8 3.8 0 1 1 1.2 5 3.8 3.8 0 1 1 8.8 5M6 5A1 1 0 1 1 4 5 1 1 0 1 1 6 5",
    "cited": "M3.9 2.4Q1.5 3 1.5 5.4v2H4V5H1.7M8.7 2.4Q6.3 3 6.3 5.4v2h2.5V5H6.5",
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


_TAG = """.minillm .tag { white-space: nowrap; }
.minillm .tag::before {
  content: "";
  display: inline-block;
  width: .85em;
  height: .85em;
  margin-right: .3em;
  background: currentColor;
  mask: no-repeat center / contain;
  vertical-align: -.05em;
  print-color-adjust: exact;
}"""


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
    rules += [
        f'.minillm [data-tag="{name}"]::before {{ mask-image: var(--tag-{name}); }}'
        for name in TAGS
    ]
    return "\n".join([_TAG, *rules, *_chart_rules()]) + "\n"


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
    for hue in (BASELINE, *CURVES):
        values[hue.name] = hue.dark if dark else hue.light
        values[f"{hue.name}-text"] = hue.dark_text if dark else hue.light_text
    values |= {f"mark-{name}": _icon(path, "black") for name, path in MARKS.items()}
    values |= {f"tag-{name}": _icon(path, "black") for name, path in TAGS.items()}
    values["arrow"] = _icon("M2 3.5 5 6.5 8 3.5", surface.muted)  # of a list to choose from
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


def template() -> go.layout.Template:
    """The plotly template of the course: quiet grid, ticks in words, names at the lines.

    Its colours are those of a light page, which `_chart_rules` turns into the page's.
    """
    axis = {
        "gridcolor": LIGHT.line,
        "zeroline": False,
        "showline": False,
        "ticks": "",
        "ticklabelstandoff": 6,
        "tickfont": {"color": LIGHT.muted, "size": 12},
        "hoverformat": ",.4~r",
    }
    name = {"font": {"color": LIGHT.muted, "size": 13}, "standoff": 12}
    return go.layout.Template(
        layout={
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "autosize": True,
            "height": 360,  # as its widget is drawn
            "bargap": 0.2,
            "font": {"color": LIGHT.text, "family": "system-ui, sans-serif", "size": 13},
            "title": {
                "font": {"size": 18, "weight": 650},
                "x": 0,
                "xref": "container",
                "y": 1,
                "yanchor": "top",
                "pad": {"l": 4, "t": 16},
            },
            "xaxis": axis | {"title": name, "showgrid": False},
            "yaxis": axis,
            "legend": {
                "orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom",
                "font": {"color": LIGHT.muted, "size": 12}, "itemclick": False,
                "itemdoubleclick": False,
            },
            "showlegend": False,
            "hoverlabel": {
                "bgcolor": LIGHT.soft,
                "bordercolor": LIGHT.line,
                "font": {"color": LIGHT.text},
            },
        }
    )  # fmt: skip


def _chart_rules() -> list[str]:
    """Plotly writes colours into its elements: each of a light page becomes that of the page."""
    painted = {LIGHT.text: "text", LIGHT.muted: "muted", LIGHT.line: "line", LIGHT.soft: "soft"}
    for hue in (BASELINE, *CURVES):
        painted.setdefault(hue.light_text, f"{hue.name}-text")
        painted[hue.light] = hue.name
    return [
        f'.minillm .js-plotly-plot [style*="{part}: {_rgb(colour)}"] '
        f"{{ {part}: var(--{name}) !important; }}"
        for colour, name in painted.items()
        for part in ("stroke", "fill")
    ]


def _rgb(colour: str) -> str:
    """As browsers write it."""
    return f"rgb({', '.join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))})"
