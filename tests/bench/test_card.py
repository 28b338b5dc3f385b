"""The record of a card: measured on the CPU in its place, put in words, refused where none is."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from oracles import tiny

import minillm
from minillm.bench.card import large, measure_card, texts
from minillm.commands.main import main
from minillm.data.public_models import LLAMA_3_8B
from minillm.measure.card import PARTS, recorded_card, said_of
from minillm.transformer import Transformer

CPU = torch.device("cpu")  # stands in for a card
SHAPE = tiny(minillm, max_position_embeddings=64).config
RECORDED: dict[str, Any] = {
    "device": "a card",
    "torch": "2.13.0",
    "dtype": "bfloat16",
    "layers": 32,
    "parts": {
        "tokens": [{"tokens": 1, "ms": 8.0, "times": 1.0}, {"tokens": 8, "ms": 8.4, "times": 1.05}],
        "matrices": [{"rows": 32, "bits16": 0.1, "int8": 0.0512, "fp8": None}],
    },
}


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same measurements, fewer and smaller."""
    smaller: dict[Any, dict[str, Any]] = {
        large: {"_CACHED": 8, "_TOGETHER": (1, 2), "_ROUNDS": 6},
        texts: {"_BATCHES": (1, 2), "_CONTEXTS": (8,), "_NEW_TOKENS": 3, "_ROUNDS": 6},
    }
    for module, values in smaller.items():
        for name, value in values.items():
            monkeypatch.setattr(module, name, value)


def test_every_part_is_measured_and_said(brief: None):
    record = measure_card(CPU, SHAPE)
    assert set(record["parts"]) == set(PARTS)
    assert record["layers"] == SHAPE.num_hidden_layers
    tokens, batches = record["parts"]["tokens"], record["parts"]["batches"]
    assert [row["tokens"] for row in tokens] == [1, 2]
    assert tokens[0]["times"] == 1
    assert batches[0] == {"batch": 1, "differing": 0, "texts": 2}
    for part in PARTS:
        head, *rows = said_of(record, part).splitlines()
        assert head.startswith("recorded: cpu, torch ")
        assert len(rows) == len(record["parts"][part]) > 0


def test_a_text_that_depends_on_the_batch_is_counted(brief: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(texts, "_greedy", lambda model, prompts: [[len(prompts)]] * len(prompts))
    found = list(texts.batches(CPU))
    assert [row["differing"] for row in found] == [0, 2]


def test_what_torch_cannot_do_on_a_device_has_no_number():
    def fails() -> torch.Tensor:
        raise RuntimeError("not implemented for this card")

    found = large._milliseconds(CPU, {"fp8": fails, "int8": lambda: torch.ones(1)})
    assert found["fp8"] is None
    assert found["int8"] is not None


def test_the_large_model_has_eight_billion_weights():
    with torch.device("meta"):
        model = Transformer(LLAMA_3_8B)
    assert sum(p.numel() for p in model.parameters()) == 8_030_261_248  # arXiv 2407.21783


def test_random_weights_give_finite_logits():
    model = large._random(CPU, SHAPE)
    assert model(torch.arange(5)[None]).isfinite().all()


def test_a_record_is_put_in_words():
    assert said_of(RECORDED, "tokens").splitlines() == [
        "recorded: a card, torch 2.13.0, bfloat16, 8B shape, 32 layers",
        "m = 1: 8 ms, 1 times one token",
        "m = 8: 8.4 ms, 1.05 times one token",
    ]
    assert "0.1 ms in 16 bits, 0.0512 ms in int8, - ms in fp8" in said_of(RECORDED, "matrices")


def test_nothing_is_said_where_no_card_was_recorded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    record = tmp_path / "card.json"
    monkeypatch.setattr("minillm.measure.card.RECORD", record)
    assert recorded_card("tokens") == ""
    record.write_text(json.dumps(RECORDED), encoding="utf-8")
    assert recorded_card("tokens") == said_of(RECORDED, "tokens") + "\n"


@pytest.mark.parametrize("part", PARTS)
def test_the_shipped_record_has_every_part_or_there_is_none(part: str):
    assert len(recorded_card(part).splitlines()) != 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--device", "cpu"], "cpu is no card"),
        (["--device", "xpu"], "sees no device xpu"),
        (["--device", "card"], "sees no device card"),
        (["--device", "xpu", "--out", "nowhere/card.json"], "no folder nowhere"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_it_begins(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["bench", *arguments]) == 2
    assert said in capsys.readouterr().err
