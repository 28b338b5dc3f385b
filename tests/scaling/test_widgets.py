"""Lesson 12: curves are the recorded points, words what the tests found; mistakes told apart."""

from dataclasses import replace
from itertools import product

import pytest

from minillm.scaling import kbit
from minillm.scaling.kbit import PRECISIONS, KBit, best_at, loss_at
from minillm.scaling.overtraining import FewBits, Point, decay_effect, trend
from widgets.scaling import HypothesisExplorer, LawExplorer, losses_at
from widgets.scaling.law import megabytes


def family() -> list[KBit]:
    """Each size twice the one before; 3 bits cost much, 4 a little, the embedding counts double."""
    cost = {2: 3.0, 3: 0.5, 4: 0.05, 8: 0.01, 16: 0.0}
    return [
        KBit(f"size {n}", bits, whole, (1 + whole) * bits * 10**6 * 2**n, 4 - 0.3 * n + cost[bits])
        for n, whole, bits in product(range(5), (True, False), PRECISIONS)
    ]


def points(growth: float = 0.1, decay: float = 0.05) -> list[Point]:
    """Three seeds: the loss added grows with the tokens, and is larger behind a decay."""
    made = []
    for seed, text, rate, n in product(
        range(3), ("unique", "repeated"), ("constant", "decayed"), range(4)
    ):
        added = 0.2 + growth * n + decay * (rate == "decayed") + 0.01 * seed * (1 + n)
        rounded: dict[FewBits, float] = {
            "int2": 3 + 4 * added,
            "int3": 3 + 2 * added,
            "int4": 3 + added,
        }
        made.append(Point(seed, text, rate, 10**6 * 2**n, 3.0, rounded))  # type: ignore[arg-type]
    return made


# The law


@pytest.mark.parametrize("explorer", [LawExplorer(family()), LawExplorer(kbit.read())])
def test_the_law_at_every_setting(explorer: LawExplorer) -> None:
    controls = explorer.controls
    for embedding, bits in product((True, False), (3, 2)):
        controls["embedding"].value, controls["bits"].value = embedding, bits
        for label, budget in controls["budget"].options:
            controls["budget"].value = budget
            chart, part = explorer.chart(), [p for p in explorer._family if p.bits >= bits]
            assert {p.embedding for p in part} == {embedding}
            _, y, text = chart.note
            best = best_at(explorer._family, budget)
            assert chart.headline.startswith(label)
            assert ("no precision" in chart.headline) == (best is None)
            if best is not None:
                assert f"{best} bits" in chart.headline
            if best is not None and best >= bits:
                assert text == f"{best} bits"
                least = min(p.loss for p in explorer._family)
                assert y == pytest.approx(loss_at(part, best, budget) - least)
            assert sum(len(series.y) for series in chart.series) == len(part)
            assert explorer.picture().startswith("<svg")


def test_the_family_says_four_bits() -> None:
    assert 4 in {
        best_at([p for p in family() if p.embedding], stored) for stored in (2e7, 4e7, 6e7)
    }


def test_losses_at_a_budget() -> None:
    whole = [p for p in kbit.read() if p.embedding]
    found = losses_at(whole, 16e6)
    assert set(found) == set(PRECISIONS)
    assert found[4] == loss_at(whole, 4, 16e6)
    assert losses_at(whole, 1e9) == {}
    assert megabytes(16e6) == "2.00 MB"


# The hypothesis


def test_an_arm_is_the_mean_of_its_seeds_or_one_of_them() -> None:
    explorer = HypothesisExplorer(points())
    explorer.controls["format"].value = "int4"
    chart = explorer.chart()
    assert [series.name for series in chart.series] == [
        f"{text} text, {rate}"
        for text, rate in product(("unique", "repeated"), ("constant", "decayed"))
    ]
    first = chart.series[0]
    assert first.x == [1, 2, 4, 8]
    assert first.y == pytest.approx([0.21, 0.32, 0.43, 0.54])
    explorer.controls["show"].value = 2
    assert explorer.chart().series[0].y == pytest.approx([0.22, 0.34, 0.46, 0.58])
    assert explorer.chart().headline == chart.headline  # tests see all seeds


def test_words_are_those_of_the_tests() -> None:
    up, down = points(), points(growth=-0.1, decay=-0.05)
    assert "grows with the tokens in 4 of 4 arms" in HypothesisExplorer(up).chart().headline
    assert "grows with the tokens in 0 of 4 arms" in HypothesisExplorer(down).chart().headline
    assert float(trend(up, "unique", "constant", "int3").p) == pytest.approx(24**-3)
    said = HypothesisExplorer(up).summary()
    assert "unique text and constant rate 7.2e-05" in said
    assert float(decay_effect(up, "unique", "int3").p) == pytest.approx(2**-12)
    assert "decayed above constant rate, unique text 0.00024" in said


def test_another_format_is_another_chart() -> None:
    uneven = [replace(p, rounded=p.rounded | {"int2": 3.5 - p.added("int4")}) for p in points()]
    explorer = HypothesisExplorer(uneven)
    assert explorer.chart().headline.startswith("int3: ")
    explorer.controls["format"].value = "int2"
    assert explorer.chart().headline == "int2: the loss added grows with the tokens in 0 of 4 arms"
    assert explorer.readout.text == explorer.summary()
