"""`minillm kbit`: bits as stored, losses as the packed model has them, the best by hand."""

import json
import math
from itertools import islice
from pathlib import Path

import pytest
import torch
from oracles import tiny, tokens_of

import minillm
from minillm.commands import kbit as kbit_command
from minillm.commands.main import main
from minillm.data import heldout, recorded
from minillm.measure.evaluation import evaluate
from minillm.quantization.model import quantize_model
from minillm.quantization.simulated import rounded
from minillm.quantization.spec import Spec
from minillm.scaling import kbit
from minillm.scaling.kbit import PRECISIONS, KBit, best_at, frontier, loss_at, measure, stored_bits
from minillm.tokens import encode_all

SPECS = [Spec("int3", symmetric=False), Spec("int4", 4), Spec("nf4", "tensor")]


@pytest.fixture
def model() -> minillm.Transformer:
    return tiny(minillm, dtype=torch.float32)


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("tied", [True, False])
def test_a_rounded_model_computes_what_the_packed_one_does(spec: Spec, tied: bool) -> None:
    model = tiny(minillm, dtype=torch.float32, tie_word_embeddings=tied)
    before, tokens = [p.clone() for p in model.parameters()], tokens_of(0, 2, 9)
    twin = rounded(model, spec)
    torch.testing.assert_close(twin(tokens), quantize_model(model, spec)(tokens))
    assert (twin.head.weight is twin.embed.weight) == tied
    for weight, same in zip(model.parameters(), before, strict=True):
        assert torch.equal(weight, same)


def test_an_embedding_left_alone_is_the_models_own(model: minillm.Transformer) -> None:
    twin = rounded(model, SPECS[0], embedding=False)
    assert torch.equal(twin.embed.weight, model.embed.weight)
    assert torch.equal(twin.head.weight, model.head.weight)
    assert not torch.equal(twin.blocks[0].mlp.down.weight, model.blocks[0].mlp.down.weight)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_bits_are_those_of_the_packed_model(spec: Spec, model: minillm.Transformer) -> None:
    norms = sum(p.numel() for p in model.parameters() if p.ndim == 1)
    packed = quantize_model(model, spec)  # keeps norms in float32
    assert stored_bits(model, spec) == 8 * packed.nbytes - 16 * norms
    embedding = 8 * spec.nbytes(*model.embed.weight.shape)
    assert stored_bits(model, spec) - stored_bits(model, spec, embedding=False) == embedding


def test_sixteen_bits_are_the_weights_of_the_shipped_file() -> None:
    for name in minillm.shipped():
        model, _ = minillm.load(name)
        parameters = sum(p.numel() for p in model.parameters())
        assert stored_bits(model, None) == 16 * parameters
        assert stored_bits(model, None, embedding=False) == 16 * (
            parameters - model.embed.weight.numel()
        )


def test_a_model_is_measured_at_every_precision_with_its_embedding_and_without() -> None:
    model = tiny(minillm, dtype=torch.float32, max_position_embeddings=64)
    tokens = tokens_of(1, 90)
    points = list(measure("tiny", model, tokens))
    assert [(p.embedding, p.bits) for p in points] == [
        (embedding, bits) for embedding in (True, False) for bits in PRECISIONS
    ]
    [four] = [p for p in points if p.bits == 4 and p.embedding]
    packed = quantize_model(model, Spec("int4", symmetric=False))
    assert four.loss == pytest.approx(evaluate(packed, tokens).loss, abs=1e-6)
    assert [p.loss for p in points if p.bits == 16] == [evaluate(model, tokens).loss] * 2
    sizes = [p.stored for p in points]
    assert sizes[:5] == sorted(sizes[:5])
    assert all(without < whole for whole, without in zip(sizes[:5], sizes[5:], strict=True))


def family(bits: int, *sizes: tuple[int, float]) -> list[KBit]:
    return [KBit(str(stored), bits, True, stored, loss) for stored, loss in sizes]


def test_between_two_sizes_loss_is_interpolated_in_the_logarithm_of_bits() -> None:
    points = family(4, (100, 3.0), (800, 2.4), (200, 2.5)) + family(8, (300, 9.0))
    assert loss_at(points, 4, 100) == 3.0
    assert loss_at(points, 4, 200) == 2.5
    assert loss_at(points, 4, 400) == pytest.approx(2.45)
    assert loss_at(points, 4, 100 * math.sqrt(2)) == pytest.approx(2.75)
    assert loss_at(points, 4, 99) is loss_at(points, 4, 801) is loss_at(points, 2, 200) is None
    assert loss_at(points, 8, 300) is None  # one size is no family
    seeds = [KBit("again", 4, True, 100, 3.5), *points, KBit("third", 4, True, 200, 2.75)]
    assert (loss_at(seeds, 4, 100), loss_at(seeds, 4, 200)) == (3.0, 2.5)  # of a size the best


def test_the_best_precision_was_set_against_its_neighbours() -> None:
    points = (
        family(3, (75, 3.4), (300, 2.9))
        + family(4, (100, 3.0), (400, 2.5))
        + family(8, (200, 2.9), (800, 2.4))
        + family(16, (400, 2.9), (1600, 2.4))
    )
    assert best_at(points, 250) == 4
    assert best_at(points, 150) is None  # no model so small in 8 bits
    assert best_at(points, 350) is None  # none so large in 3
    assert best_at(points, 700) is None  # 8 bits win for want of a larger model in 4
    assert best_at(points, 10) is None
    assert best_at(family(2, (1, 2.0), (9, 1.0)) + family(3, (1, 3.0), (9, 2.0)), 5) == 2


def test_nothing_on_the_frontier_is_beaten_with_as_few_bits() -> None:
    points = family(4, (100, 3.0), (400, 2.5)) + family(2, (50, 4.0), (200, 3.0), (100, 3.1))
    assert [(p.bits, p.stored) for p in frontier(points)] == [(2, 50), (4, 100), (4, 400)]


def test_the_command_writes_what_can_be_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kbit_command, "stories", lambda: heldout.stories()[:2])
    monkeypatch.setattr(recorded, "_DATA", tmp_path)
    out = tmp_path / "kbit.json"
    argv = ["kbit", "stories-draft", "--out", str(out)]
    assert main(argv) == 0
    assert "10 points of stories-draft" in capsys.readouterr().out
    record = json.loads(out.read_text())
    assert record["command"] == "minillm kbit stories-draft --out kbit.json"
    points = kbit.read()
    assert [point.bits for point in points] == [*PRECISIONS, *PRECISIONS]
    assert points[0].loss > points[4].loss
    assert main(argv) == 2
    assert "is there already" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_to_is_seen_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(PermissionError, match=f"cannot write to {tmp_path}"):
        recorded.refuse_loss(tmp_path / "kbit.json")


@pytest.mark.slow
def test_the_recorded_points_are_those_of_the_shipped_models() -> None:
    points = kbit.read()
    assert {point.model for point in points} <= set(minillm.shipped())
    for name in {point.model for point in points}:
        model, tokenizer = minillm.load(name)
        for point in points:
            if point.model == name:
                spec = None if point.bits == 16 else Spec(f"int{point.bits}", symmetric=False)
                assert point.stored == stored_bits(model, spec, embedding=point.embedding)
    model, tokenizer = minillm.load("stories-xs")
    measured = islice(measure("stories-xs", model, encode_all(tokenizer, heldout.stories())), 3)
    for point, again in zip(points, measured, strict=False):
        assert point.loss == pytest.approx(again.loss, abs=1e-3)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["nothing", "--out", "x.json"], "no model named 'nothing'"),
        (["stories", "--out", "nowhere/x.json"], "no folder nowhere"),
        (["--out", "x.json"], "arguments are required: MODEL"),
    ],
)
def test_bad_input_is_one_line(
    options: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["kbit", *options]) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_two_ways_to_count_are_not_mixed() -> None:
    with pytest.raises(ValueError, match="two laws"):
        loss_at(kbit.read(), 4, 8e6)


def test_models_of_other_tokens_do_not_compare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, tokenizer = minillm.load("stories-xs")
    renamed = type(tokenizer).from_str(tokenizer.to_str().replace("<|endoftext|>", "</s>"))
    minillm.checkpoint.save(tmp_path / "other", model, renamed, torch.float16)
    models = ["stories-xs", str(tmp_path / "other")]
    assert main(["kbit", *models, "--out", str(tmp_path / "k.json")]) == 2
    assert "the models have different tokens" in capsys.readouterr().err


def test_models_of_one_name_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kbit", "stories-xs", "stories-xs", "--out", str(tmp_path / "k.json")]) == 2
    assert "cannot be told apart" in capsys.readouterr().err
