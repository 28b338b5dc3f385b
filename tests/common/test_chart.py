"""Charts without a browser: one description, as a plotly figure and as a static picture."""

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import Any

import ipywidgets
import pytest

from minillm.measure.noise import Measured
from widgets.common import theme
from widgets.common.chart import Chart, ChartExplorer, Claim, Columns, Curve, Level, Stems
from widgets.common.chart.figure import Figure
from widgets.common.chart.live import figure
from widgets.common.chart.plot import Label, Plot, crosses
from widgets.common.chart.static import picture
from widgets.common.still import VIEW, inlined
from widgets.common.strings import say
from widgets.common.theme import BASELINE, DARK, LIGHT, TAGS, css

CURVES = Chart(
    "Caches grow",
    "tokens",
    "bytes",
    (
        Curve("plain", [1, 10, 100], [4, 4, 4], baseline=True),
        Curve("cache", [1, 10, 100], [1, 5, 9]),
    ),
    levels=(Level("the card", 8.0),),
    note=(10, 5, "here"),
)
BARS = Chart(
    "Sampling",
    "next tokens",
    "probability",
    (Columns("own", ["a", "b"], [0.75, 0.25], baseline=True), Columns("kept", ["a", "b"], [1, 0])),
)
ODD = ["<b>&amp;</b>", "🎈 balloon", "שלום עולם", "日本語", "\"quoted\" 'twice'", "a < b && c > d"]
LEFT, TOP, BASE = 84, 84, 356  # the plot, in pixels
RIGHT = 960 - Plot(CURVES).right


def drawn(chart: Chart, label: str = "a chart") -> ET.Element:
    return ET.fromstring(picture(chart, label))


def nodes(chart: Chart, tag: str) -> list[ET.Element]:
    return drawn(chart).findall(f"{{http://www.w3.org/2000/svg}}{tag}")


def texts(chart: Chart) -> list[str]:
    return [node.text or "" for node in nodes(chart, "text")]


def lines(chart: Chart) -> list[list[tuple[int, int]]]:
    """The points of each curve."""
    pairs = (node.attrib["points"].split() for node in nodes(chart, "polyline"))
    return [[(int(x), int(y)) for x, y in (p.split(",") for p in points)] for points in pairs]


# The figure


def test_figure_of_curves_levels_and_note() -> None:
    plain, cache, level, note = figure(CURVES).data
    assert (plain.name, plain.line.color, plain.y) == ("plain", BASELINE.light, (4, 4, 4))
    assert (cache.name, cache.x, cache.y) == ("cache", (1, 10, 100), (1, 5, 9))
    assert cache.line.color == theme.CURVES[0].light
    assert (level.x, level.y, level.text[0]) == ((1, 100), (8.0, 8.0), "the card")
    assert (note.x, note.y, note.text) == ((10,), (5,), ("here",))


def test_figure_of_columns() -> None:
    fig = figure(BARS)
    assert [bar.type for bar in fig.data] == ["bar", "bar"]
    assert [(bar.name, bar.x, bar.y) for bar in fig.data] == [
        ("own", ("a", "b"), (0.75, 0.25)),
        ("kept", ("a", "b"), (1, 0)),
    ]
    assert fig.layout.xaxis.title.text == "next tokens"
    assert [each.text for each in fig.layout.annotations] == ["probability"]  # on top of the axis


def test_names_stand_at_the_lines_and_bars_have_a_legend() -> None:
    written = [each.text for each in figure(CURVES).layout.annotations]
    assert written == ["bytes", "plain", "cache", "<b>here</b>", "the card"]
    assert not figure(CURVES).layout.showlegend
    assert figure(BARS).layout.showlegend
    alone = replace(CURVES, series=CURVES.series[:1], levels=(), note=None)
    assert [each.text for each in figure(alone).layout.annotations] == ["bytes"]


@pytest.mark.parametrize("log_x", [False, True])
@pytest.mark.parametrize("log_y", [False, True])
def test_axes_of_the_figure_hold_every_value(log_x: bool, log_y: bool) -> None:
    layout = figure(replace(CURVES, log_x=log_x, log_y=log_y)).layout
    assert layout.xaxis.type == ("log" if log_x else "linear")
    assert layout.yaxis.type == ("log" if log_y else "linear")
    low, high = layout.yaxis.range
    assert (low, high) == ((0, 2) if log_y else (0, pytest.approx(9.72)))  # 1.2 x 9 is above 10


# The picture


@pytest.mark.parametrize(
    "chart", [CURVES, replace(CURVES, log_x=True, log_y=True), BARS], ids=["linear", "log", "bars"]
)
def test_picture_is_labelled_svg_on_whole_pixels(chart: Chart) -> None:
    root = drawn(chart, 'What it <says> & "means"')
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.get("role") == "img"
    assert root.get("aria-label") == root[0].text == 'What it <says> & "means"'
    for node in root.iter():
        for key in ("x", "y", "width", "height"):
            assert re.fullmatch(r"\d+", node.get(key, "0")), ET.tostring(node)
        assert "." not in node.get("points", "") + node.get("d", "")
    assert texts(chart)[:3] == [chart.headline, chart.y_title, chart.x_title]


def test_picture_is_deterministic() -> None:
    assert picture(CURVES, "a") == picture(replace(CURVES), "a")
    assert picture(CURVES, "a") != picture(replace(CURVES, levels=()), "a")
    assert figure(CURVES).to_plotly_json() == figure(replace(CURVES)).to_plotly_json()


def test_curves_run_from_edge_to_edge_and_stand_at_their_values() -> None:
    flat, rising = lines(CURVES)
    assert [x for x, _ in flat] == [LEFT, LEFT + round(9 / 99 * (RIGHT - LEFT)), round(RIGHT)]
    assert len({y for _, y in flat}) == 1
    assert [BASE - y for _, y in rising] == [round(272 * y / 9.72) for y in (1, 5, 9)]


def test_logarithmic_axes_give_each_decade_the_same_room() -> None:
    (line,) = lines(
        Chart("t", "x", "y", (Curve("c", [1, 10, 100], [1, 10, 80]),), log_x=True, log_y=True)
    )
    assert [x for x, _ in line] == [LEFT, (LEFT + 936) // 2, 936]
    assert [y for _, y in line][:2] == [BASE, (BASE + TOP) // 2]
    assert {"1", "10", "100"} <= set(texts(replace(CURVES, log_x=True, log_y=True)))


def test_columns_stand_side_by_side_as_high_as_their_values() -> None:
    bars = [{k: int(n.attrib[k]) for k in ("x", "y", "width", "height")}
            for n in nodes(BARS, "rect")[1:] if n.attrib["width"] != "12"]  # fmt: skip
    assert [bar["height"] for bar in bars] == [round(272 * p / 1.08) for p in (0.75, 0.25, 1, 0)]
    assert {bar["y"] + bar["height"] for bar in bars} == {BASE}
    for own, kept in zip(bars[:2], bars[2:], strict=True):
        assert own["x"] + own["width"] == kept["x"]
    assert {"a", "b", "own", "kept"} <= set(texts(BARS))


def test_the_picture_says_where_its_numbers_come_from() -> None:
    drawn = picture(BARS, "9 tokens (computed) in 4 ms (measured)")
    assert [name for name, path in TAGS.items() if path in drawn] == ["measured", "computed"]
    assert {"measured", "computed"} <= {e.text for e in ET.fromstring(drawn).iter()}
    assert not any(path in picture(BARS, "as computed") for path in TAGS.values())


def test_levels_and_the_note_are_drawn_where_they_are() -> None:
    paths = [node.attrib["d"] for node in nodes(CURVES, "path")]
    assert any(re.match(rf"M{LEFT} {BASE - round(272 * 8 / 9.72)}H", path) for path in paths)
    x, y = lines(CURVES)[1][1]
    assert (str(x), str(y)) in {(n.attrib["cx"], n.attrib["cy"]) for n in nodes(CURVES, "circle")}
    assert {"the card", "here"} <= set(texts(CURVES))


@pytest.mark.parametrize("text", ODD, ids=repr)
def test_odd_texts_stay_text(text: str) -> None:
    curve = Chart(text, text, text, (Curve(text, [0, 1], [0, 1]), Curve("b", [0, 1], [1, 0])),
                  (Level(text, 0.5),), (0, 1, text))  # fmt: skip
    bars = Chart("t", "x", "y", (Columns("own", [text, "b"], [1, 2]),))
    assert texts(curve).count(text) == 6
    assert texts(bars).count(text) == 1
    assert {node.tag.split("}")[1] for node in drawn(curve, text).iter()} <= {
        "svg", "title", "rect", "path", "polyline", "text", "circle",
    }  # fmt: skip
    assert drawn(curve, text).get("aria-label") == text
    assert figure(bars).data[0].x == (text, "b")


# What was measured


CLEAR, NOISY = Measured(2.0, 1.9, 2.1), Measured(1.2, 0.8, 1.9)


def gain(*y: float) -> Chart:
    claims = (
        Claim("It pays", ((1.0, max(y)),)),
        Claim("It loses", tuple((each, 1.0) for each in y)),
    )
    return Chart(claims, "gamma", "speed-up", (Curve("measured", range(1, len(y) + 1), y),))


@pytest.mark.parametrize(
    ("y", "headline"),
    [
        ((NOISY, CLEAR), "It pays"),
        ((NOISY, NOISY), "Not decided on this machine now: speed-up"),
        ((Measured(0.5, 0.4, 0.6), Measured(0.9, 0.8, 0.95)), "It loses"),
        ((Measured(0.5, 0.4, 0.6), NOISY), "Not decided on this machine now: speed-up"),
        ((Measured(9.0, 8.9, 9.1, few=True),), "Not decided on this machine now: speed-up"),
    ],
)
def test_a_title_says_what_the_intervals_allow(y: tuple[float, ...], headline: str) -> None:
    chart = gain(*y)
    assert figure(chart).layout.title.text == texts(chart)[0] == chart.headline == headline
    assert chart.decided == (not headline.startswith("Not decided"))


def test_the_words_below_say_that_too() -> None:
    class Gains(ChartExplorer):
        def __init__(self) -> None:
            options = [("clear", CLEAR), ("noisy", NOISY)]
            super().__init__({"run": ipywidgets.Dropdown(options=options)})

        def chart(self) -> Chart:
            return gain(self["run"])

        def said(self) -> str:
            return "Told."

    explorer = Gains()
    assert explorer.readout.text == "Told."
    explorer.controls["run"].label = "noisy"
    assert explorer.readout.text == explorer.summary() == f"{say('chart.doubt')} Told."
    assert explorer.view.layout.title.text.startswith("Not decided")


def test_dots_and_whiskers_stand_where_something_was_measured() -> None:
    chart = Chart("t", "x", "y", (Curve("c", [1, 2, 3], [1.0, NOISY, CLEAR]),))
    (trace,) = figure(chart).data
    assert trace.marker.size == (0, 8, 8)
    assert trace.error_y.visible
    assert trace.error_y.array == pytest.approx((0, 0.7, 0.1))
    assert trace.error_y.arrayminus == pytest.approx((0, 0.4, 0.1))
    places = [node.attrib for node in nodes(chart, "circle")]
    plot = Plot(chart)
    assert [int(at["cx"]) for at in places] == [round(plot.x(2)), round(plot.x(3))]
    whisker = f"V{round(plot.y(1.9))}M"
    assert sum(whisker in node.attrib["d"] for node in nodes(chart, "path")) == 1
    assert chart.y_range[1] == pytest.approx(1.08 * 2.1)  # whiskers are inside
    bars = Chart("t", "x", "y", (Columns("c", ["a", "b"], [1.0, NOISY]),))
    assert figure(bars).data[0].error_y.array == pytest.approx((0, 0.7))
    assert not figure(BARS).data[0].error_y.visible


# Names


CROWDED = Chart(
    "t", "x", "y",
    (
        Curve("baseline", [1, 50], [1, 1], baseline=True),
        Curve("first of them", [1, 10, 50], [1, 5, 9]),
        Curve("second of them", [1, 10, 50], [1, 5, 9.01]),
        Curve("third", [1, 10, 30], [1, 4, 8.9]),
        Curve("a long name that no margin holds, however wide it may be made", [1, 50], [9, 1]),
    ),
    (Level("break-even", 1.0), Level("a card", 8.8)),
    (10, 5, "5.00×"),
)  # fmt: skip


def boxes(plot: Plot) -> list[tuple[Label, Any]]:
    return [
        (each, plot.box(each.text, each.x, each.y, each.dx, each.dy, each.anchor))
        for each in plot.labels()
    ]


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("chart", [CURVES, CROWDED], ids=["few", "crowded"])
def test_names_cover_no_line_and_no_other_name(chart: Chart, log: bool) -> None:
    plot = Plot(replace(chart, log_x=log, log_y=log))
    placed = boxes(plot)
    for label, box in placed:
        assert not any(crosses(line, box) for line in plot.lines()), label.text
        assert LEFT <= box[0] <= box[2] <= 960
        for other, theirs in placed:
            if other is not label:
                apart = box[2] <= theirs[0] or theirs[2] <= box[0]
                assert apart or box[3] <= theirs[1] or theirs[3] <= box[1], (label, other)


def test_the_figure_writes_where_the_picture_does() -> None:
    written = figure(CURVES).layout.annotations[1:]
    for label, live in zip(Plot(CURVES).labels(), written, strict=True):
        assert (live.x, live.y) == (label.x, label.y)
        assert (live.xshift, -live.yshift) == (label.dx, label.dy)


@pytest.mark.parametrize(
    ("chart", "x", "y"),
    [
        (replace(CURVES, log_x=True, log_y=True), ["1", "10", "100"], ["1", "10", "100"]),
        (Chart("t", "x", "y", (Curve("c", [100, 10_000], [2, 30]),), log_x=True, log_y=True),
         ["100", "1,000", "10,000"], ["1", "10", "100"]),
        (Chart("t", "x", "y", (Curve("c", [1, 2, 4], [CLEAR] * 3),)),
         ["1", "2", "4"], ["0", "0.5", "1", "1.5", "2"]),
    ],
)  # fmt: skip
def test_ticks_are_numbers_and_alike_in_both(chart: Chart, x: list[str], y: list[str]) -> None:
    layout = figure(chart).layout
    assert (list(layout.xaxis.ticktext), list(layout.yaxis.ticktext)) == (x, y)
    assert set(x) | set(y) <= set(texts(chart))


def test_stems_rise_from_the_axis_and_are_not_joined() -> None:
    chart = Chart("t", "x", "y", (Stems("values", [-1, 0, 3], [2, 2, 2]),))
    (trace,) = figure(chart).data
    assert trace.x == (-1, -1, None, 0, 0, None, 3, 3, None)
    assert trace.y == (0, 2, None) * 3
    (path,) = (n.attrib["d"] for n in nodes(chart, "path") if n.attrib["stroke"] != LIGHT.line)
    assert path.count("M") == path.count("V") == 3


def test_the_figures_colours_become_those_of_the_page() -> None:
    sheet = css()
    for hue in (BASELINE, *theme.CURVES):
        red, green, blue = (int(hue.light[i : i + 2], 16) for i in (1, 3, 5))
        rule = f'[style*="stroke: rgb({red}, {green}, {blue})"] {{ stroke: var(--{hue.name})'
        assert rule in sheet
        assert f"--{hue.name}: {hue.light};" in sheet
        assert f"--{hue.name}: {hue.dark};" in sheet
    assert {LIGHT.text, DARK.text} <= set(re.findall(r"--text: (#\w+);", sheet))


# Edges


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(("x", "y"), [([3], [7]), ([5, 5], [1, 2]), ([5, 5], [1, 1])])
def test_one_point_and_equal_points_stand_in_the_middle(
    x: list[int], y: list[int], log: bool
) -> None:
    chart = Chart("t", "x", "y", (Curve("c", x, y),), log_x=log, log_y=log)
    (line,) = lines(chart)
    assert {at for at, _ in line} == {(LEFT + 936) // 2}
    assert all(TOP <= at <= BASE for _, at in line)
    assert len(figure(chart).data) == 1


def test_zeros_lie_on_the_axis() -> None:
    chart = Chart("t", "x", "y", (Curve("c", [0, 1], [0, 0]),))
    assert [y for _, y in lines(chart)[0]] == [BASE, BASE]
    assert figure(chart).layout.yaxis.range == (0, 1)


@pytest.mark.parametrize("series", [(), (Curve("c", [], []),), (Columns("c", [], []),)])
def test_nothing_to_draw(series: tuple[Curve | Columns, ...]) -> None:
    with pytest.raises(ValueError, match="'Empty' has nothing to draw"):
        Chart("Empty", "x", "y", series, levels=(Level("a", 1),))


@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize("where", ["series", "levels", "note"])
def test_logarithms_need_values_above_0(where: str, value: float) -> None:
    wrong = {"series": (Curve("c", [1, 2], [1, value]),), "levels": (Level("a", value),),
             "note": (1, value, "n")}  # fmt: skip
    with pytest.raises(ValueError, match="'Caches grow': a logarithmic axis shows values above 0"):
        replace(CURVES, log_y=True, **{where: wrong[where]})


# The explorer


class Lines(ChartExplorer):
    """y = slope x + offset."""

    def __init__(self) -> None:
        super().__init__(
            {"slope": ipywidgets.IntSlider(2), "log": ipywidgets.Checkbox(False)},
            {"name": ipywidgets.Text("<line>")},
        )

    def chart(self) -> Chart:
        y = [1 + self["slope"] * x for x in (0, 1, 2)]
        return Chart(
            self["name"], "x", "y", (Curve(self["name"], [0, 1, 2], y),), log_y=self["log"]
        )

    def said(self) -> str:
        return f"{self['name']} reaches {1 + 2 * self['slope']}."


def test_explorer_shows_its_first_state() -> None:
    explorer = Lines()
    assert explorer.view.data[0].y == (1, 3, 5)
    assert explorer.readout.text == explorer.summary() == "<line> reaches 5."


def test_folded_controls_are_shown_on_demand() -> None:
    explorer = Lines()
    (row,) = (
        child
        for child in explorer.children
        if explorer.controls["name"] in getattr(child, "children", ())
    )
    (more,) = (c for c in explorer.children[0].children if isinstance(c, ipywidgets.ToggleButton))
    assert row.layout.display == "none"
    more.value = True
    assert row.layout.display == "flex"


@pytest.mark.parametrize(
    ("control", "value", "y", "said"),
    [
        ("slope", 0, (1, 1, 1), "<line> reaches 1."),
        ("slope", 50, (1, 51, 101), "<line> reaches 101."),
        ("name", "שלום & 🎈", (1, 3, 5), "שלום & 🎈 reaches 5."),
    ],
)
def test_a_control_changes_view_readout_and_picture(
    control: str, value: object, y: tuple[int, ...], said: str
) -> None:
    explorer = Lines()
    before = explorer.picture()
    explorer.controls[control].value = value
    assert explorer[control] == value
    assert explorer.view.data[0].y == y
    assert explorer.view.data[0].name == explorer.view.layout.title.text == explorer["name"]
    assert tuple(explorer.view.layout.yaxis.range) == (0, pytest.approx(1.08 * y[-1]))
    assert explorer.readout.text == explorer.summary() == said
    assert explorer.picture() == picture(explorer.chart(), explorer.summary()) != before


def test_a_control_changes_the_kind_of_axis_and_back() -> None:
    explorer = Lines()
    linear = explorer.view.layout.yaxis.to_plotly_json()
    explorer.controls["log"].value = True
    assert (explorer.view.layout.yaxis.type, explorer.view.layout.yaxis.range) == ("log", (0, 1))
    explorer.controls["log"].value = False
    assert explorer.view.layout.yaxis.to_plotly_json() == linear


def test_explorer_is_stored_as_picture_and_line() -> None:
    explorer = Lines()
    still, live = explorer.outputs()
    assert live[VIEW]["model_id"] == explorer.model_id
    assert explorer.picture() in inlined(still["text/html"])
    assert still["text/plain"] == "<line> reaches 5."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"series": (Curve("a", [1, 2], [1.0, float("nan")]),)}, "not finite"),
        ({"series": (Curve("a", [1, float("inf")], [1, 2]),)}, "not finite"),
        ({"series": (Curve("a", [0, 1], [1, 2]),), "log_x": True}, "above 0"),
        ({"series": tuple(Curve(str(i), [1], [1]) for i in range(6))}, "at most 5 series"),
    ],
)
def test_what_an_axis_cannot_show_is_refused_at_once(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Chart("title", "x", "y", **change)


def test_the_program_that_draws_is_handed_to_the_browser_once() -> None:
    one, other = Lines().view, Lines().view
    assert one.bundle is other.bundle
    assert len(one.bundle.program) > 1_000_000
    for view in (one, other):
        state = view.get_state()
        assert state["bundle"] == f"IPY_MODEL_{one.bundle.model_id}"
        assert len(json.dumps(state, default=str)) < 50_000
    one.bundle.close()
    assert Lines().view.bundle.comm is not None


def test_a_figure_has_no_logo_from_its_first_message_on(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[dict[str, object]] = []
    monkeypatch.setattr(Figure, "open", lambda figure: opened.append(figure.get_state()))
    Figure()
    assert opened
    assert all(state["_config"]["displaylogo"] is False for state in opened)
