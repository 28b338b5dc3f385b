"""Colours stand out from the page, and from each other under three kinds of colour blindness.

Sources: WCAG 2.2, 1.4.3 and 1.4.11 (contrast); Machado, Oliveira and Fernandes, A Physiologically-
based Model for Simulation of Color Vision Deficiency, 2009, table 1 at severity 1.0; CIE 1976.
"""

from itertools import combinations
from math import dist

import pytest

from widgets.common.theme import BASELINE, CURVES, DARK, LIGHT, SERIES, STATES, TAGS, contrast

SEEN = {
    "normal": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}
LEAST = 9.0  # CIELAB difference; 2.3 can just be noticed
SIDE_BY_SIDE = (
    ("draft", "verify", "rest", "baseline"),
    ("target", "proposal", "overlap", "residual"),
    ("trick", "baseline"),
    ("gptq", "nearest"),
    ("prefill", "decode", "waiting"),
)


def linear(colour: str) -> list[float]:
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]


def times(matrix: tuple[tuple[float, ...], ...], vector: list[float]) -> list[float]:
    return [sum(m * v for m, v in zip(row, vector, strict=True)) for row in matrix]


XYZ = (  # of linear sRGB, D65, over the white point
    (0.4124564 / 0.95047, 0.3575761 / 0.95047, 0.1804375 / 0.95047),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339 / 1.08883, 0.1191920 / 1.08883, 0.9503041 / 1.08883),
)


def lab(colour: str, kind: str) -> tuple[float, float, float]:
    """In CIELAB, as somebody with this kind of vision sees it."""
    seen = [min(1.0, max(0.0, c)) for c in times(SEEN[kind], linear(colour))]
    x, y, z = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in times(XYZ, seen))
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def closest(colours: list[str]) -> tuple[float, str, str, str]:
    return min(
        (dist(lab(a, kind), lab(b, kind)), kind, a, b)
        for a, b in combinations(colours, 2)
        for kind in SEEN
    )


def groups(dark: bool) -> list[list[str]]:
    """Colours that are seen together."""
    states = ("computed", "accepted", "rejected", "resampled", "bonus")
    return [
        [hue.dark if dark else hue.light for hue in (BASELINE, *CURVES)],
        [STATES[name].tone(dark).line for name in states],
        *([SERIES[name].colour(dark) for name in names] for names in SIDE_BY_SIDE),
    ]


@pytest.mark.parametrize("dark", [False, True])
def test_colours_that_stand_together_are_told_apart(dark: bool) -> None:
    for colours in groups(dark):
        assert closest(colours)[0] >= LEAST, closest(colours)


def test_two_that_a_deuteranope_cannot_tell_apart_are_found() -> None:
    difference, kind, *_ = closest(["#d55e00", "#b87f00"])  # these were once ours
    assert difference < 2
    assert kind == "deuteranopia"


@pytest.mark.parametrize("dark", [False, True])
def test_graphics_and_names_stand_out_from_the_page(dark: bool) -> None:
    page = (DARK if dark else LIGHT).page
    for colour in {colour for group in groups(dark) for colour in group}:
        assert contrast(colour, page) >= 3, colour
    for hue in (BASELINE, *CURVES):
        assert contrast(hue.dark_text if dark else hue.light_text, page) >= 4.5, hue.name


def test_one_colour_has_one_meaning() -> None:
    meanings: dict[str, set[str]] = {}
    for series in SERIES.values():
        meanings.setdefault(series.light, set()).add(series.name)
    assert sorted(map(sorted, meanings.values())) == [
        ["baseline", "nearest"],
        ["decode"],
        ["draft", "proposal"],
        ["gptq", "trick"],
        ["overlap"],
        ["prefill"],
        ["residual"],
        ["rest"],
        ["target", "verify"],
        ["waiting"],
    ]
    blue = {STATES["computed"].light.fill, STATES["read"].light.fill}
    assert not blue & meanings.keys()


def test_states_of_one_colour_mean_one_thing() -> None:
    for dark in (False, True):
        alike: dict[str, set[str]] = {}
        for state in STATES.values():
            alike.setdefault(state.tone(dark).fill, set()).add(state.name)
        assert sorted(map(sorted, alike.values())) == [
            ["accepted", "settling"],  # right
            ["again", "early", "remembered", "resampled"],  # taken another time
            ["bonus", "shared"],  # costs nothing more
            ["computed", "looking"],  # at work now
            ["free", "guess"],  # not there yet
            ["held", "read"],  # lies in the cache
            ["kept"],
            ["masked", "shut", "unchecked", "wasted"],  # takes no part
            ["rejected"],
            ["settled"],
            ["visible"],
        ]


def test_no_glyph_has_two_meanings() -> None:
    glyphs = [*(state.glyph for state in STATES.values()), *TAGS.values()]
    assert len(set(glyphs)) == len(glyphs)
