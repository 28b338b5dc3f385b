"""The player without a browser: films, their wire format, the theme, static pictures."""

import json
import re
import xml.etree.ElementTree as ET

import ipywidgets
import pytest
from IPython.core.formatters import DisplayFormatter

from widgets.common.drawing.film import (
    Bar,
    Bars,
    BarsAt,
    Cell,
    Change,
    Film,
    Grid,
    Heat,
    Lane,
    Lanes,
    Number,
    Patch,
    Rect,
    quantize,
    width,
)
from widgets.common.drawing.svg import picture, summary
from widgets.common.player import StepPlayer
from widgets.common.still import VIEW, Pictured, inlined
from widgets.common.strings import CATALOGUE, say
from widgets.common.theme import DARK, LIGHT, MARKS, SERIES, STATES, contrast, css, template

ODD = [
    "",
    "\n",
    "\t",
    "  ",
    "a\nb",
    "🎈",
    "<b>&amp;</b>",
    "שלום",
    "日本語",
    "\x00\x1b\u202e",
    "x" * 99,
]


def grown(tokens):
    """A small KV film with every kind of panel."""
    n = len(tokens)
    cells = tuple(
        Cell(
            token,
            (Change(0, "free"), Change(i, "computed"), Change(i + 1, "read"))[0 if i else 1 :],
            link=f"t{i}",
        )
        for i, token in enumerate(tokens)
    )
    bars = tuple(Bar(i, 2.0 * i, 2.0 * i + 2, "trick") for i in range(n))
    patches = [Patch(0, Rect(0, 0, 2, n), 0)]
    for i in range(n):
        patches += [Patch(i, Rect(0, 0, 2, i), 1)] if i else []
        patches.append(Patch(i, Rect(0, i, 2, 1), 2))
    heat = Heat(
        2,
        n,
        tuple(patches),
        ("free", "read", "computed"),
        column_links=tuple(f"t{i}" for i in range(n)),
    )
    choice = Bars(("target", "proposal"), (BarsAt(0, "p and q", ("a", "b"), ((0.5, 1), (0.5, 0))),))
    return Film(
        title="Growth",
        captions=tuple(f"“{token}” is computed." for token in tokens),
        panels=(
            Lanes((Lane("with cache", cells, bars, tuple(f"reads {i}" for i in range(n))),)),
            Grid((cells,), ("row",), tuple(str(i) for i in range(n))) if n <= 64 else choice,
            heat,
            choice,
        ),
        numbers=(
            Number("bytes", tuple(str(8 * i) for i in range(n)), "computed"),
            Number("time", "3 ms", "measured"),
        ),
    )


@pytest.fixture(scope="module")
def film():
    return grown(["Once", "upon", "a", "time"])


def svg(film, step, dark=False):
    return ET.fromstring(picture(film, step, dark))


# ---- films


def test_wire_format_is_plain_json_without_repeats(film):
    wire = json.loads(json.dumps(film.to_json()))
    assert wire["steps"] == 4
    cell = wire["panels"][0]["lanes"][0]["cells"][2]
    history = [[0, "free"], [2, "computed"], [3, "read"]]
    assert cell == {"text": "a", "width": 1, "history": history, "link": "t2"}
    assert wire["legends"][0] == ["computed", "read", "free"]  # in the order of the states
    assert not any(wire["legends"][1:])  # each is said once
    assert wire["numbers"][1]["values"] == [[0, "3 ms"]]


def test_512_tokens_stay_well_below_a_megabyte():
    assert len(json.dumps(grown([f"token{i}" for i in range(512)]).to_json())) < 500_000


def test_a_cell_remembers_text_across_changes():
    cell = Cell("guess", (Change(1, "guess"), Change(3, "settling", "word"), Change(4, "settled")))
    assert cell.at(0) is None
    assert [cell.at(step).text for step in (1, 2, 3, 4, 9)] == ["guess"] * 2 + ["word"] * 3
    assert cell.to_json()["history"][-1] == [4, "settled", {"text": "word"}]


def test_heat_is_the_patches_up_to_a_step(film):
    heat = film.panels[2]
    assert [list(heat.at(step)[:4]) for step in (0, 1, 3)] == [
        [2, 0, 0, 0],
        [1, 2, 0, 0],
        [1, 1, 1, 2],
    ]


def test_scale_of_a_heat_map():
    patch = (Patch(0, Rect(0, 0), quantize([0.0], -1, 1)),)
    assert Heat(1, 1, patch, low=-1).scale == "diverging"
    assert Heat(1, 1, patch).scale == "sequential"
    assert Heat(1, 1, patch, ("free",)).scale == "states"


def test_width_counts_wide_characters_twice():
    assert [width(text) for text in ("", "abc", "日本", "a\n")] == [0, 3, 4, 2]


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Change(0, "acepted"), "unknown state 'acepted'"),
        (lambda: Cell("a", (Change(2, "free"), Change(1, "read"))), "rise"),
        (lambda: Cell("a", (Change(1, "free"), Change(1, "read"))), "two changes"),
        (lambda: Cell("a", (Change(-1, "free"),)), "rise from 0"),
        (lambda: Bar(0, 2, 1, "trick"), "bar from 2 to 1"),
        (lambda: Bar(0, 0, 1, "speed"), "unknown series"),
        (lambda: Lane("a", bars=(Bar(0, 0, 2, "trick"), Bar(1, 1, 3, "trick"))), "follow"),
        (lambda: Grid(((Cell("", ()),), ())), "equally long"),
        (lambda: Grid(tuple((Cell("", ()),) for _ in range(65))), "64 x 64"),
        (lambda: Grid(((Cell("", ()),),), ("a", "b")), "2 row labels for 1"),
        (lambda: Heat(513, 1, ()), "513 x 1"),
        (lambda: Heat(2, 2, (Patch(0, Rect(1, 1, 2, 1), 0),)), "outside of 2 x 2"),
        (lambda: Heat(1, 1, (), low=1.0), "below high"),
        (lambda: Patch(0, Rect(0, 0, 2, 2), b"abc"), "3 values for 4"),
        (lambda: Number("a", "1", "guessed"), "measured, computed, recorded, cited"),
        (lambda: Film("a", ("one",), (), (Number("n", ("1", "2"), "cited"),)), "2 values for 1"),
        (
            lambda: Film(
                "a",
                ("one",),
                (Lanes((Lane("l", (Cell("b", (Change(0, "bonus", origin="x"),)),)),)),),
            ),
            "origins",
        ),
        (lambda: Bars(("target",), (BarsAt(0, "", ("a",), ((1, 2),)),)), "1 values each"),
    ],
)
def test_mistakes_are_refused_with_their_name(make, complaint):
    with pytest.raises(ValueError, match=re.escape(complaint)):
        make()


# ---- theme


@pytest.mark.parametrize("dark", [False, True])
def test_every_text_meets_wcag_aa(dark):
    surface = DARK if dark else LIGHT
    for state in STATES.values():
        tone = state.tone(dark)
        assert contrast(tone.ink, tone.fill) >= 4.5, state.name
    for ground in (surface.page, surface.soft):
        for ink in (surface.text, surface.muted):
            assert contrast(ink, ground) >= 4.5
    assert contrast(surface.on_accent, surface.accent) >= 4.5


def test_states_differ_by_glyph_and_have_a_label():
    assert len({state.glyph for state in STATES.values()}) == len(STATES)
    assert all(state.label for state in STATES.values())
    assert all(series.label for series in SERIES.values())
    assert not set(STATES) & set(SERIES)


def test_css_has_every_state_once_in_light_and_dark():
    sheet = css()
    for name in STATES:
        assert sheet.count(f'[data-state="{name}"]') == 1
        assert sheet.count(f"--{name}-fill:") == 3  # light, dark by host, dark by preference
    assert all(f'[data-mark="{name}"]' in sheet for name in MARKS)
    assert "http" not in re.sub(r"http://www.w3.org/2000/svg", "", sheet)


def test_the_template_of_plotly_follows_the_surfaces():
    assert template().layout.font.color == LIGHT.text


# ---- static pictures


@pytest.mark.parametrize("dark", [False, True])
def test_picture_is_labelled_svg_on_whole_pixels(film, dark):
    for step in range(film.steps):
        root = svg(film, step, dark)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert root.get("role") == "img"
        assert root.get("aria-label") == root[0].text == summary(film, step)
        for node in root.iter():
            for key in ("x", "y", "width", "height"):
                assert re.fullmatch(r"-?\d+", node.get(key, "0")), ET.tostring(node)
            assert int(node.get("width", 0)) >= 0


def test_picture_is_deterministic_and_shows_the_step(film):
    assert picture(film, 2) == picture(film, 2)
    assert picture(film, 2) != picture(film, 3)
    assert "“a” is computed." in "".join(svg(film, 2).itertext())


def test_odd_texts_stay_text():
    film = grown(ODD)
    root = svg(film, film.steps - 1)
    assert {node.tag.split("}")[1] for node in root.iter()} <= {
        "svg",
        "g",
        "title",
        "rect",
        "path",
        "text",
    }
    assert "<b>&amp;</b>" in "".join(root.itertext())


def test_one_and_512_tokens_and_no_steps():
    assert svg(grown(["one"]), 0) is not None
    assert len(picture(grown(["token"] * 512), 511)) < 200_000
    empty = Film("Empty", (), ())
    assert say("player.empty") in picture(empty, 0)
    assert say("player.empty") in summary(empty, 0)


def test_picture_of_a_step_that_is_not_there(film):
    with pytest.raises(ValueError, match="step 4: this film has steps 0 to 3"):
        picture(film, 4)


def test_summary_leaves_out_what_was_measured(film):
    assert summary(film, 3) == "Growth: step 4 of 4; bytes = 24"


# ---- widget


def test_a_heat_map_names_its_columns_and_its_scale():
    heat = Heat(
        1, 2, (Patch(0, Rect(0, 0, 1, 2), b"\x00\xfe"),), low=-0.5, high=2,
        column_labels=("cat", "dog"), column_title="key",
    )  # fmt: skip
    root = ET.fromstring(picture(Film("Heat", ("now",), (heat,)), 0))
    written = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"cat", "dog", "key", "-0.5", "2"} <= set(written)
    assert sum("rotate(-90" in node.get("transform", "") for node in root.iter()) == 2


def test_player_is_stored_as_its_picture_and_its_view(film):
    still, live = StepPlayer(film, step=2).outputs()
    assert picture(film, 2) in inlined(still["text/html"])
    assert still["text/plain"] == summary(film, 2)
    assert live[VIEW]["model_id"]


class Box(Pictured, ipywidgets.VBox):
    def picture(self):
        return "<svg/>"

    def summary(self):
        return 'one\n"line"'


def test_mixin_works_for_boxes():
    still, live = Box([ipywidgets.Label("a")]).outputs()
    assert still["text/plain"] == 'one\n"line"'
    assert inlined(still["text/html"]).endswith('<div class="minillm-still"><svg/></div>')
    image = re.search("<img[^>]*>", still["text/html"])
    assert ET.fromstring(image[0] + "</img>").get("alt") == 'one\n"line"'
    assert set(live) == {VIEW}


def test_a_cell_shows_the_still_then_the_view(monkeypatch):
    shown = []
    monkeypatch.setattr("widgets.common.still.display", lambda data, raw: shown.append(data))
    box = Box()
    assert DisplayFormatter().format(box) == ({}, {})
    assert shown == list(box.outputs())


def test_step_is_checked_observed_and_rewound(film):
    player = StepPlayer(film)
    seen = []
    player.observe(lambda change: seen.append(change["new"]), "step")
    player.step = 3
    with pytest.raises(ValueError, match="step 4: this film has steps 0 to 3"):
        player.step = 4
    player.film = grown(["only"])
    assert (player.step, seen) == (0, [3, 0])


def test_browser_receives_film_and_words(film):
    state = StepPlayer(film).get_state()
    wire = state["film"]
    assert wire["title"] == "Growth"
    assert wire["labels"]["accepted"] == CATALOGUE["state.accepted"]
    assert wire["words"]["play"] == CATALOGUE["player.play"]
    assert set(state["film"]["events"]) <= set(STATES)
    assert json.dumps(wire)


def test_every_word_the_player_uses_is_in_the_catalogue():
    used = set(re.findall(r"\bwords\.(\w+)", str(StepPlayer._esm)))
    used |= set(re.findall(r'said\("(\w+)"', str(StepPlayer._esm)))
    assert used <= set(StepPlayer(grown(["a"])).get_state()["film"]["words"])
