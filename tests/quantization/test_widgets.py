"""The explorers of lesson 10 say what the library computes; its exercises tell mistakes apart."""

import xml.etree.ElementTree as ET
from typing import Any

import pytest
import torch

from minillm import Transformer
from minillm.measure.noise import Measured
from minillm.quantization.formats import FORMATS
from minillm.quantization.rounding import dequantize, quantize
from minillm.quantization.spec import Spec
from widgets.quantization import (
    BitExplorer,
    DuelExplorer,
    FormatsExplorer,
    GridExplorer,
    LayerErrorExplorer,
    Stored,
    error_by_layer,
)
from widgets.quantization.bits import described, neighbours
from widgets.quantization.duel import relative_error, with_outliers


@pytest.fixture
def model(tiny: Any) -> Transformer:
    return tiny(dtype=torch.float32, hidden_size=64, intermediate_size=128, head_dim=16)


# The grid


@pytest.mark.parametrize("name", FORMATS)
def test_the_grid_of_every_format_is_drawn(model: Transformer, name: str) -> None:
    explorer = GridExplorer(model)
    explorer.controls["format"].value = name
    weights, values = explorer.chart().series
    assert sum(weights.y) == pytest.approx(100, abs=0.1)
    assert len(values.x) == len(FORMATS[name].levels)
    assert f"{len(values.x)} values" in explorer.chart().headline
    assert explorer.readout.text == explorer.summary()
    assert explorer.picture().startswith("<svg")


def test_an_outlier_hurts_and_small_groups_contain_it(model: Transformer) -> None:
    explorer = GridExplorer(model)

    def typical() -> float:
        weight, rounded, _ = explorer._rounded()
        return float((rounded - weight).abs().median())

    explorer.controls["share"].value = "tensor"
    without = typical()
    explorer.controls["outlier"].value = 30
    whole = typical()
    explorer.controls["share"].value = 16
    assert without < whole > 3 * typical()


def test_the_model_is_not_touched_by_its_outlier(model: Transformer) -> None:
    before = model.blocks[0].mlp.gate_up.weight.clone()
    explorer = GridExplorer(model)
    explorer.controls["outlier"].value = 100
    assert model.blocks[0].mlp.gate_up.weight.equal(before)


# By layer


def test_errors_by_layer(model: Transformer) -> None:
    spec = Spec("int4", 64)
    errors = error_by_layer(model, spec)
    assert set(errors) == {"qkv", "out", "gate_up", "down"}
    assert {len(values) for values in errors.values()} == {model.config.num_hidden_layers}
    weight = model.blocks[1].mlp.down.weight.detach()
    error = (dequantize(quantize(weight, spec)) - weight).norm() / weight.norm()
    assert errors["down"][1] == pytest.approx(100 * float(error))
    explorer = LayerErrorExplorer(model)
    explorer.controls["format"].value = "int2"
    assert min(map(min, explorer.errors().values())) > max(map(max, errors.values()))
    explorer.controls["format"].value = "mxfp4"  # has blocks of its own
    assert "mxfp4, groups of 32" in explorer.chart().headline


# Bits


@pytest.mark.parametrize("name", ["fp8_e4m3", "fp8_e5m2", "mxfp4", "int4", "nf4", "int8"])
def test_every_code_can_be_clicked(name: str) -> None:
    explorer = BitExplorer(name, 0)
    form = FORMATS[name]
    for code in range(0, 2**form.bits, 1 if form.bits == 4 else 23):
        for place in range(form.bits):
            explorer.controls[f"bit {place}"].value = bool(code >> place & 1)
        assert explorer.code == code
        assert explorer.readout.text == described(name, code)
        if form.table[code].isfinite():
            value, step, _ = explorer.chart().note
            assert value == form.table[code]
            place = min(form.levels.tolist().index(value), len(form.levels) - 2)
            assert step == form.levels[place + 1] - form.levels[place]


def test_boxes_say_what_their_bit_is() -> None:
    explorer = BitExplorer("fp8_e4m3", 0b1_0111_000)
    boxes = [explorer.controls[f"bit {place}"] for place in range(7, -1, -1)]
    assert [box.description for box in boxes] == list("10111000")
    assert [box.tooltip for box in boxes] == ["sign"] + ["exponent"] * 4 + ["mantissa"] * 3
    assert [k for k, box in enumerate(boxes) if "first" in box._dom_classes] == [0, 1, 5]
    assert all({"bit", box.tooltip} <= set(box._dom_classes) for box in boxes)
    explorer.controls["format"].value = "mxfp4"
    shown = [explorer.controls[f"bit {place}"].layout.display for place in range(7, -1, -1)]
    assert shown == ["none"] * 4 + [""] * 4


def test_neighbours_and_ends() -> None:
    assert neighbours("fp8_e4m3", 0b0111_000) == (0.9375, 1.0, 1.125)
    assert neighbours("fp8_e4m3", 0x7E) == (416.0, 448.0, None)
    assert neighbours("int4", 8) == (None, -8.0, -7.0)
    assert "is NaN" in described("fp8_e4m3", 0x7F)
    assert "from -57344 to 57344" in described("fp8_e5m2", 0x7C)


# Int8 against e4m3


def test_who_wins_depends_on_what_is_rounded() -> None:
    even = torch.randn(32, 64, generator=torch.Generator().manual_seed(0))
    explorer = DuelExplorer(even, even)
    explorer.controls["outliers"].value = 1000
    int8, fp8 = explorer.errors().values()
    assert int8[0] < fp8[0]
    assert int8[2] > fp8[2]
    assert int8[2] == pytest.approx(
        100 * relative_error(with_outliers(even, 1000), Spec("int8"), slice(3, None))
    )
    assert "int8 is closer in 2 of 3" in explorer.chart().headline


# All formats


def test_formats_side_by_side() -> None:
    formats = {"int8": Stored(8.1, 2.02, 0.5, "bytes"), "int4": Stored(4.5, 2.2, 9.0, "unpacked")}
    explorer = FormatsExplorer(Stored(32, 2.0, 1.0, "float32"), formats)
    bits, loss, time = explorer.chart().panels
    assert bits.values == [8.1, 4.5]
    assert loss.values == pytest.approx([0.02, 0.2])
    assert time.values == [0.5, 9.0]
    assert [len(bar.y) for bar in explorer.view.data] == [2, 2, 2]
    ends = [explorer.view.layout[f"xaxis{n}"].range[1] for n in ("", 2, 3)]
    assert ends[0] > 32 > ends[2] > 9 > ends[1] > 0.2  # each on its own scale
    explorer.controls["format"].value = "int4"
    assert "int4: 4.50 bits a weight, loss 2.2000 against 2.0000" in explorer.summary()
    colours = explorer.view.data[0].marker.color
    assert colours[1] != colours[0]
    picture = ET.fromstring(explorer.picture())
    written = {node.text for node in picture}
    assert {"int8", "int4", "8.10", "+0.020", "9.00", "float32"} <= written


def test_a_drift_of_the_machine_does_not_hide_which_format_is_faster() -> None:
    drift = range(1, 10)  # of nine rounds, the last takes nine times as long as the first
    plain, half, tenfold = (Measured.of(x * each for each in drift) for x in (1.0, 0.5, 10.0))
    formats = {"int8": Stored(8.1, 2.0, half, ""), "int4": Stored(4.5, 2.0, tenfold, "")}
    explorer = FormatsExplorer(Stored(32, 2.0, plain, "float32"), formats)
    assert explorer.chart().headline == "Bits fall, loss hardly rises, time needs a kernel"
    assert "0.50 times as long (measured" in explorer.summary()


@pytest.mark.parametrize(
    ("times", "headline"),
    [
        ((0.5, 9.0), "Bits fall, loss hardly rises, time needs a kernel"),
        ((1.5, 9.0), "Bits fall, loss hardly rises, and no format is faster here"),
        ((1.01, 9.0), "Not decided on this machine now: bits a weight, loss above"),
    ],
)
def test_a_format_is_called_faster_only_if_it_was(
    times: tuple[float, float], headline: str
) -> None:
    spread = [Measured(time, 0.95 * time, 1.05 * time) for time in (1.0, *times)]
    plain, *others = (Stored(8.0, 2.0, time, "") for time in spread)
    explorer = FormatsExplorer(plain, dict(zip(("int8", "int4"), others, strict=True)))
    assert explorer.view.layout.title.text.startswith(headline)
    assert explorer.readout.text.startswith("Not decided") == headline.startswith("Not decided")
    assert explorer.view.data[2].error_x.visible
