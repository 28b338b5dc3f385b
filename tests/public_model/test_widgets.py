"""Lesson 15: the table judges and grows, curves are the recorded points."""

from dataclasses import replace

import pytest

from minillm.measure.noise import Measured
from minillm.public_model.findings import Point
from widgets.common.strings import say
from widgets.public_model import Findings, SideBySideExplorer
from widgets.public_model.side_by_side import _SHOWN

MODELS = {"small": "Small", "large": "Large"}


def points(large: float = 3.0) -> dict[tuple[str, str], Point]:
    """Two layers of the small model, four of the large; the last has the most."""
    return {
        (finding, model): Point(finding, model, tuple(range(1, n + 1)), (*(0.5,) * (n - 1), peak))
        for finding, *_ in _SHOWN.values()
        for model, n, peak in (("small", 2, 1.0), ("large", 4, large))
    }


def test_depth_is_in_per_cent_and_counts_are_not() -> None:
    explorer = SideBySideExplorer(points(), MODELS)
    small, large = explorer.chart().series
    assert (list(small.x), list(large.x)) == ([50, 100], [25, 50, 75, 100])
    assert list(large.y) == [50, 50, 50, 300]
    explorer.controls["finding"].value = "m tokens in one pass"
    small, large = explorer.chart().series
    assert (list(small.x), list(large.y)) == ([1, 2], [0.5, 0.5, 0.5, 3.0])


@pytest.mark.parametrize(("peak", "who"), [(3.0, "Large: 3.00 times"), (0.6, "Small: 1.67 times")])
def test_every_title_is_that_of_its_numbers(peak: float, who: str) -> None:
    explorer = SideBySideExplorer(points(peak), MODELS)
    for label in _SHOWN:
        explorer.controls["finding"].value = label
        assert explorer.chart().headline == f"{who} as much at its peak"
        assert f"({say('tag.measured')})" in explorer.readout.text
        assert explorer.picture().startswith("<svg")


def test_what_noise_leaves_open_is_no_title() -> None:
    noisy = {
        key: replace(point, ends=tuple((0.9 * x, 4 * x) for x in point.values))
        for key, point in points().items()
    }
    explorer = SideBySideExplorer(noisy, MODELS)
    explorer.controls["finding"].value = "m tokens in one pass"
    assert not explorer.chart().decided


def test_the_table_grows_and_a_finding_stands_once() -> None:
    table = Findings()
    table.add("bytes", "02", 46080, 46080, nothing=0)
    table.add("speed <x>", "05", 1.6, 0.8, nothing=1)
    card = table.new()
    assert card.summary() == (
        "bytes (lesson 02): predicted 46,080, measured 46,080: holds\n"
        "speed <x> (lesson 05): predicted 1.60, measured 0.800: does not hold"
    )
    assert card.html.count("<tr") == 3
    assert "speed &lt;x&gt;" in card.html
    assert 'data-state="accepted"' in card.html
    assert 'data-state="rejected"' in card.html
    assert "46,080" in card.picture()
    table.add("noisy", "05", Measured(1.0, 0.9, 1.1), Measured(1.2, 1.0, 1.4), nothing=1)
    noisy = table.new()
    assert noisy.summary() == (
        "noisy (lesson 05): predicted 1.00 (0.900 to 1.10), measured 1.20 (1.00 to 1.40): "
        "not decided"
    )
    assert 'data-state="unchecked"' in noisy.html
    table.add("bytes", "02", 100, 150, nothing=0)
    again = "bytes (lesson 02): predicted 100, measured 150: in direction"
    assert table.new().summary() == again
    assert table.whole().html.count("<tr") == 4
    assert table.whole().summary().endswith(again)
