"""`minillm eval` and acceptance: against counts by hand, and what is refused."""

import json
from dataclasses import asdict
from functools import partial

import pytest
import torch
from oracles import tiny, tokens_of

import minillm
from minillm.commands import eval as eval_command
from minillm.commands.main import main
from minillm.decoding import collect, decode_cached, generators
from minillm.measure import divergence
from minillm.measure.divergence import divergences, interval
from minillm.measure.repetition import distinct, repetition
from minillm.modules import hooked
from minillm.quantization import Spec
from minillm.quantization.simulated import rounded
from minillm.sampling import Sampler
from minillm.speedup.acceptance import acceptance

PROMPTS = [tokens_of(i, n).tolist() for i, n in enumerate((3, 7, 5))]


def test_a_model_accepts_itself() -> None:
    model = tiny(minillm)
    found = acceptance(model, model, PROMPTS, max_new_tokens=9)
    assert (found.greedy, found.tokens) == (1.0, 27)
    assert found.sampled == pytest.approx(1.0)


def test_acceptance_is_the_mean_along_the_targets_own_texts() -> None:
    target, draft = tiny(minillm), tiny(minillm, seed=1)
    found = acceptance(target, draft, PROMPTS[:1], max_new_tokens=6, seed=3)
    agree, overlap = [], []
    for greedy in (True, False):
        text, source = list(PROMPTS[0]), torch.Generator().manual_seed(3)
        for _ in range(6):
            logits = [model(torch.tensor([text]))[0, -1] for model in (target, draft)]
            p, q = (x.softmax(-1) for x in logits)
            if greedy:
                token = int(p.argmax())
                agree.append(token == int(q.argmax()))
            else:
                u = torch.rand((), generator=source, dtype=torch.float64)
                token = int((p.cumsum(-1) <= u * p.sum()).sum())
                overlap.append(float(torch.minimum(p, q).sum()))
            text.append(token)
    assert found.greedy == pytest.approx(sum(agree) / 6)
    assert found.sampled == pytest.approx(sum(overlap) / 6)


def test_other_vocabularies_are_refused() -> None:
    with pytest.raises(ValueError, match="31 and 30 tokens"):
        acceptance(tiny(minillm), tiny(minillm, vocab_size=30), PROMPTS)


def test_the_command_reports_what_it_finds(tmp_path, capsys, monkeypatch) -> None:
    tokenizer = minillm.load("stories-draft")[1]
    places = [tmp_path / name for name in ("model", "draft")]
    for seed, place in enumerate(places):
        made = tiny(
            minillm, seed=seed, vocab_size=2048, max_position_embeddings=256, dtype=torch.float32
        )
        minillm.checkpoint.save(place, made, tokenizer, torch.float32)
    text = tmp_path / "text.txt"
    text.write_text("Once upon a time there was a cat.\n<|endoftext|>\nThe end.", encoding="utf-8")
    monkeypatch.setattr(eval_command, "bench_prompts", lambda: ["Once upon a time"])
    few = {"max_new_tokens": 12}
    for measure in (acceptance, repetition):
        monkeypatch.setattr(eval_command, measure.__name__, partial(measure, **few))
    of, by = map(str, places)
    options = ["--model", of, "--text", str(text), "--draft", by, "--repetition"]
    assert main(["eval", *options, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    model, draft = (minillm.load(place)[0] for place in places)
    nats = figures["loss"] * figures["tokens"]
    assert figures["bits_per_byte"] == pytest.approx(nats / torch.tensor(2.0).log().item() / 41)
    assert figures["perplexity"] == pytest.approx(torch.tensor(figures["loss"]).exp().item())
    assert len(figures["gate_zeros"]) == model.config.num_hidden_layers
    prompts = [minillm.tokens.encode(tokenizer, "Once upon a time")]
    assert figures["acceptance"] == asdict(acceptance(model, draft, prompts, **few))
    for temperature in (0.7, 0.0):
        found = figures["distinct_4_grams"][f"temperature {temperature}"]
        assert found == asdict(repetition(model, prompts, temperature, **few))
    assert main(["eval", *options]) == 0
    report = capsys.readouterr().out
    assert f"{figures['loss']:.4f} nats a token" in report
    assert "temperature 1" in report
    assert "below 90 % in" in report


def test_the_command_sets_rounded_models_beside_the_original(tmp_path, capsys) -> None:
    tokenizer = minillm.load("stories-draft")[1]
    made = tiny(minillm, vocab_size=2048, hidden_size=32, dtype=torch.float32)
    minillm.checkpoint.save(tmp_path / "model", made, tokenizer, torch.float32)
    texts = ["Once upon a time there was a cat.", "The end of it.", "A dog ran home, and sat down."]
    (tmp_path / "text.txt").write_text("<|endoftext|>".join(texts), encoding="utf-8")
    options = ["eval", "--model", str(tmp_path / "model"), "--text", str(tmp_path / "text.txt")]
    options += ["--rounded", "int3:4", "int8"]
    assert main([*options, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert list(figures["rounded"]) == ["int8", "int3:4"]  # the nearest first
    rows = [minillm.tokens.encode(tokenizer, text) for text in texts]
    models = {"a": rounded(made, Spec("int8")), "b": rounded(made, Spec("int3", 4))}
    near, far = divergences(made, models, rows).values()
    assert figures["rounded"]["int3:4"] == {
        "added": asdict(interval(far.added, far.tokens)),
        "kl": asdict(interval(far.kl, far.tokens)),
    }
    between = interval(far.loss - near.loss, far.tokens)
    found = figures["differences"]["int3:4 - int8"]
    assert found["added"] == pytest.approx(asdict(between))
    assert found["kl"]["low"] > 0
    assert main(options) == 0
    report = capsys.readouterr().out
    assert str(interval(near.kl, near.tokens)) in report
    assert f"{between.mean:+.4f}" in report


def test_the_in_domain_stories_are_read_where_asked_for(tmp_path, capsys, monkeypatch) -> None:
    tokenizer = minillm.load("stories-draft")[1]
    model = tiny(minillm, vocab_size=2048, dtype=torch.float32)
    minillm.checkpoint.save(tmp_path / "model", model, tokenizer, torch.float32)
    monkeypatch.setattr(eval_command, "in_domain_stories", lambda: ["One.", "Two and three."])
    options = ["eval", "--model", str(tmp_path / "model"), "--in-domain", "--json"]
    assert main(options) == 0
    tokens = minillm.tokens.encode_all(tokenizer, ["One.", "Two and three."])
    assert json.loads(capsys.readouterr().out)["tokens"] == len(tokens) - 1
    assert main([*options, "--text", "some.txt"]) == 2
    assert "take one of them" in capsys.readouterr().err


def test_a_tokenizer_without_end_of_text_gets_its_figures(tmp_path, capsys) -> None:
    tokenizer = minillm.load("stories-draft")[1]
    tokenizer.post_processor = None
    text = tokenizer.to_str().replace("<|endoftext|>", "</s>")
    bare = type(tokenizer).from_str(text)
    model = tiny(minillm, vocab_size=2048, dtype=torch.float32)
    minillm.checkpoint.save(tmp_path / "model", model, bare, torch.float32)
    (tmp_path / "text.txt").write_text("Once upon a time")
    options = ["--model", str(tmp_path / "model"), "--text", str(tmp_path / "text.txt"), "--json"]
    assert main(["eval", *options]) == 0
    rows = torch.tensor([bare.encode("Once upon a time").ids])
    log_p = model(rows[:, :-1]).log_softmax(-1).gather(-1, rows[:, 1:, None])
    assert json.loads(capsys.readouterr().out)["loss"] == pytest.approx(-log_p.mean().item())


def test_tokens_beyond_the_embedding_are_one_line(tmp_path, capsys) -> None:
    model, tokenizer = tiny(minillm, vocab_size=2048), minillm.load("stories-draft")[1]
    tokenizer.add_special_tokens(["<extra>"])
    minillm.checkpoint.save(tmp_path / "model", model, tokenizer, torch.float32)
    (tmp_path / "text.txt").write_text("Once <extra> upon a time")
    options = ["--model", str(tmp_path / "model"), "--text", str(tmp_path / "text.txt")]
    assert main(["eval", *options]) == 2
    assert capsys.readouterr().err == (
        "minillm eval: error: tokens must be from 0 to 2047, got 2048\n"
    )


def test_repetition_is_counted_on_what_the_model_writes() -> None:
    model = tiny(minillm)
    found = repetition(model, PROMPTS, 1.0, max_new_tokens=12, seed=5)
    steps = decode_cached(
        model, PROMPTS, max_new_tokens=12, sampler=Sampler(), generators=generators(5, 3)
    )
    shares = [len({tuple(text[i : i + 4]) for i in range(9)}) / 9 for text in collect(steps)]
    assert (found.mean, found.lowest) == (pytest.approx(sum(shares) / 3), min(shares))
    assert found.below_90_percent == sum(share < 0.9 for share in shares)
    with pytest.raises(ValueError, match="3 tokens hold no 4-gram"):
        repetition(model, PROMPTS, 1.0, max_new_tokens=3)


@pytest.mark.parametrize("n", [0, -1])
def test_n_grams_of_no_tokens_are_refused(n: int) -> None:
    with pytest.raises(ValueError, match=f"n must be at least 1, got {n}"):
        distinct([1, 2], n)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model", "nothing"], "nothing"),
        (["--text", "missing.txt"], "no text file missing.txt"),
        (["--draft", "nothing"], "nothing"),
        (["--model", "stories-xs", "--rounded", "int5"], "int5"),
    ],
)
def test_bad_input_is_one_line(options, said, capsys) -> None:
    assert main(["eval", *options]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_without_a_name_it_is_the_course_s_model(tmp_path, capsys) -> None:
    tokenizer = minillm.load("stories-draft")[1]
    model = tiny(minillm, vocab_size=2048, dtype=torch.float32)
    minillm.checkpoint.save(tmp_path / "model", model, tokenizer, torch.float32)
    (tmp_path / "text.txt").write_text("Once upon a time<|endoftext|>there was a cat.")
    reports = []
    for name in (["--model", str(tmp_path / "model")], []):
        options = ["--text", str(tmp_path / "text.txt"), "--rounded", "int8"]
        assert main(["eval", *name, *options]) == 0
        reports.append(capsys.readouterr().out)
    assert reports[0].startswith(f"{tmp_path / 'model'} on ")
    assert reports[1].startswith("stories on ")


def test_a_large_vocabulary_is_read_in_few_rows_at_a_time(monkeypatch) -> None:
    """The figures are those of any other batch, and no pass keeps more than it may."""
    model, texts = tiny(minillm), [tokens_of(i, 9).tolist() for i in range(5)]
    whole = divergences(model, {"a": rounded(model, Spec("int8"))}, texts)["a"]
    monkeypatch.setattr(divergence, "_NUMBERS", 2 * 9 * 31)
    seen = []
    with hooked([model.head], lambda module, given, made: seen.append(made.numel())):
        found = divergences(model, {"a": rounded(model, Spec("int8"))}, texts)["a"]
    assert max(seen) <= 2 * 9 * 31
    assert torch.allclose(found.kl, whole.kl)
