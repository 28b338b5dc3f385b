"""The roofline explorers show what was counted and measured, from data alone."""

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from minillm import Transformer
from minillm.data.hardware import ACCELERATORS
from minillm.data.public_models import LLAMA_3_8B
from minillm.measure.machine import Machine
from minillm.roofline import Work, seconds, work
from widgets.common.stable import digits
from widgets.common.theme import BASELINE, CURVES
from widgets.roofline import FreeBatchExplorer, Roof, RooflineExplorer, roofline_chart

MIB = 1 << 20
MACHINE = Machine("cpu", torch.float32, 2, {4 * MIB: 4e10, 64 * MIB: 2e10}, 1.2e11, 1e-6)


# The roof


PHASES = {
    "slow": Work(2_000_000, 1_000_000, 0, 0),
    "fast": Work(90_000_000, 1_000_000, 0, 0),
}


def test_a_pass_reaches_up_to_the_roof() -> None:
    chart = roofline_chart(PHASES, 100e9, 10e9)
    roof, slow, fast = chart.series
    assert (roof.x, roof.y) == ([1.0, 10.0, 180.0], [10.0, 100.0, 100.0])
    assert (slow.x, slow.y) == ([2.0, 2.0], [10.0, 20.0])  # 2 FLOP a byte, 10 GB a second
    assert (fast.x, fast.y) == ([90.0, 90.0], [10.0, 100.0])
    assert roof.baseline
    assert not slow.baseline
    assert chart.note == (10.0, 100.0, "ridge: 10.0 FLOP a byte")
    assert chart.log_x
    assert chart.log_y


def test_what_was_measured_stands_at_its_own_rate() -> None:
    late, early = (PHASES["fast"], 0.01), (PHASES["slow"], 0.02)
    *_, slow, _fast, measured = roofline_chart(PHASES, 100e9, 10e9, [late, early]).series
    assert measured.name == "measured here"
    assert measured.x == [2.0, 90.0]
    assert measured.y == pytest.approx([0.1, 9.0])
    assert slow.y[0] == 0.1  # lines begin where the axis does


def roofline(draft: Transformer, *, measured: Any = (), **values: Any) -> RooflineExplorer:
    """An explorer whose controls were moved to these values or labels."""
    models = {"stories": draft.config, "Llama-3-8B": LLAMA_3_8B}
    explorer = RooflineExplorer(models, MACHINE, measured)
    for name, value in values.items():
        attribute = "label" if isinstance(value, str) else "value"
        setattr(explorer.controls[name], attribute, value)
    return explorer


@pytest.mark.parametrize("machine", ["this machine", "A100 80 GB SXM", "H100 SXM", "RTX 4090"])
@pytest.mark.parametrize("model", ["stories", "Llama-3-8B"])
@pytest.mark.parametrize(("together", "context"), [(1, 16), (8, 512), (512, 131_072)])
def test_phases_stand_at_their_intensity_under_the_roof(
    draft: Transformer, machine: str, model: str, together: int, context: int
) -> None:
    config = {"stories": draft.config, "Llama-3-8B": LLAMA_3_8B}[model]
    size = 4 if machine == "this machine" else 2
    sizes = {"weight_bytes": size, "cache_bytes": size}
    phases = {
        "prefill": work(config, new=context, logits="last", **sizes),
        "decode": work(config, new=1, cached=context, **sizes),
        f"{together} tokens of one text": work(config, new=together, cached=context, **sizes),
        f"{together} texts": work(config, new=1, cached=context, batch=together, **sizes),
    }
    if machine == "this machine":
        flops = MACHINE.flops
        bandwidth = MACHINE.bandwidth_at(phases["decode"].nbytes)
    else:
        flops, bandwidth = ACCELERATORS[machine].flops, ACCELERATORS[machine].bandwidth
    explorer = roofline(draft, machine=machine, model=model, together=together, context=context)
    roof, *drawn, ridge = explorer.view.data
    assert max(roof.y) == pytest.approx(flops / 1e9)
    assert roof.y[0] == pytest.approx(min(roof.x) * bandwidth / 1e9)
    assert (ridge.x[0], ridge.y[0]) == pytest.approx((flops / bandwidth, flops / 1e9))
    for trace, (name, step) in zip(drawn, phases.items(), strict=True):
        assert trace.name == name
        assert trace.x == pytest.approx([step.intensity] * 2)
        assert trace.y[1] == pytest.approx(step.flops / seconds(step, flops, bandwidth) / 1e9)
        assert trace.y[1] > trace.y[0]
    assert explorer.readout.text == explorer.summary()
    for told in (*phases, f"context {context:,}", f"{size} bytes a weight", machine, model):
        assert told in explorer.summary()
    beyond = f"beyond the {config.max_position_embeddings:,} it was trained for"
    assert (beyond in explorer.summary()) == (context > config.max_position_embeddings)


def test_the_readout_says_where_the_rates_come_from(draft: Transformer) -> None:
    decode = work(draft.config, new=1, cached=64)
    explorer = roofline(draft, context=64)
    bandwidth = MACHINE.bandwidth_at(decode.nbytes)
    assert explorer.summary().startswith(
        f"this machine: 120 GFLOP/s, {digits(bandwidth / 1e9)} GB/s (measured), cpu, 2 threads; "
        f"so the ridge is at {digits(120e9 / bandwidth)} FLOP a byte. stories in 4 bytes a weight "
        "at context 64, FLOP a byte and ms at best: "
    )
    told = f"; decode {digits(decode.intensity)} and {digits(1e3 * decode.nbytes / bandwidth)}; "
    assert told in explorer.summary()
    assert explorer.summary().endswith(" (computed).")
    explorer.controls["machine"].label = "A100 80 GB SXM"
    assert explorer.readout.text.startswith(
        "A100 80 GB SXM: 312,000 GFLOP/s, 2,039 GB/s (cited), NVIDIA, A100 data sheet of 2021; so "
        "the ridge is at 153 FLOP a byte. stories in 2 bytes a weight"
    )


def test_dots_count_the_bytes_of_a_weight_that_the_measured_passes_read(draft: Transformer) -> None:
    halves = work(draft.config, new=1, cached=64, weight_bytes=2)
    explorer = RooflineExplorer(
        {"stories": draft.config}, MACHINE, [(halves, 1e-3)], weight_bytes=2
    )
    explorer.controls["context"].value = 64
    decode, measured = explorer.view.data[2], explorer.view.data[-2]
    assert (decode.name, measured.name) == ("decode", "measured here")
    assert decode.x[0] == measured.x[0] == halves.intensity
    assert "stories in 2 bytes a weight" in explorer.summary()


def test_a_roof_shows_passes_of_an_accelerator_and_says_their_times() -> None:
    card = ACCELERATORS["A100 80 GB SXM"]
    roof = Roof(PHASES, card)
    top, *dots, ridge = roof.view.data
    assert max(top.y) == pytest.approx(card.flops / 1e9)
    assert ridge.x[0] == pytest.approx(card.flops / card.bandwidth)
    for dot, (name, step) in zip(dots, PHASES.items(), strict=True):
        assert dot.name == name
        assert dot.x == pytest.approx([step.intensity] * 2)
        took = digits(1e3 * seconds(step, card.flops, card.bandwidth))
        assert f"{name} {digits(step.intensity)} FLOP a byte, {took} ms at best" in roof.summary()
    assert roof.summary().startswith("A100 80 GB SXM: ")


def test_measured_passes_stay_when_the_machine_changes(draft: Transformer) -> None:
    steps = [(work(draft.config, new=m, cached=64), 1e-3 * (1 + m)) for m in (8, 1, 2)]
    explorer = roofline(draft, measured=steps)
    before = explorer.view.data[-2]
    assert before.name == "measured here"
    by_intensity = sorted(steps, key=lambda pair: pair[0].intensity)
    assert before.x == tuple(step.intensity for step, _ in by_intensity)
    assert before.y == pytest.approx([step.flops / s / 1e9 for step, s in by_intensity])
    x, y = before.x, before.y
    for label in ("H100 SXM", "this machine"):
        explorer.controls["machine"].label = label
        assert (explorer.view.data[-2].x, explorer.view.data[-2].y) == (x, y)


@pytest.mark.parametrize(
    ("control", "value"),
    [("machine", "H100 PCIe"), ("together", 32), ("context", 4096), ("model", "Llama-3-8B")],
)
def test_a_control_changes_all_that_is_shown(
    draft: Transformer, control: str, value: int | str
) -> None:
    explorer, before = roofline(draft, **{control: value}), roofline(draft)
    assert explorer.readout.text != before.readout.text
    assert explorer.picture() != before.picture()
    assert [t.x for t in explorer.view.data] != [t.x for t in before.view.data]


def test_lines_differ_in_colour_and_dashes(draft: Transformer) -> None:
    step = work(draft.config, new=1)
    roof, *others, _ridge = roofline(draft, measured=[(step, 1e-3)]).view.data
    assert roof.line.color == BASELINE.light
    assert len({trace.line.color for trace in others}) == len(others) == len(CURVES)
    assert len({trace.line.dash for trace in others}) == len(others)


def test_roofline_is_stored_as_picture_and_line(draft: Transformer) -> None:
    one, two = (roofline(draft).outputs()[0] for _ in range(2))
    assert one["text/html"] == two["text/html"]
    assert one["text/plain"] == two["text/plain"] == roofline(draft).summary()
    assert "\n" not in one["text/plain"]
    root = ET.fromstring(roofline(draft).picture())
    assert (root.get("role"), root.get("aria-label")) == ("img", one["text/plain"])


@pytest.mark.parametrize("machine", ["this machine", *ACCELERATORS])
def test_what_is_written_lies_inside_of_the_picture(draft: Transformer, machine: str) -> None:
    """On both ends of the sliders: the ridge with its text, and every name of the legend."""
    step = work(draft.config, new=1, cached=64)
    explorer = roofline(draft, measured=[(step, 1e-3)], machine=machine)
    for together, context in ((1, 16), (512, 131_072)):
        for name, value in (("together", together), ("context", context)):
            explorer.controls[name].value = value
        root = ET.fromstring(explorer.picture())
        (ridge,) = (node for node in root if (node.text or "").startswith("ridge: "))
        assert 220 < int(ridge.attrib["x"]) < 936  # its text ends there
        written = [node for node in root if node.get("text-anchor") == "start"]
        assert all(int(n.attrib["x"]) + 6 * len(n.text or "") < 960 for n in written)


def test_three_controls_are_seen_at_once_and_each_has_a_name(draft: Transformer) -> None:
    for explorer, folded in ((roofline(draft), 1), (free_batch(), 0)):
        shown = set(explorer.controls.values()) & set(explorer.children[0].children)
        assert len(shown) <= 3
        assert len(explorer.controls) == len(shown) + folded
        assert all(control.description for control in explorer.controls.values())


# Tokens together


MEASURED = {
    "F.linear": {1: 2e-3, 2: 4e-3, 4: 5e-3, 8: 6e-3},
    "<packed>": {8: 3e-3, 1: 2e-3, 4: 2.2e-3, 2: 2.1e-3},
}
PREDICTED = {m: 1e-3 * max(1, m / 4) for m in range(1, 9)}
RECORDED = ("recorded elsewhere", {1: 10.0, 2: 10.5, 8: 14.0})


def free_batch(**changed: Any) -> FreeBatchExplorer:
    given = {"measured": MEASURED, "predicted": PREDICTED, "recorded": RECORDED} | changed
    return FreeBatchExplorer(title="Nearly free", **given)


def test_times_are_drawn_over_the_time_of_one() -> None:
    none, stock, packed, roof, recorded, free, mark = free_batch().view.data
    assert none.name == "no gain"
    assert none.x == none.y == pytest.approx((0, 3.6))  # a fifth above the others
    assert (stock.name, stock.x, stock.y) == ("F.linear", (1, 2, 4, 8), (1, 2, 2.5, 3))
    assert (packed.name, packed.x) == ("<packed>", (1, 2, 4, 8))  # in order
    assert packed.y == pytest.approx((1, 1.05, 1.1, 1.5))
    assert (roof.name, roof.x) == ("roofline", tuple(range(1, 9)))
    assert roof.y == pytest.approx((1, 1, 1, 1, 1.25, 1.5, 1.75, 2))
    assert (recorded.name, recorded.x) == ("recorded elsewhere", (1, 2, 8))
    assert recorded.y == pytest.approx((1, 1.05, 1.4))
    assert (free.text[0], set(free.y)) == ("free", {1.0})
    assert (mark.x, mark.y, mark.text) == ((8,), (3,), ("3.00×",))
    assert none.line.color == BASELINE.light


def test_the_line_of_no_gain_ends_where_the_tokens_do() -> None:
    slow = {"slow": {1: 1.0, 2: 2.5, 4: 6.0}}
    none = free_batch(measured=slow, predicted={1: 1, 2: 1, 4: 1}, recorded=("r", {1: 1, 4: 1}))
    assert none.view.data[0].x == (0, 4)


def test_the_mark_is_of_the_chosen_run_and_count() -> None:
    explorer = free_batch(together="texts")
    assert [value for _, value in explorer.controls["m"].options] == [1, 2, 8]  # of every run
    explorer.controls["run"].value = "<packed>"
    assert explorer.view.data[-1].y == (1.5,)
    explorer.controls["m"].value = 2
    mark = explorer.view.data[-1]
    assert (mark.x, mark.text) == ((2,), ("1.05×",))
    assert explorer.readout.text == (
        "<packed>: one takes 2.00 ms, 2 texts take 2.10 ms, 1.05 times as long, so each is 1.9 "
        "times cheaper (measured); the roofline says 1.00 times (computed), recorded elsewhere "
        "1.05."
    )
    assert explorer.view.layout.xaxis.title.text == "m: texts"
    assert explorer.view.layout.title.text == "Nearly free"


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"measured": {"F.linear": {2: 1.0}}}, "F.linear"),
        ({"predicted": {2: 1.0, 4: 2.0}}, "roofline"),
        ({"recorded": ("elsewhere", {})}, "elsewhere"),
    ],
)
def test_a_run_without_one_token_is_refused(changed: Mapping[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' has no time of one"):
        free_batch(**changed)


def test_free_batch_is_stored_as_picture_and_line() -> None:
    one, two = (free_batch().outputs()[0] for _ in range(2))
    assert one["text/html"] == two["text/html"]
    assert one["text/plain"] == free_batch().summary()
    root = ET.fromstring(free_batch().picture())
    assert root.get("aria-label") == one["text/plain"]
    written = {node.text for node in root}
    assert {"no gain", "F.linear", "<packed>", "roofline", "recorded elsewhere"} <= written


def test_one_kernel_and_one_count_can_be_shown() -> None:
    only: dict[int, float] = {1: 1e-3}
    explorer = free_batch(measured={"only": only}, predicted=only, recorded=("r", only))
    assert explorer.summary().startswith("only: one takes 1.00 ms, 1 tokens of one text")
    assert explorer.view.data[0].x == (0, 1)
