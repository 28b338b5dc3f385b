"""The grid of Jacobi decoding tells what passes did; gains, laws and exercises of lesson 07."""

import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from typing import Any, cast

import oracles
import pytest
from drift import Machine, ratios_hold
from tokenizers import Tokenizer

import minillm
from minillm import Sampler, Transformer, decode_cached, decode_recomputed, generators
from minillm.decoding import collect
from minillm.jacobi import GUESSES, JacobiStep, decode_jacobi
from minillm.lookahead.decode import decode_lookahead
from minillm.measure.noise import Measured
from widgets.common.drawing.film import Grid
from widgets.common.drawing.svg import picture, summary
from widgets.jacobi import (
    JacobiExplorer,
    JacobiGainExplorer,
    LawModel,
    measure_blocks,
    measure_loop,
    pairs_elsewhere,
    right_after,
    settling_film,
)
from widgets.jacobi.gain import Passes, cost_at, rate

PROMPT = [3, 1, 4, 1, 5]


def name(token: int) -> str:
    return f"t{token}"


def counting(most: int) -> LawModel:
    return LawModel(lambda text: (text[-1] + 1) % most)


def in_twos(text: list[int]) -> int:
    """Every second token depends on its place alone, so that passes settle one or two."""
    return len(text) if len(text) % 2 else (text[-1] + 1) % 1000


# The grid


class Run:
    """A run and its film; `text` is what was written."""

    def __init__(self, model: Any, new: int, **more: Any):
        self.steps = list(decode_jacobi(model, [PROMPT], max_new_tokens=new, **more))
        [self.text] = collect(iter(self.steps))
        self.rows = [step.rows[0] for step in self.steps]
        self.film = settling_film(self.steps, name)

    @property
    def grid(self) -> Grid:
        (panel,) = self.film.panels
        assert isinstance(panel, Grid)
        return panel

    def line(self, k: int) -> list[tuple[str, str]]:
        """State and text of what stands in line k."""
        cells = [cell.at(k) for cell in self.grid.rows[k]]
        return [(now.state, now.text or "") for now in cells if now]


RUNS: dict[str, Callable[[], Run]] = {
    "one a pass": lambda: Run(counting(1000), 10, block=10),
    "some in twos": lambda: Run(LawModel(in_twos), 14, block=6),
    "blocks of one": lambda: Run(counting(9), 5, block=1),
    "all at once": lambda: Run(LawModel(lambda text: len(text)), 12, block=4),
    "a random model": lambda: Run(oracles.tiny(minillm), 12, block=5, guess=GUESSES["n-grams"]),
    "one token": lambda: Run(counting(9), 1, block=8),
    "a stop inside of a block": lambda: Run(counting(10), 12, block=8, stop=[9]),
    "sampled": lambda: Run(
        oracles.tiny(minillm), 12, block=4, sampler=Sampler(1.0), generators=generators(1, 1)
    ),
}


@pytest.fixture(scope="module", params=RUNS.values(), ids=RUNS)
def run(request: pytest.FixtureRequest) -> Run:
    return request.param()


def test_a_line_is_the_iterate_after_its_pass(run: Run) -> None:
    assert run.film.steps == len(run.steps) + 1
    assert run.film.first == 0
    lines = [run.line(k) for k in range(run.film.steps)]
    assert [text for _, text in lines[0]] == [name(token) for token in run.rows[0].before]
    written = [0, *accumulate(len(row.tokens) for row in run.rows)]
    for k, row in enumerate(run.rows, start=1):
        texts = [text for _, text in lines[k]]
        assert texts[: written[k]] == [name(token) for token in run.text[: written[k]]]
        behind = row.after[len(row.tokens) :] if not row.ended else ()
        if not behind and k < len(run.rows):
            behind = run.rows[k].before
        assert texts[written[k] :] == [name(token) for token in behind]


def test_states_tell_what_has_settled_and_what_is_right_by_luck(run: Run) -> None:
    written = [0, 0, *accumulate(len(row.tokens) for row in run.rows)]
    for k in range(run.film.steps):
        settled, now = written[k], written[k + 1]
        for i, (state, text) in enumerate(run.line(k)):
            right = i < len(run.text) and text == name(run.text[i])
            if i < now:
                assert state == ("settled" if i < settled else "settling")
                assert right
            else:
                assert state == ("early" if right else "guess")


def test_the_outline_is_where_plain_decoding_would_be(run: Run) -> None:
    for k in range(run.film.steps):
        ghosts = [i for i, cell in enumerate(run.grid.rows[k]) if (now := cell.at(k)) and now.ghost]
        assert ghosts == ([k - 1] if k else [])


def test_numbers_and_captions_count_as_the_steps_do(run: Run) -> None:
    settled, a_pass, chosen = run.film.numbers
    written = [0, *accumulate(len(row.tokens) for row in run.rows)]
    read = [0, *accumulate(len(row.before) for row in run.rows)]
    for k in range(run.film.steps):
        assert settled.at(k) == f"{written[k]} of {len(run.text)}"
        assert a_pass.at(k) == (rate(written[k], k) if k else "–")
        assert chosen.at(k) == f"{k} → {read[k]}"
    for k, row in enumerate(run.rows, start=1):
        caption = run.film.captions[k]
        assert caption.startswith(f"“{name(row.tokens[0])}” was chosen after settled text")
        assert caption.endswith(f"Plain decoding would have {k}, this has {written[k]}.")
        assert (f"“{name(row.tokens[-1])}”" in caption) or row.ended
        assert ("The text is done" in caption) == row.ended
        done = len(row.tokens) == len(row.after) and not row.ended
        assert ("The block is done" in caption) == done
    lucky = sum(a == b for a, b in zip(run.rows[0].before, run.text, strict=False))
    assert f"{len(run.rows[0].before)} guesses, {lucky} of them right" in run.film.captions[0]


def test_every_step_has_a_picture(run: Run) -> None:
    for k in range(run.film.steps):
        assert ET.fromstring(picture(run.film, k)).get("aria-label") == summary(run.film, k)


def test_a_wrong_token_may_be_right_elsewhere() -> None:
    run = Run(counting(1000), 6, block=6, guess=lambda text, size, _: [text[-1] + 3] * size)
    tips = [cell.tip for cell in run.grid.rows[2]]  # 6 7 then 9 10 10 10 ...
    assert [now for _, now in run.line(2)] == ["t6", "t7", "t10", "t10", "t10", "t10"]
    assert tips[3] == "A guess, or chosen after a wrong token."
    tips = [cell.tip for cell in run.grid.rows[1]]
    assert [now for _, now in run.line(1)] == ["t6", "t9", "t9", "t9", "t9", "t9"]
    early = Run(counting(1000), 6, block=6, guess=lambda *_: [7, 8, 9, 10, 11, 12])
    assert early.grid.rows[0][1].tip == (
        "Right words at the wrong place: the text has “t7t8” 1 place later."
    )
    assert tips[0] == "Chosen after settled text, so it is right."


@pytest.mark.parametrize(
    "steps",
    [
        lambda: [],
        lambda: list(decode_jacobi(counting(9), [PROMPT, PROMPT], max_new_tokens=2)),
        lambda: list(decode_jacobi(counting(9), [PROMPT], block=64, max_new_tokens=64)),
        lambda: list(decode_jacobi(counting(1000), [PROMPT], block=1, max_new_tokens=64)),
    ],
)
def test_what_is_no_run_of_one_row_is_refused(steps: Callable[[], list[JacobiStep]]) -> None:
    with pytest.raises(ValueError, match="not a run of one row"):
        settling_film(steps(), name)


# The explorer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return minillm.load("stories-draft")[1]


@pytest.fixture(scope="module")
def explorer(draft: Transformer, tokenizer: Tokenizer) -> JacobiExplorer:
    return JacobiExplorer(draft, tokenizer, ["Once upon a time", "Tom and Tom and Tom"], new=8)


def test_controls_run_it_anew(explorer: JacobiExplorer) -> None:
    assert "Block of 8, starting from random, greedy: 8 tokens in" in explorer.summary()
    assert explorer.player.step == explorer.player.film.steps - 1
    explorer.controls["block"].value = 1
    assert explorer.player.film.steps == 9
    assert "Block of 1" in explorer.readout.text
    assert "8 tokens in 8 passes, 1.00 tokens a pass; 8 choices" in explorer.readout.text
    explorer.controls["block"].value = 8
    before = explorer.player.film
    explorer.controls["guess"].value = GUESSES["last token"]
    explorer.controls["text"].value = "The dog was"
    explorer.controls["temperature"].value = 0.8
    assert "starting from last token, temperature 0.8" in explorer.summary()
    sampled = explorer.player.film
    explorer.controls["seed"].value = 3
    assert explorer.player.film not in (before, sampled)
    assert set(explorer.outputs()[0]) == {"text/html", "text/plain"}


@pytest.mark.parametrize("text", ["", "\n\t  ", "<b>&amp;</b>", "שלום 🎈", "a " * 900])
def test_any_text_of_the_reader(explorer: JacobiExplorer, text: str) -> None:
    explorer.controls["text"].value = text
    for step in range(explorer.player.film.steps):
        assert ET.fromstring(picture(explorer.player.film, step)) is not None


def test_the_film_names_the_prompt_that_it_continues(explorer: JacobiExplorer) -> None:
    explorer.controls["text"].value = "The dog was"
    assert explorer.player.film.hint.startswith("Continues “The dog was”. Each line")
    explorer.controls["text"].value = "a " * 99
    assert explorer.player.film.hint.startswith("Continues “…")


def test_the_prompt_that_gains_most_comes_first(draft: Transformer, tokenizer: Tokenizer) -> None:
    prompts = ["Once upon a time", "The cat sat", "Lily had a ball. She"]
    counts = {}
    for prompt in prompts:
        explorer = JacobiExplorer(draft, tokenizer, [prompt], new=10)
        counts[prompt] = explorer.player.film.steps
    chosen = JacobiExplorer(draft, tokenizer, prompts, new=10)["text"]
    assert counts[chosen] == min(counts.values())


# What is thrown away


def test_choices_after_a_changed_token_are_counted_by_the_token_before() -> None:
    runs = [Run(counting(1000), 10, block=10), Run(LawModel(in_twos), 14, block=6)]
    for most in (1, 3):
        counted = [{True: [0, 0], False: [0, 0]} for _ in range(most)]
        for run in runs:
            written = 0
            for row in run.rows:
                read, chosen = (run.text[:written] + list(side) for side in (row.before, row.after))
                written += len(row.tokens)
                for at in range(written, min(written + most, len(run.text), len(chosen))):
                    count = counted[at - written][read[at - 1] == run.text[at - 1]]
                    count[0] += chosen[at] == run.text[at]
                    count[1] += 1
        got = right_after([run.steps for run in runs], most)
        assert got == [{side: tuple(count) for side, count in both.items()} for both in counted]
        assert any(both[True][1] for both in got) == (most > 1)  # right after the changed one: none


def test_neighbours_that_stand_elsewhere_are_counted() -> None:
    run = Run(counting(7), 12, block=12, guess=lambda *_: [500] * 12)
    found, tried = pairs_elsewhere([run.steps])
    pairs = [
        pair
        for row in run.rows
        for pair in zip(
            row.after[len(row.tokens) :], row.after[len(row.tokens) + 1 :], strict=False
        )
    ]
    text = list(zip(run.text, run.text[1:], strict=False))
    assert tried == len(pairs) > 0
    assert found == sum(pair in text for pair in pairs)


# What passes gain


V = {1: 2e-3, 4: 3e-3, 8: 5e-3, 16: 11e-3}


def test_costs_between_measured_ones() -> None:
    assert [cost_at(V, m) for m in (1, 4, 6, 8, 16)] == pytest.approx([1, 1.5, 2, 2.5, 5.5])
    assert cost_at(V, 24) == pytest.approx(8.5)  # goes on as it ended
    with pytest.raises(ValueError, match=r"times of 1 and of more .* \[4, 8\]"):
        cost_at({4: 1.0, 8: 2.0}, 4)


def test_gains_are_tokens_over_costs() -> None:
    passes = Passes(tokens=12, read=(8, 6, 4), seconds=0.03)
    plain = Passes(tokens=10, read=(1,) * 10, seconds=0.05)
    assert passes.a_pass == 4
    assert passes.cost(V) == pytest.approx(2)
    assert passes.predicted(V) == pytest.approx(2)
    assert passes.measured(plain) == pytest.approx(2)


def test_passes_leave_out_the_prompt() -> None:
    runs = [
        list(decode_jacobi(counting(1000), [PROMPT], block=4, max_new_tokens=n)) for n in (6, 9)
    ]
    passes = Passes.of(runs)
    assert passes.tokens == 6 + 9 - sum(len(run[0].rows[0].tokens) for run in runs)
    assert passes.read == tuple(len(step.rows[0].before) for run in runs for step in run[1:])
    assert passes.seconds == sum(step.seconds for run in runs for step in run[1:])
    with pytest.raises(ValueError, match="no run has a pass"):
        Passes.of([runs[0][:1]])


@pytest.fixture(scope="module")
def gains() -> JacobiGainExplorer:
    plain, runs = measure_blocks(counting(1000), [PROMPT, [7]], [1, 4, 8], max_new_tokens=12)
    assert plain.read == (1,) * 22
    assert set(runs) == set(GUESSES)
    assert all(run.tokens + 2 == 24 for run in runs["random"].values())
    return JacobiGainExplorer(plain, runs, V)


def test_the_gain_chart_shows_what_was_measured(gains: JacobiGainExplorer) -> None:
    cost, *curves = gains.chart().series
    assert (cost.baseline, list(cost.x)) == (True, [1, 4, 8])
    assert [curve.name for curve in curves] == list(GUESSES)
    first = gains._families["random"]
    assert list(curves[0].y) == [passes.a_pass for passes in first]
    assert list(cost.y) == [passes.cost(V) for passes in first]
    for show, values in {
        "speed-up, measured": [p.measured(gains._plain) for p in first],
        "speed-up, predicted": [p.predicted(V) for p in first],
    }.items():
        gains.controls["show"].value = show
        assert list(gains.chart().series[1].y) == values
        assert list(gains.chart().series[0].y) == [1.0] * 3
        assert list(gains.view.data[1].y) == values
    gains.controls["start"].value = "last token"
    gains.controls["block"].value = 2
    chosen = gains._families["last token"][2]
    assert gains.chart().note[:2] == (8, chosen.predicted(V))
    assert f"start last token, block 8: {chosen.a_pass:.2f} tokens a pass" in gains.readout.text
    assert f"{chosen.predicted(V):.2f} times the speed is predicted" in gains.readout.text


def test_curves_must_have_the_points_of_their_control() -> None:
    passes = Passes(2, (1, 1), 1.0)
    with pytest.raises(ValueError, match=r"needs 2 points, got .*'b': 1"):
        JacobiGainExplorer(passes, {"a": {1: passes, 2: passes}, "b": {1: passes}}, V)
    with pytest.raises(ValueError, match="needs 0 points"):
        JacobiGainExplorer(passes, {}, V)


def test_a_machine_that_slows_down_moves_no_gain() -> None:
    def measure(model: Any) -> dict[Any, float]:
        plain, runs = measure_blocks(model, [PROMPT, PROMPT], [2, 8], max_new_tokens=8)
        found = {(name, size): run for name, by in runs.items() for size, run in by.items()}
        return {key: run.measured(plain) for key, run in found.items()}

    ratios_hold(counting(1000), measure)


def test_the_loop_is_what_remains_within_pairs_of_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(counting(1000), lambda passed: 1 + passed / 100)  # ever slower

    def loop() -> Measured:
        measure = partial(measure_loop, prompt=PROMPT, max_new_tokens=20)
        return cast(Measured, machine.run(measure))

    def slow(*given: Any) -> Any:
        machine.clock += 0.5
        return settle(*given)

    nothing, settle = loop(), minillm.jacobi._settle
    assert nothing.low < 0 < nothing.high
    monkeypatch.setattr(minillm.jacobi, "_settle", slow)
    assert loop() == pytest.approx(0.5, abs=0.03)


# Laws


@pytest.mark.parametrize(
    "law",
    [
        lambda text: (text[-1] + 1) % 10,
        lambda text: sum(text) % 1000,
        lambda text: len(text),
        lambda text: 7 * text[-2] % 1000,
    ],
)
def test_every_decoder_follows_a_law(law: Callable[[list[int]], int]) -> None:
    model, prompts = LawModel(law), [PROMPT, [2, 7]]
    expected = []
    for prompt in prompts:
        text = list(prompt)
        for _ in range(20):
            text.append(law(text))
        expected.append(text[len(prompt) :])
    decoders: Sequence[Any] = (decode_recomputed, decode_cached, decode_jacobi, decode_lookahead)
    for decode in decoders:
        for prompt, text in zip(prompts, expected, strict=True):
            assert collect(decode(model, [prompt], max_new_tokens=20)) == [text]
        assert collect(decode(model, prompts, max_new_tokens=20)) == expected


def test_a_law_must_name_a_token() -> None:
    for law in (lambda text: 1000, lambda text: -1):
        with pytest.raises(ValueError, match="from 0 to 999"):
            collect(decode_cached(LawModel(law), [PROMPT], max_new_tokens=2))
    with pytest.raises(TypeError):
        collect(decode_cached(LawModel(lambda text: 0.5), [PROMPT], max_new_tokens=2))  # type: ignore[arg-type,return-value]


def test_a_film_weighs_little() -> None:
    film: Film = Run(counting(1000), 60, block=60).film
    assert len(str(film.to_json())) < 1_000_000
