"""`minillm formats`: what it writes can be read again, and is what the shipped model does."""

import json
from pathlib import Path

import pytest

import minillm
from minillm.commands import formats
from minillm.commands.main import main
from minillm.data import recorded
from minillm.data.heldout import in_domain_stories
from minillm.measure.divergence import divergences
from minillm.quantization import quantize_model, record
from minillm.tokens import encode


def test_the_command_writes_what_can_be_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(formats, "_TEXTS", 2)
    monkeypatch.setattr(recorded, "_DATA", tmp_path)
    out = tmp_path / "formats.json"
    argv = ["formats", "stories-draft", "--out", str(out)]
    assert main(argv) == 0
    assert "10 points of stories-draft" in capsys.readouterr().out
    assert json.loads(out.read_text())["command"] == (
        "minillm formats stories-draft --out formats.json"
    )
    found = record.read()
    assert found.keys() == {"float32", record.BOTH, *record.SPECS}
    assert found["int2"].judged.kl.sum() > found["int8"].judged.kl.sum() > 0
    assert found["float32"].judged.tokens.tolist() == [128, 128]
    assert all(not each.seconds.few and each.seconds > 0 for each in found.values())
    assert main(argv) == 2
    assert "is there already" in capsys.readouterr().err


def test_the_record_is_of_the_formats_that_lesson_10_shows() -> None:
    found = record.read()
    count = sum(p.numel() for p in minillm.load("stories")[0].parameters())
    assert found.keys() == {"float32", record.BOTH, *record.SPECS}
    assert {len(each.judged.kl) for each in found.values()} == {48}
    assert found["float32"].nbytes == 4 * count
    assert 8 < 8 * found["int8"].nbytes / count < 8.2
    assert found["float32"].judged.kl.abs().max() < 1e-2


@pytest.mark.slow
def test_the_recorded_losses_are_those_of_the_shipped_model() -> None:
    model, tokenizer = minillm.load("stories")
    texts = [encode(tokenizer, story)[:129] for story in in_domain_stories()[:3]]
    found = record.read()
    for name in ("nf4", "int3"):
        small = quantize_model(model, record.SPECS[name])
        assert small.nbytes == found[name].nbytes
        again = divergences(model, {name: small}, texts)[name]
        for what in ("loss", "added", "kl"):
            told = getattr(found[name].judged, what)[:3]
            assert told.tolist() == pytest.approx(getattr(again, what).tolist(), abs=0.05)


def test_a_step_leaves_the_cache_as_it_was() -> None:
    timed = record.stepper(minillm.load("stories-draft")[0])
    assert all(timed() > 0 for _ in range(40))  # more steps than the cache has room for
