"""`minillm hypothesis`: branches are runs of their own, arms are what they say, nothing is lost."""

import json
from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import get_args

import pytest
import torch

from minillm.commands import hypothesis as hypothesis_command
from minillm.commands.hypothesis import SHAPE, branch, points_of
from minillm.commands.main import main
from minillm.data import recorded
from minillm.data.heldout import stories
from minillm.measure.evaluation import evaluate
from minillm.measure.ranks import page, signed_rank
from minillm.quantization.model import matrices, quantize_model
from minillm.quantization.rounding import dequantize
from minillm.quantization.spec import Spec
from minillm.scaling.overtraining import FEW_BITS, Point, Rate, Text, decay_effect, read, trend
from minillm.tokens import END_OF_TEXT
from minillm.training.data import TrainingData
from minillm.training.recipe import Recipe
from minillm.training.trainer import Trainer, new_trainer

TINY = SHAPE | {"vocabulary": 300, "context": 32, "batch": 4, "warmup": 2}


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """To train on, and held out."""
    folder, joined = tmp_path_factory.mktemp("texts"), f"\n{END_OF_TEXT}\n"
    parts = {"train.txt": stories()[:14], "held.txt": stories()[40:42]}
    for name, part in parts.items():
        (folder / name).write_text(joined.join(part), encoding="utf-8")
    return folder / "train.txt", folder / "held.txt"


@pytest.fixture(scope="module")
def recipe(texts: tuple[Path, Path]) -> Recipe:
    return Recipe((str(texts[0]),), validation=str(texts[1]), decay_fraction=0, steps=32, **TINY)


@pytest.fixture(scope="module")
def data(recipe: Recipe) -> TrainingData:
    return TrainingData.read(recipe)


def trained(recipe: Recipe, data: TrainingData) -> Trainer:
    trainer = new_trainer(recipe, data.tokens, data.tokenizer, "cpu")
    while trainer.done < 1:
        trainer.advance()
    return trainer


@pytest.fixture(scope="module")
def points(recipe: Recipe, data: TrainingData) -> list[Point]:
    return [*points_of(recipe, data, "unique"), *points_of(recipe, data, "repeated")]


def test_a_branch_is_a_run_of_its_own(recipe: Recipe, data: TrainingData) -> None:
    trunk = new_trainer(recipe, data.tokens, data.tokenizer, "cpu")
    for _ in range(12):
        trunk.advance()
    before = [weight.clone() for weight in trunk.model.parameters()]
    falling = branch(trunk, 16)
    while falling.done < 1:
        falling.advance()
    alone = trained(replace(recipe, steps=16, decay_fraction=0.25), data)
    for ours, theirs in zip(falling.model.parameters(), alone.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert falling.model.head.weight is falling.model.embed.weight
    for weight, same in zip(trunk.model.parameters(), before, strict=True):
        assert torch.equal(weight, same)  # the trunk does not feel its branches
    for _ in range(20):
        trunk.advance()
    for ours, theirs in zip(
        trunk.model.parameters(), trained(recipe, data).model.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_each_arm_has_its_points(points: list[Point]) -> None:
    row = 4 * 32
    for text, rate in product(get_args(Text), get_args(Rate)):
        arm = [point.tokens for point in points if (point.text, point.rate) == (text, rate)]
        assert arm == [4 * row, 8 * row, 16 * row, 32 * row]
    assert {tuple(point.rounded) for point in points} == {FEW_BITS}


@pytest.mark.parametrize(("text", "share"), [("unique", 1.0), ("repeated", 0.25)])
def test_a_point_is_what_a_plain_run_comes_to(
    text: Text, share: float, recipe: Recipe, data: TrainingData, points: list[Point]
) -> None:
    tokens = data.tokens if share == 1 else data.tokens[: 32 * 4 * 32 // 4]
    end = trained(replace(recipe, steps=16), replace(data, tokens=tokens)).model
    [found] = [p for p in points if (p.text, p.rate, p.tokens) == (text, "constant", 16 * 128)]
    assert found.loss == evaluate(end, data.validation).loss
    quantized = quantize_model(end, Spec("int3", 32, symmetric=False))
    with torch.no_grad():
        for name, weight in matrices(end).items():
            if name != "embed":
                weight.copy_(dequantize(quantized.get_submodule(name).quantized))
    assert found.rounded["int3"] == pytest.approx(evaluate(end, data.validation).loss, abs=1e-6)


def made_up(seeds: int) -> list[Point]:
    """Loss added grows with tokens at a constant rate; decay adds a tenth, but in one pair."""
    return [
        Point(seed, text, rate, tokens, 2.0, dict.fromkeys(FEW_BITS, 2 + added))
        for seed, text, rate, tokens in product(
            range(seeds), get_args(Text), get_args(Rate), (400, 100, 200)
        )
        for added in [
            tokens / 1000
            + seed / 100
            + 0.1 * (rate == "decayed")
            - 0.5 * ((seed, rate, tokens) == (0, "decayed", 400))
        ]
    ]


def test_trend_is_pages_test_over_seeds() -> None:
    points = made_up(3)
    assert trend(points, "unique", "constant", "int4").p == Fraction(1, 6**3)
    found = trend(points, "repeated", "decayed", "int2")
    assert found == page([[2.0, 3.0, 1.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])


def test_decay_is_tested_on_pairs_of_equal_seed_and_tokens() -> None:
    points = made_up(3)
    assert decay_effect(points, "unique", "int4", tokens=100).p == Fraction(1, 8)
    pairs = [round(p.added("int3"), 3) for p in points if p.text == "unique"]
    assert len(pairs) == 18
    found = decay_effect(points, "unique", "int3")
    assert found.smallest == Fraction(1, 2**9)
    assert found.statistic == signed_rank([1.0] * 8 + [-4.0]).statistic


# The command


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hypothesis_command, "SHAPE", TINY)


def command(texts: tuple[Path, Path], folder: Path, *options: str) -> list[str]:
    train, held = texts
    places = ["--validation", str(held), "--runs", str(folder / "runs")]
    return ["hypothesis", str(train), *places, "--out", str(folder / "out.json"), *options]


@pytest.mark.usefixtures("tiny")
@pytest.mark.slow
def test_an_interrupted_experiment_goes_on_from_its_finished_runs(
    texts: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    advance, steps = Trainer.advance, list[int]()

    def interrupted(trainer: Trainer) -> float:
        steps.append(trainer.step)
        if steps.count(0) == 4:
            raise KeyboardInterrupt
        return advance(trainer)

    monkeypatch.setattr(Trainer, "advance", interrupted)
    assert main(command(texts, tmp_path, "--seeds", "3", "5")) == 130
    kept = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert kept == ["repeated-3.json", "unique-3.json", "unique-5.json"]
    monkeypatch.setattr(Trainer, "advance", advance)
    assert main(command(texts, tmp_path, "--seeds", "3", "5")) == 0
    assert "out.json: 32 points of 2 seeds" in capsys.readouterr().out

    record = json.loads((tmp_path / "out.json").read_text())
    assert str(tmp_path) not in json.dumps(record)  # no machine's paths
    assert record["command"] == (
        "minillm hypothesis train.txt --validation held.txt --runs runs --out out.json --seeds 3 5"
    )
    assert record["recipe"]["steps"] % 32 == 0
    assert record["recipe"]["steps"] * 128 <= record["unique_tokens"]  # within one pass
    points = [Point(**point) for point in record["points"]]
    assert {point.seed for point in points} == {3, 5}
    assert trend(points, "unique", "decayed", "int2").smallest == Fraction(1, 24**2)

    other = tmp_path / "runs" / "unique-5.json"
    mine = other.read_text()
    for wrong in ((tmp_path / "runs" / "unique-3.json").read_text(), "{}"):
        other.write_text(wrong)
        assert main([*command(texts, tmp_path, "--seeds", "3", "5"), "--out", "other.json"]) == 2
        assert "unique-5.json is of another experiment" in capsys.readouterr().err
    other.write_text(mine)

    assert main(command(texts, tmp_path)) == 2
    assert "is there already" in capsys.readouterr().err
    (tmp_path / "out.json").unlink()
    monkeypatch.setattr(hypothesis_command, "SHAPE", TINY | {"mlp": 64})
    assert main(command(texts, tmp_path, "--seeds", "3")) == 2
    assert "of another experiment" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (
            ["--seeds", "1", "1"],
            "--seeds must be different numbers from 0 to 2**62 - 1, got [1, 1]",
        ),
        (["--seeds", "-1"], "--seeds must be different numbers from 0 to 2**62 - 1, got [-1]"),
        (["--out", "nowhere/x.json"], "no folder nowhere"),
        (["--validation", "missing.txt"], "no text file missing.txt"),
        ([], "fewer than 65536"),
    ],
)
def test_bad_input_is_one_line(
    options: list[str],
    complaint: str,
    texts: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(command(texts, tmp_path, *options)) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_record_is_written_a_point_a_line_and_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded, "_DATA", tmp_path)
    record = {"command": "c", "points": [{"a": 1}, {"a": 2}]}
    recorded.write(tmp_path / "x.json", record)
    assert recorded.read("x") == record
    assert len((tmp_path / "x.json").read_text().splitlines()) == 7
    with pytest.raises(FileNotFoundError):
        recorded.read("y")


def test_the_record_has_every_arm_of_every_seed() -> None:
    points = read()
    lengths = {point.tokens for point in points}
    arms = product(range(5), ("unique", "repeated"), ("constant", "decayed"), sorted(lengths))
    found = [(point.seed, point.text, point.rate, point.tokens) for point in points]
    assert len(lengths) == 4
    assert sorted(found) == sorted(arms)


def test_points_without_their_pair_are_refused() -> None:
    missing = {("constant", 0), ("decayed", 4)}
    points = [point for point in read() if (point.rate, point.seed) not in missing]
    with pytest.raises(ValueError, match="make no pairs"):
        decay_effect(points, "unique", "int4")
