"""`minillm train`: optimizer, objective, the order of the data, and that nothing is ever lost."""

import argparse
import errno
import json
import math
import re
import shlex
import signal
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path

import pytest
import torch
import transformers
from safetensors import SafetensorError
from tokenizers import Tokenizer

from minillm import checkpoint
from minillm.commands import train
from minillm.commands.main import main
from minillm.data import heldout
from minillm.measure.evaluation import evaluate
from minillm.modules import gate_outputs
from minillm.tokens import END_OF_TEXT, encode_all
from minillm.training import result as training_result
from minillm.training import state as training_state
from minillm.training.muon import Muon, orthogonalise
from minillm.training.objective import distance_to, training_loss
from minillm.training.recipe import Recipe
from minillm.training.text_data import (
    batch_rows,
    read_texts,
    split_tail,
    tokenizer_named,
    train_tokenizer,
)
from minillm.training.trainer import Trainer, new_model, new_trainer, optimizers

TEXTS = heldout.stories()[:30]
TINY = Recipe(
    ("stories.txt",),
    vocabulary=300,
    layers=2,
    width=16,
    heads=2,
    kv_heads=1,
    head_dim=8,
    mlp=24,
    context=32,
    batch=4,
    steps=12,
    warmup=2,
)
OPTIONS = """
    --vocabulary=300 --layers=2 --width=16 --heads=2 --kv-heads=1 --head-dim=8 --mlp=24 --context=32
    --batch=4 --steps=12 --warmup=2 --validation-share=0.1
    --log-every=4 --validate-every=6 --checkpoint-every=3
""".split()  # noqa: SIM905 (reads as it is typed)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, 300)


@pytest.fixture(scope="module")
def tokens(tokenizer: Tokenizer) -> torch.Tensor:
    return encode_all(tokenizer, TEXTS)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "stories.txt"
    path.write_text(f"\n{END_OF_TEXT}\n".join(TEXTS), encoding="utf-8")
    return path


def fresh(recipe: Recipe, tokens: torch.Tensor, teacher=None) -> Trainer:
    model = new_model(recipe.model_config(recipe.vocabulary), recipe.init_std, recipe.seed)
    return Trainer(model, recipe, tokens, teacher)


def error_of(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    """The one line that `minillm train` says about bad input."""
    capsys.readouterr()
    assert main(["train", *map(str, argv)]) == 2
    line = capsys.readouterr().err.strip()
    assert line.startswith("minillm train: error: ")
    assert "\n" not in line
    return line


# The optimizer


@pytest.mark.parametrize("shape", [(24, 24), (8, 40), (40, 8)])
def test_newton_schulz_orthogonalises(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, s, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    s = s / s.norm()
    lifted = s > 0.05  # the smallest ones need more steps
    for _ in range(5):  # the naive twin: the polynomial, on the singular values alone
        s = 3.4445 * s - 4.775 * s**3 + 2.0315 * s**5
    near = orthogonalise(matrix, steps=5)
    torch.testing.assert_close(near, (u @ s.diag() @ v).float(), atol=1e-4, rtol=0)
    seen = torch.linalg.svdvals(near)
    assert seen[lifted].min() > 0.6
    assert seen.max() < 1.3


def test_muon_treats_a_fused_matrix_as_its_parts():
    generator = torch.Generator().manual_seed(1)
    parts = [torch.randn(rows, 6, generator=generator) for rows in (8, 4, 4)]
    gradients = [
        torch.randn(rows, 6, generator=generator) * scale
        for rows, scale in ((8, 1.0), (4, 30.0), (4, 0.1))
    ]
    fused = torch.nn.Parameter(torch.cat(parts))
    alone = [torch.nn.Parameter(part.clone()) for part in parts]
    optimizer = [
        Muon([{"params": [fused], "rows": [8, 4, 4]}]),
        Muon([{"params": alone, "rows": None}]),
    ]
    for _ in range(3):
        fused.grad = torch.cat(gradients)
        for part, gradient in zip(alone, gradients, strict=True):
            part.grad = gradient.clone()
        for each in optimizer:
            each.step()
    torch.testing.assert_close(fused.data, torch.cat([part.data for part in alone]))


def test_muon_agrees_with_torch():
    """The Muon of torch works in bfloat16, so only the direction can be compared."""
    start = torch.randn(12, 20, generator=torch.Generator().manual_seed(2))
    gradient = torch.randn(12, 20, generator=torch.Generator().manual_seed(3))
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    ours.grad, theirs.grad = gradient.clone(), gradient.clone()
    Muon([{"params": [ours], "rows": None}], lr=0.02, weight_decay=0.1).step()
    torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1).step()
    torch.testing.assert_close(ours.data, theirs.data, atol=3e-4, rtol=0)


def test_every_weight_has_one_optimizer():
    model = new_model(TINY.model_config(300), 0.02, 0)
    muon, adam = optimizers(model, TINY)
    taken = [weight for each in (muon, adam) for g in each.param_groups for weight in g["params"]]
    assert {id(weight) for weight in taken} == {id(weight) for weight in model.parameters()}
    assert len(taken) == len(list(model.parameters()))
    for group in muon.param_groups:
        for weight in group["params"]:
            assert weight.ndim == 2
            assert group["rows"] is None or sum(group["rows"]) == len(weight)


def test_first_weights():
    config = replace(TINY, width=64, mlp=128).model_config(300)
    model, again = new_model(config, 0.02, 5), new_model(config, 0.02, 5)
    for weight, same in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(weight, same)
    assert model.embed.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.blocks[0].mlp.down.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert model.head.weight is model.embed.weight


def test_schedule():
    recipe = Recipe(("text",), warmup=10, decay_fraction=0.5)
    rates = [recipe.rate(step, step / 100) for step in range(100)]
    assert rates[0] == 0.1
    assert rates[9:51] == [1.0] * 42
    assert rates[75] == 0.5
    assert rates[99] == pytest.approx(0.02)
    assert recipe.rate(200, 2.0) == 0  # a run measured in time may end late
    assert Recipe(("text",), warmup=0, decay_fraction=0).rate(0, 0.99) == 1


# The text


def test_rows_are_a_function_of_seed_and_step(tokens):
    def rows(step, seed=0):
        return batch_rows(tokens, 32, 4, seed, step)

    late = rows(40)
    for step in range(5):
        rows(step)
    assert torch.equal(late, rows(40))
    assert not torch.equal(late, rows(40, seed=1))
    assert not torch.equal(late, rows(41))


def test_a_pass_reads_every_token_once_and_the_next_pass_in_other_rows():
    ring = torch.arange(7 * 5)
    passes = [torch.cat([batch_rows(ring, 5, 7, 3, step)]) for step in range(2)]
    for rows in passes:
        assert sorted(rows[:, :-1].flatten().tolist()) == ring.tolist()
        assert torch.equal(rows[:, 1:], (rows[:, :-1] + 1) % len(ring))
    assert not torch.equal(*passes)


def test_texts_are_led_by_end_of_text_and_round_trip(tokenizer):
    packed = encode_all(tokenizer, ["Once upon a time.", "Zoë said “hi”\n\n— twice."])
    assert packed[0] == 0 == tokenizer.token_to_id(END_OF_TEXT)
    assert (packed == 0).sum() == 2
    assert tokenizer.decode(packed.tolist(), skip_special_tokens=False) == (
        f"{END_OF_TEXT}Once upon a time.{END_OF_TEXT}Zoë said “hi”\n\n— twice."
    )


def test_tokenizer_has_the_shipped_settings(tokenizer):
    ours = json.loads(tokenizer.to_str())
    shipped = json.loads(tokenizer_named("stories").to_str())
    assert {k: v for k, v in ours.items() if k != "model"} == {
        k: v for k, v in shipped.items() if k != "model"
    }


def test_read_texts(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(f"\ufeffone\r\n{END_OF_TEXT}\r\n\r\n{END_OF_TEXT}\r\ntwo \r\n".encode())
    assert read_texts([path]) == ["one", "two"]
    assert read_texts([path, path]) == ["one", "two"] * 2


def test_end_of_text_separates_texts_wherever_it_stands(tmp_path, capsys):
    path = tmp_path / "a.txt"
    path.write_text(f"one{END_OF_TEXT}two, {END_OF_TEXT} three")
    assert read_texts([path]) == ["one", "two,", "three"]
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert f"{END_OF_TEXT} separates texts, wherever it stands" in said


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-16"])
def test_a_text_in_another_encoding_is_refused(tmp_path, encoding):
    path = tmp_path / "a.txt"
    path.write_bytes("Once upon a time. ".encode(encoding))
    with pytest.raises(ValueError, match="UTF-8"):
        read_texts([path])


def test_a_teacher_with_tokens_beyond_its_embedding_is_refused(tokenizer, tokens, tmp_path):
    teacher = new_model(TINY.model_config(299), 0.02, 1)
    checkpoint.save(tmp_path, teacher, tokenizer, torch.float32)
    with pytest.raises(ValueError, match="has tokens beyond its embedding"):
        new_trainer(replace(TINY, teacher=str(tmp_path)), tokens, tokenizer, "cpu")


def test_a_word_is_cut_where_learning_it_takes_too_long():
    texts = ["x" * 1000 + "y"] * 2
    learnt = train_tokenizer(texts, 257 + 14).get_vocab()
    assert max(map(len, learnt)) == 1000
    assert not any("xy" in token for token in learnt)


def test_a_vocabulary_with_gaps_gets_an_embedding_for_all_its_numbers(tokens):
    gaps = json.loads(train_tokenizer(TEXTS, 300).to_str())
    gaps["model"]["vocab"]["the end"] = 400
    gapped = Tokenizer.from_str(json.dumps(gaps))
    assert gapped.get_vocab_size() == 301
    assert new_trainer(TINY, tokens, gapped, "cpu").model.config.vocab_size == 401


def test_tail_is_held_out():
    head, tail = split_tail(TEXTS, 0.1)
    assert head + tail == TEXTS
    assert 1 <= len(tail) <= 4
    head, tail = split_tail([" ".join(TEXTS)], 0.1)
    assert head[0] + " " + tail[0] == " ".join(TEXTS)


# The objective


def test_loss_falls(tokens):
    trainer = fresh(replace(TINY, steps=40), tokens)
    losses = [trainer.advance() for _ in range(40)]
    assert losses[0] == pytest.approx(math.log(300), abs=0.1)
    assert losses[-1] < losses[0] - 0.8
    assert trainer.done == 1


def test_each_step_reads_its_own_rows(tokens):
    trainer = fresh(TINY, tokens)
    for step in range(3):
        rows = batch_rows(tokens, TINY.context, TINY.batch, TINY.seed, step)
        expected = training_loss(trainer.model, rows)[1].item()
        assert trainer.advance() == pytest.approx(expected, abs=1e-6)


def test_distillation_lowers_the_distance_to_the_teacher(tokens):
    teacher = fresh(replace(TINY, steps=40, seed=7), tokens)
    for _ in range(40):
        teacher.advance()
    trainer = fresh(replace(TINY, steps=30), tokens, teacher.model)
    rows = batch_rows(tokens, 32, 8, 9, 0)[:, :-1]

    def distance() -> float:
        with torch.no_grad():
            return distance_to(teacher.model(rows), trainer.model(rows)).item()

    before = distance()
    for _ in range(30):
        trainer.advance()
    assert distance() < 0.5 * before


def test_distance_is_kl_per_token():
    wanted, logits = torch.randn(2, 2, 3, 5, generator=torch.Generator().manual_seed(0)).double()
    p, q = wanted.softmax(-1), logits.softmax(-1)
    expected = (p * (p / q).log()).sum(-1).mean()
    torch.testing.assert_close(distance_to(wanted, logits).double(), expected)


def test_loss_with_a_teacher(tokens):
    teacher, student = (fresh(replace(TINY, seed=seed, init_std=0.2), tokens) for seed in (1, 2))
    rows = batch_rows(tokens, 32, 3, 0, 0)
    loss, cross_entropy = training_loss(
        student.model, rows, teacher=teacher.model, cross_entropy_weight=0.25
    )
    wanted, logits = teacher.model(rows[:, :-1]), student.model(rows[:, :-1])
    forward, backward = distance_to(wanted, logits).item(), distance_to(logits, wanted).item()
    assert abs(forward - backward) > 1e-3
    torch.testing.assert_close(loss, distance_to(wanted, logits) + 0.25 * cross_entropy)
    assert all(weight.grad is None for weight in teacher.model.parameters())


def test_l1_silences_gates(tokens):
    zeros = []
    for weight in (0.0, 10.0):
        trainer = fresh(replace(TINY, steps=30, gate_l1=weight), tokens)
        for _ in range(30):
            trainer.advance()
        zeros.append(sum(evaluate(trainer.model, tokens[:200]).gate_zeros) / 2)
    assert zeros[1] > zeros[0] + 0.1


def test_gates_are_seen_only_within_the_block(tokens):
    model, rows = fresh(TINY, tokens).model, tokens[None, :9]
    with gate_outputs(model) as seen:
        loss, cross_entropy = training_loss(model, rows)
        assert len(seen) == 2
        assert seen[0].shape == (1, 8, 24)
        assert loss.item() == cross_entropy.item()
    model(rows)
    assert len(seen) == 2
    penalised, plain = training_loss(model, rows, gate_l1=2.0)
    mean = sum(gate.abs().mean() for gate in seen) / 2
    torch.testing.assert_close(penalised - plain, 2 * mean)


def test_evaluation_counts_every_token_but_the_first(tokens):
    model, some = fresh(TINY, tokens).model, tokens[:77]  # two whole rows and a rest of twelve
    surprise = 0.0
    for start in range(0, 76, 32):
        row = some[start : start + 33]
        loss = training_loss(model, row[None])[1].item()
        surprise += loss * (len(row) - 1)
    result = evaluate(model, some, batch=2)
    assert result.tokens == 76
    assert result.loss == pytest.approx(surprise / 76, rel=1e-5)
    assert len(result.gate_zeros) == 2
    assert all(0 < share < 1 for share in result.gate_zeros)


# The command


def test_written_folder_loads_here_and_in_transformers(text, tmp_path, capsys):
    out = tmp_path / "model"
    assert main(["train", str(text), "--out", str(out), *OPTIONS]) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md", "config.json", "model.safetensors", "tokenizer.json", "training.json",
    ]  # fmt: skip
    model, tokenizer = checkpoint.load(out)
    theirs = transformers.LlamaForCausalLM.from_pretrained(out, dtype=torch.float32)
    assert theirs.config.eos_token_id == 0
    rows = batch_rows(encode_all(tokenizer, TEXTS), 32, 3, 0, 0)
    torch.testing.assert_close(model(rows[:, :-1]), theirs(rows[:, :-1]).logits, atol=1e-5, rtol=0)

    record = json.loads((out / "training.json").read_text())
    assert record["step"] == 12
    assert record["stored"] == "float16"
    assert [point["step"] for point in record["curve"]] == [4, 6, 8, 12]
    assert ["val_loss" in point for point in record["curve"]] == [False, True, False, True]
    assert record["recipe"]["width"] == 16
    assert len(record["gate_zeros"]) == 2
    card = (out / "README.md").read_text()
    assert card.startswith("---\n")
    for file in (out / "training.json", out / "README.md"):
        assert str(tmp_path) not in file.read_text()  # no machine's paths
    assert "held-out loss" in capsys.readouterr().out


def test_resumed_run_equals_an_uninterrupted_one(text, tmp_path, monkeypatch, capsys):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main(["train", str(text), "--out", str(whole), *OPTIONS]) == 0
    advance = Trainer.advance

    def interrupted(trainer: Trainer) -> float:
        if trainer.step == 6:
            signal.raise_signal(signal.SIGINT)  # Ctrl-C in the middle of the seventh step
        return advance(trainer)

    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr(Trainer, "advance", interrupted)
    assert main(["train", str(text), "--out", str(parts), *OPTIONS]) == 130
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert "stopped after step 7" in capsys.readouterr().out
    assert [path.name for path in parts.iterdir()] == ["checkpoint.safetensors"]
    monkeypatch.undo()

    line = error_of(capsys, text, "--out", parts, *OPTIONS)
    assert "unfinished run" in line
    line = error_of(capsys, "--out", parts, "--resume", "--batch", 5)
    assert "batch=4" in line
    assert main(["train", "--out", str(parts), "--resume"]) == 0
    records = [json.loads((out / "training.json").read_text()) for out in (whole, parts)]
    assert records[0]["val_loss"] == pytest.approx(records[1]["val_loss"], abs=1e-6)
    ours, theirs = (checkpoint.load(out)[0].state_dict() for out in (whole, parts))
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-6, rtol=0)


def test_full_disk_keeps_the_last_checkpoint(text, tmp_path, monkeypatch, capsys):
    out, write, count = tmp_path / "model", training_state.save_file, 0

    def fails(error: Exception, calls: int):
        def save_file(tensors, path, metadata):
            nonlocal count
            count += 1
            Path(path).write_bytes(b"half")
            if count > calls:
                raise error
            write(tensors, path, metadata)

        return save_file

    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(training_state, "save_file", fails(full, 0))
    line = error_of(capsys, text, "--out", out, *OPTIONS)
    assert "No space left on device; there is none before" in line
    assert list(out.iterdir()) == []

    for error in (full, SafetensorError("I/O error: No space left on device (os error 28)")):
        count = 0  # the writes are at steps 0, 3, 6, ...: the one at 6 fails
        monkeypatch.setattr(training_state, "save_file", fails(error, 2))
        line = error_of(capsys, text, "--out", out, "--overwrite", *OPTIONS)
        assert "of step 6" in line
        assert "the one before is kept" in line
        assert [path.name for path in out.iterdir()] == ["checkpoint.safetensors"]
        assert training_state.read_state(out / "checkpoint.safetensors")[1]["step"] == 3

    monkeypatch.setattr(training_state, "save_file", write)
    with monkeypatch.context() as patch:
        patch.setattr(training_result, "save", lambda *_: (_ for _ in ()).throw(full))
        assert "--resume writes it" in error_of(capsys, "--out", out, "--resume")
    assert main(["train", "--out", str(out), "--resume"]) == 0
    assert json.loads((out / "training.json").read_text())["step"] == 12


def test_kill_between_checkpoints_loses_only_what_came_after(text, tmp_path, monkeypatch):
    out, advance = tmp_path / "model", Trainer.advance

    def crash(trainer: Trainer) -> float:
        if trainer.step == 5:
            raise MemoryError
        return advance(trainer)

    monkeypatch.setattr(Trainer, "advance", crash)
    with pytest.raises(MemoryError):
        main(["train", str(text), "--out", str(out), *OPTIONS])
    assert training_state.read_state(out / "checkpoint.safetensors")[1]["step"] == 3


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, also where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_second_interruption_acts_at_once():
    with train.interruption() as asked:
        signal.raise_signal(signal.SIGINT)
        assert asked.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_distillation_and_reuse_on_the_command_line(text, tmp_path, capsys):
    teacher, out = tmp_path / "teacher", tmp_path / "student"
    assert main(["train", str(text), "--out", str(teacher), *OPTIONS]) == 0
    options = [*OPTIONS, "--teacher", str(teacher), "--layers", "1", "--gate-l1", "0.01"]
    assert main(["train", str(text), "--validation", str(text), "--out", str(out), *options]) == 0
    record = json.loads((out / "training.json").read_text())
    assert record["recipe"]["teacher"] == "teacher"
    assert record["recipe"]["validation"] == "stories.txt"
    card = (out / "README.md").read_text()
    assert "Distilled from `teacher`" in card
    command = shlex.split(re.search("minillm train (.*)", card)[1])
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    again = vars(parser.parse_args(command))
    recorded = asdict(Recipe(("",))) | {k: v for k, v in again.items() if k in record["recipe"]}
    assert recorded == record["recipe"]
    same = [(f / "tokenizer.json").read_text() for f in (teacher, out)]
    assert same[0] == same[1]

    short = [*OPTIONS, "--teacher", str(teacher), "--context", "64"]
    assert "context of 32" in error_of(capsys, text, "--out", tmp_path / "x", *short)
    other = [*OPTIONS, "--teacher", str(teacher), "--tokenizer", "stories"]
    assert "another vocabulary" in error_of(capsys, text, "--out", tmp_path / "x", *other)


def test_bad_input(text, tmp_path, capsys):
    new, held = tmp_path / "new", tmp_path / "held"
    latin, empty, small = (tmp_path / name for name in ("latin.txt", "empty.txt", "small.txt"))
    latin.write_bytes("Zoë".encode("latin-1"))
    empty.write_text(f"\n{END_OF_TEXT}\n")
    small.write_text("Once upon a time there was a cat.")
    held.mkdir()
    (held / "config.json").write_text("{}")
    (tmp_path / "file").write_text("")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "checkpoint.safetensors").write_bytes(b"half a checkpoint")
    (tmp_path / "broken" / "tokenizer.json").write_text("{}")
    for wrong, argv in {
        "latin.txt is not UTF-8": [latin, "--out", new],
        "there is no text": [empty, "--out", new],
        "too small for 300 tokens": [small, "--out", new],
        "fewer than one row of 33": [small, "--out", new, "--tokenizer", "stories"],
        "no text file": [tmp_path / "nowhere.txt", "--out", new],
        "no text file .*held.txt": [text, "--out", new, "--validation", "held.txt"],
        "at least one text": ["--out", new],
        "257 tokens": [text, "--out", new, "--vocabulary", "100"],
        "no model named": [text, "--out", new, "--tokenizer", "stories", "--teacher", "nobody"],
        "no tokenizer": [text, "--out", new, "--tokenizer", "nobody"],
        "not a tokenizer": [text, "--out", new, "--tokenizer", tmp_path / "broken"],
        "no checkpoint": [text, "--out", new, "--resume"],
        "corrupted or truncated": ["--out", tmp_path / "broken", "--resume"],
        "holds an unfinished run": [text, "--out", tmp_path / "broken"],
        "holds config.json": [text, "--out", held],
        "not a folder": [text, "--out", tmp_path / "file"],
        "exclude each other": [text, "--out", new, "--resume", "--overwrite"],
        "multiple of": [text, "--out", new, "--heads", "3", "--kv-heads", "2"],
        "one length": [text, "--out", new, "--minutes", "1"],
        "batch must be at least 1": [text, "--out", new, "--batch", "0"],
        "muon_lr must be above 0": [text, "--out", new, "--muon-lr", "nan"],
        "decay_fraction must be": [text, "--out", new, "--decay-fraction", "1.5"],
        "device 'abacus'": [text, "--out", new, "--device", "abacus"],
        "log_every": [text, "--out", new, "--log-every", "0"],
        "invalid int": [text, "--out", new, "--seed", "x"],
    }.items():
        options = [] if "--resume" in argv else OPTIONS
        assert re.search(wrong, error_of(capsys, *options, *argv)), wrong
    assert not new.exists()
    assert (held / "config.json").read_text() == "{}"


@pytest.fixture
def begun(text: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run that was stopped; its files are text, held.txt and teacher beside it."""
    folder, advance = text.parent, Trainer.advance
    out, held, teacher = (folder / name for name in ("model", "held.txt", "teacher"))
    held.write_text(TEXTS[0] + TEXTS[1])
    student = new_model(TINY.model_config(300), 0.02, 1)
    checkpoint.save(teacher, student, train_tokenizer(TEXTS, 300), torch.float32)
    monkeypatch.setattr(
        Trainer, "advance", lambda t: signal.raise_signal(signal.SIGTERM) or advance(t)
    )
    files = ["--validation", str(held), "--teacher", str(teacher), "--tokenizer", str(teacher)]
    assert main(["train", str(text), "--out", str(out), *files, *OPTIONS]) == 130
    monkeypatch.undo()
    return out


def files_in(folder: Path) -> list[str]:
    teacher = str(folder / "teacher")
    held = str(folder / "held.txt")
    text = str(folder / "stories.txt")
    return [text, "--validation", held, "--teacher", teacher, "--tokenizer", teacher]


def test_a_run_goes_on_where_its_files_lie_now(begun, capsys):
    here, there = begun.parent, begun.parent.with_name("there")
    here.rename(there)
    line = error_of(capsys, "--out", there / "model", "--resume")
    assert line.endswith(
        f"no text file {here / 'stories.txt'}; if it was moved, name it where it lies now"
    )
    assert main(["train", *files_in(there), "--out", str(there / "model"), "--resume"]) == 0
    assert json.loads((there / "model" / "training.json").read_text())["step"] == 12


@pytest.mark.parametrize(
    ("changed", "given"),  # whether the files are named again
    [
        *product(("training text", "held-out text", "teacher"), (True, False)),
        ("tokenizer", True),  # the checkpoint has its own
    ],
)
def test_a_run_does_not_go_on_with_other_contents(begun, changed, given, capsys):
    folder, kept = begun.parent, (begun / "checkpoint.safetensors").read_bytes()
    teacher = folder / "teacher"
    if changed == "training text":
        (folder / "stories.txt").write_text(" ".join(TEXTS))
    elif changed == "held-out text":
        (folder / "held.txt").write_text(TEXTS[2])
    elif changed == "teacher":
        model, tokenizer = checkpoint.load(teacher)
        model.norm.weight[0] += 1
        checkpoint.save(teacher, model, tokenizer, torch.float32)
    else:
        renamed = checkpoint.load(teacher)[1].to_str().replace('"~"', '"~~"')
        (teacher / "tokenizer.json").write_text(renamed)
    line = error_of(capsys, *(files_in(folder) if given else []), "--out", begun, "--resume")
    assert f"the {changed} is not the one that {begun / 'checkpoint.safetensors'} began" in line
    assert (begun / "checkpoint.safetensors").read_bytes() == kept


def test_the_cards_command_runs_whatever_files_are_called(tmp_path, monkeypatch):
    (tmp_path / "my 'text'.txt").write_text("Once upon a time. " * 60)
    monkeypatch.chdir(tmp_path)
    argv = ["train", "my 'text'.txt", "--out", "my model", *OPTIONS, "--vocabulary=257"]
    assert main([*argv, "--steps=1"]) == 0
    card = (tmp_path / "my model" / "README.md").read_text()
    [line] = [line for line in card.splitlines() if line.startswith("minillm train")]
    assert main([*shlex.split(line)[1:], "--overwrite"]) == 0


def test_diverged_loss_is_an_error(tokens):
    trainer = fresh(TINY, tokens)
    trainer.model.norm.weight.data.fill_(float("inf"))
    with pytest.raises(ValueError, match=r"loss is .* lower the learning rates"):
        trainer.advance()


def test_state_of_another_device_and_teacherless_setup(tokenizer, tokens, tmp_path):
    trainer = new_trainer(replace(TINY, steps=None, epochs=0.5), tokens, tokenizer, "cpu")
    assert trainer.steps == math.ceil(0.5 * len(tokens) / 128)
    trainer.advance()
    path = tmp_path / "state.safetensors"
    training_state.write_state(path, trainer, {"note": 1})
    tensors, state = training_state.read_state(path)
    assert state["note"] == 1
    assert state["recipe"] == {**asdict(trainer.recipe), "texts": ["stories.txt"]}
    again = new_trainer(trainer.recipe, tokens, tokenizer, "cpu")
    training_state.restore(again, tensors, state)
    assert again.advance() == trainer.advance()
    assert again.advance() == trainer.advance()


def test_minutes_end_a_run(tokens):
    trainer = fresh(replace(TINY, steps=None, minutes=1e-3), tokens)
    assert trainer.steps is None
    while trainer.done < 1:
        trainer.advance()
    assert trainer.seconds >= 0.06


def test_weights_too_large_for_float16_are_stored_in_bfloat16(tokens):
    model = fresh(TINY, tokens).model
    assert training_result.storage_dtype(model) == torch.float16
    model.norm.weight.data.fill_(1e5)
    assert training_result.storage_dtype(model) == torch.bfloat16


@pytest.mark.parametrize(
    "text", ["的一是" * 100, "word\n" * 100, "x" * 300], ids=["zh", "lines", "x"]
)
def test_a_tail_is_cut_from_text_without_blanks(text: str) -> None:
    head, tail = split_tail([text], 0.01)
    assert len(head[0]) > 0.9 * len(text)
    assert tail[0].strip()


def test_files_of_somebody_else_are_not_taken(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    (tmp_path / "stories.txt").write_text("\n<|endoftext|>\n".join(TEXTS))
    (tmp_path / "README.md").write_text("mine")
    arguments = ["train", str(tmp_path / "stories.txt"), "--out", str(tmp_path)]
    assert main(arguments) == 2
    assert "holds README.md" in capsys.readouterr().err
    assert main([*arguments[:-1], ""]) == 2
    assert (tmp_path / "README.md").read_text() == "mine"


def test_saving_over_shards_leaves_none(tmp_path: Path) -> None:
    model, tokenizer = checkpoint.load("stories-draft")
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(b"old")
    checkpoint.save(tmp_path, model, tokenizer, torch.float16)
    assert checkpoint.load(tmp_path)[0].config == model.config
    assert not list(tmp_path.glob("model-*"))
