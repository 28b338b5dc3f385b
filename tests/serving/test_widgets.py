"""Lesson 14: films and charts say what the records hold, whatever was served."""

from dataclasses import replace
from typing import Any

import pytest
from oracles import tiny

import minillm
from minillm.measure.noise import Measured
from minillm.serving import Engine
from minillm.serving.record import Record, Served
from minillm.serving.replay import one_each, serve
from minillm.serving.simulate import Load
from minillm.serving.workload import Asked
from widgets.common.drawing.film import Cell, Film
from widgets.serving import (
    BlockTableExplorer,
    RateExplorer,
    Rates,
    TimelineExplorer,
    measured_load,
)
from widgets.serving.tables import tables_film
from widgets.serving.timeline import Timeline, timeline_film

MODEL = tiny(minillm)
OPENING = (1, 2, 3, 4, 5)
ASKED = [
    Asked(0, (*OPENING, 6), 9),
    Asked(0, (7, 7, 1), 12),
    Asked(2, (*OPENING, 2), 8),
    Asked(3, (3, 2, 1, 3), 9),
]
BLOCKS, SIZE = 12, 4


def served(blocks: int = BLOCKS, **more: Any) -> Record:
    return serve(Engine(MODEL, blocks=blocks, size=SIZE, **more), ASKED, one_each)


def film(record: Record, blocks: int = BLOCKS) -> Film:
    return tables_film(record, blocks, SIZE, context=64)


def text_at(cell: Cell, step: int) -> str:
    change = cell.at(step)
    return (change.text or "") if change else ""


def state_at(cell: Cell, step: int) -> str | None:
    change = cell.at(step)
    return change and change.state


# The block table


@pytest.mark.parametrize("blocks", [6, 8, 12, 20])
@pytest.mark.parametrize("share", [True, False])
def test_rows_and_pool_are_the_tables_of_every_step(blocks: int, share: bool) -> None:
    record = served(blocks, share=share)
    lanes, pool, free = film(record, blocks).panels
    cells = list(pool.cells())
    assert len(cells) % 8 == 0
    for step, moment in enumerate(record.moments):
        for number, lane in enumerate(lanes.lanes):
            own = [
                cell
                for cell in lane.cells
                if state_at(cell, step) in {"computed", "held", "shared"}
            ]
            named = [int(text_at(cell, step)) for cell in own]
            assert tuple(named) == moment.tables.get(number, ((), 0))[0]
        held: dict[int, str] = {}
        for number, (table, _) in moment.tables.items():
            for block in table:
                held[block] = held.get(block, "") + "ABCD"[number]
        kept = moment.remembered - held.keys()
        for block, cell in enumerate(cells[:blocks]):
            owners = held.get(block, "")
            assert text_at(cell, step) == f"{block} {owners}".strip()
            alone = "remembered" if block in kept else "free"
            assert state_at(cell, step) == (
                "shared" if len(owners) > 1 else "held" if owners else alone
            )
        [lane] = free.lanes
        listed = [text_at(cell, step) for cell in lane.cells if state_at(cell, step) == "held"]
        assert list(map(int, listed)) == [b for b in range(blocks) if b not in {*held, *kept}]


def test_what_a_preemption_took_is_thrown_away_and_read_again() -> None:
    record = served(6)
    lost = [(i, m.step.preempted[0]) for i, m in enumerate(record.moments) if m.step.preempted]
    step, number = lost[0]
    shown = film(record, 6)
    lane = shown.panels[0].lanes[number]
    assert {state_at(cell, step) for cell in lane.cells if cell.at(step)} == {"wasted"}
    assert lane.notes[step] == "preempted"
    assert f"{'ABCD'[number]}, the newest, gives back" in shown.captions[step]
    assert any(cell.at(step) is None for cell in lane.cells)  # others follow


def test_shares_and_counts() -> None:
    record = served(20)
    shown = film(record, 20)
    held, empty, context, known = shown.numbers
    assert held.at(0) == "3 of 20"  # 6 and 3 tokens in blocks of 4
    assert empty.at(0) == "25%"
    assert context.at(0) == f"{1 - 9 / 128:.0%}"
    assert (known.at(1), known.at(2)) == ("0", "4")  # C opens as A does: one full block
    assert "C finds 4 tokens in known blocks and reads 2 tokens." in shown.captions[2]
    assert film(served(20, share=False), 20).numbers[3].at(2) == "0"
    assert shown.captions[-1].endswith("the blocks are given back.")
    assert held.at(shown.steps - 1) == "0 of 20"


def test_the_explorer_serves_anew() -> None:
    explorer = BlockTableExplorer(MODEL, [Asked(0, tuple(range(1, 8)), 5)] * 3)
    assert "16 blocks of 8 tokens" in explorer.summary()
    explorer.controls["size"].value = 16
    assert "8 blocks of 16 tokens" in explorer.summary()
    assert len(list(explorer.player.film.panels[1].cells())) == 8
    assert explorer.picture().startswith("<svg")


def test_it_opens_at_the_first_preemption() -> None:
    asked = [replace(one, prompt=one.prompt * 3, more=24) for one in ASKED]
    explorer = BlockTableExplorer(MODEL, asked)
    explorer.controls["share"].value = False
    assert "the newest, gives back" in explorer.player.film.captions[explorer.player.step]


# The timeline


def timed(record: Record, seconds: list[float]) -> Timeline:
    """A run whose steps took so long."""
    moments = [
        replace(moment, step=replace(moment.step, seconds=s))
        for moment, s in zip(record.moments, seconds, strict=False)
    ]
    return Timeline(replace(record, moments=moments))


def test_bars_are_what_each_request_did_in_each_step() -> None:
    record = served(budget=4, share=False)
    line = timed(record, [0.001 * (1 + i) for i in range(len(record.moments))])
    shown = timeline_film(line)
    for number, lane in enumerate(shown.panels[0].lanes):
        assert [bar.step for bar in lane.bars] == list(
            range(line.arrival(number), lane.bars[-1].step + 1)
        )
        for bar in lane.bars:
            moment = record.moments[bar.step]
            assert bar.end - bar.start == pytest.approx(1 + bar.step)
            reads = number in moment.step.reads
            assert (bar.series == "waiting") == (not reads)
            assert (bar.series == "prefill") == (number in moment.prefill)
    assert line.ends[-1] == pytest.approx(sum(1 + i for i in range(len(record.moments))))


def test_ttft_and_the_longest_gap() -> None:
    asked = [Asked(0, (1, 2), 4), Asked(2, (1, 2, 3), 1)]
    record = serve(Engine(MODEL, blocks=9, budget=9, share=False), asked, one_each)
    line = timed(record, [0.01, 0.02, 0.07, 0.03])
    assert (line.ttft(0), line.longest_gap(0)) == (pytest.approx(10), pytest.approx(70))
    assert (line.ttft(1), line.longest_gap(1)) == (pytest.approx(70), 0)
    notes = timeline_film(line).panels[0].lanes[0].notes
    assert notes[0] == "TTFT 10 ms, longest gap 0 ms"
    assert notes[3] == "TTFT 10 ms, longest gap 70 ms"


def test_chunks_change_who_reads_how_much() -> None:
    def late(count: int) -> list[Asked]:
        return [*ASKED[:2], Asked(4, (1, 2) * (count // 2), 2)]

    explorer = TimelineExplorer(MODEL, late, (40, 60))
    assert "Chunks off, a prompt of 60 tokens" in explorer.summary()
    assert sum("C prefills" in text for text in explorer.player.film.captions) == 1
    explorer.controls["budget"].value = 16
    assert sum("C prefills" in text for text in explorer.player.film.captions) > 3
    explorer.controls["length"].value = 40
    assert "a prompt of 40 tokens" in explorer.readout.text


# Load


def test_loads_are_medians_over_requests() -> None:
    requests = {
        i: Served(Asked(i, (1,), 3), [1, 2, 3], [i + 1.0 + i, i + 2.0 + i, i + 3.0 + i])
        for i in range(7)
    }
    load = measured_load(2.0, Record(requests))
    assert (load.ttft, load.tpot) == (4, 1)
    assert isinstance(load.ttft, Measured)
    assert (load.ttft.low, load.ttft.high) == (1, 7)
    assert load.throughput == 21 / 15
    assert load.rate == 2
    assert load.ttft_p95 == pytest.approx(6.7)


def loads(ttft: float, width: float) -> list[Load]:
    measured = [Measured(x, x - width, x + width) for x in (ttft, 2 * ttft)]
    return [Load(r, r, x, x, 0.1) for r, x in zip((1.0, 2.0), measured, strict=True)]


def test_what_overlaps_is_not_decided() -> None:
    apart = RateExplorer(
        {"here": Rates({"static": loads(3, 0.1), "new": loads(1, 0.1)}, "measured")}
    )
    assert apart.chart().headline == "New waits less at every rate"
    wide = RateExplorer(
        {"here": Rates({"static": loads(1.5, 0.9), "new": loads(1, 0.9)}, "measured")}
    )
    assert wide.chart().headline.startswith("Not decided on this machine now")
    assert wide.summary().startswith("Not decided")


def test_each_machine_says_where_its_numbers_come_from() -> None:
    card = Rates({"at most 4": [Load(1, 5, 0.5, 1, 0.1), Load(8, 9, 2.0, 3, 0.1)]}, "computed")
    explorer = RateExplorer({"card": card})
    assert explorer.chart().y_title == "median TTFT (ms), computed"
    assert explorer.chart().headline == "More arrivals, longer waits: at most 4"
    assert "500 at 1 requests a second, 2,000 at 8 (computed)" in explorer.summary()
    explorer.controls["show"].value = "throughput"
    assert explorer.chart().headline.startswith("Throughput grows")
    assert list(explorer.chart().series[0].y) == [5, 9]
