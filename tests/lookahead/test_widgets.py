"""The films of lookahead decoding tell what a pass read, saw and verified; its exercises."""

import base64
import xml.etree.ElementTree as ET
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import oracles
import pytest
from drift import ratios_hold
from tokenizers import Tokenizer

import minillm
from minillm import Transformer
from minillm.decoding import collect
from minillm.lookahead.decode import LookaheadRow, LookaheadStep, decode_lookahead
from minillm.lookahead.mask import lookahead_layout
from widgets.common.drawing.film import Cell, Change, Film, Grid, Heat, Lane, Lanes
from widgets.common.drawing.svg import picture, summary
from widgets.common.player import StepPlayer
from widgets.jacobi import LawModel
from widgets.jacobi.gain import cost_at, rate
from widgets.lookahead import (
    LookaheadExplorer,
    LookaheadGainExplorer,
    MaskExplorer,
    found_in_text,
    mask_film,
    measure_settings,
    run_film,
)
from widgets.lookahead.mask import SENTENCES, Place, places, reason
from widgets.lookahead.run import agreed

PROMPT = [3, 1, 4, 1, 5]
SIZES = [(1, 2, 1), (3, 2, 2), (4, 4, 2), (5, 4, 5), (2, 6, 3), (8, 3, 8)]


def name(token: int) -> str:
    return f"t{token}"


def counting(most: int) -> LawModel:
    return LawModel(lambda text: (text[-1] + 1) % most)


def steps_of(W: int, N: int, G: int, new: int = 30, model: Any = None) -> list[LookaheadStep]:
    return list(decode_lookahead(model or counting(9), [PROMPT], W=W, N=N, G=G, max_new_tokens=new))


def heat_of(film: Film) -> Heat:
    (panel,) = (p for p in film.panels if isinstance(p, Heat))
    return panel


def grids_of(film: Film) -> list[Grid]:
    return [panel for panel in film.panels if isinstance(panel, Grid)]


def text_of(film: Film) -> Lane:
    (panel,) = (p for p in film.panels if isinstance(p, Lanes))
    return panel.lanes[0]


# What the player was taught for these films


def test_a_matrix_says_a_sentence_of_each_cell() -> None:
    sizes = {"rows": 2, "columns": 2, "patches": ()}
    wire = Heat(**sizes, sentences=("one", "two"), tips=bytes([0, 1, 1, 0])).to_json()
    assert wire["sentences"] == ("one", "two")
    assert list(base64.b64decode(wire["tips"])) == [0, 1, 1, 0]
    assert "tips" not in Heat(**sizes).to_json()
    with pytest.raises(ValueError, match="tips: 3 for 4"):
        Heat(**sizes, sentences=("one",), tips=bytes(3))
    with pytest.raises(ValueError, match="one of 1 sentences each"):
        Heat(**sizes, sentences=("one",), tips=bytes([0, 0, 0, 1]))


def test_a_grid_cuts_long_texts() -> None:
    row = tuple(Cell(text, (Change(0, "guess"),)) for text in ("a", "schadenfreude"))
    wide, narrow = Grid((row,)), Grid((row,), most=6)
    assert (wide.widths, narrow.widths) == ([1, 13], [1, 6])
    assert [cell["width"] for cell in narrow.to_json()["rows"][0]] == [1, 6]
    film = Film("Grid", ("Now.",), (narrow,))
    assert "schad…" in picture(film, 0)
    many = Film("Grid", ("Now.",), (Grid((row * 6,), most=18),))
    assert "schad" in picture(many, 0)
    assert "schadenfreude" not in picture(many, 0)


# Why a token is seen


@pytest.mark.parametrize(
    ("window", "guesses", "length"),
    [((1,), 0, 0), ((4,), 2, 1), ((5, 4), 3, 2), ((3, 3, 3), 2, 3), ((2, 2, 2, 2), 1, 4)],
)
def test_reasons_agree_with_the_mask(window: tuple[int, ...], guesses: int, length: int) -> None:
    layout = lookahead_layout(window, guesses, length)
    stand = places(layout)
    seen = {"self", "text", "start", "column", "newest", "guess"}
    unseen = {"future", "beside", "below", "other", "lines", "window", "ahead", "unseen", "rival"}
    assert seen | unseen | {"cache"} == set(SENTENCES)
    for r, me in enumerate(stand):
        for c, other in enumerate(stand):
            assert (reason(me, other) in seen) == bool(layout.mask[r, c]), (me, other)


@pytest.mark.parametrize(
    ("me", "other", "why"),
    [
        (Place(False, 0, 2), Place(False, 0, 1), "text"),
        (Place(False, 0, 2), Place(False, 0, 3), "future"),
        (Place(False, 0, 2), Place(False, 1, 2), "lines"),
        (Place(False, 2, 1), Place(False, 0, 1), "start"),
        (Place(False, 2, 1), Place(False, 0, 2), "beside"),
        (Place(False, 2, 1), Place(False, 1, 1), "column"),
        (Place(False, 1, 1), Place(False, 2, 1), "below"),
        (Place(False, 2, 1), Place(False, 1, 0), "other"),
        (Place(False, 2, 1), Place(True, 0, 0), "window"),
        (Place(True, 1, 0), Place(False, 0, 0), "newest"),
        (Place(True, 1, 0), Place(False, 1, 0), "unseen"),
        (Place(True, 1, 1), Place(True, 1, 0), "guess"),
        (Place(True, 1, 1), Place(True, 1, 2), "ahead"),
        (Place(True, 1, 1), Place(True, 0, 0), "rival"),
        (Place(True, 1, 1), Place(True, 1, 1), "self"),
    ],
)
def test_each_pair_has_its_reason(me: Place, other: Place, why: str) -> None:
    assert reason(me, other) == why


# One pass


@pytest.fixture(scope="module", params=SIZES, ids=str)
def run(request: pytest.FixtureRequest) -> tuple[tuple[int, int, int], list[LookaheadStep]]:
    return request.param, steps_of(*request.param)


Sized = tuple[tuple[int, int, int], list[LookaheadStep]]


def test_the_matrix_is_the_mask_behind_a_column_for_the_cache(run: Sized) -> None:
    for number, step in enumerate(run[1], start=1):
        row = step.rows[0]
        length = len(row.guesses[0]) if row.guesses else 0
        mask = lookahead_layout(tuple(map(len, row.window)), len(row.guesses), length).mask
        T = len(mask)
        film = mask_film(row, number, 10, name)
        heat = heat_of(film)
        assert film.steps == T
        assert (heat.rows, heat.columns) == (T, T + 1)
        shown = [bool(heat.states[byte] == "visible") for byte in heat.at(0)]
        expected = [seen for line in mask.tolist() for seen in [True, *line]]
        assert shown == expected
        told = [heat.sentences[tip] for tip in heat.tips]
        assert told[0] == SENTENCES["cache"]
        assert all(told[r * (T + 1) + 1 + r] == SENTENCES["self"] for r in range(T))
        assert [area.row for _, area in heat.marks if area] == list(range(T))


def test_the_grid_shows_what_the_token_of_the_step_sees(run: Sized) -> None:
    row = run[1][-2].rows[0]
    film = mask_film(row, len(run[1]) - 1, 10, name)
    grid = grids_of(film)[0]
    assert grid.row_labels == (
        *(f"line {i}" for i in range(len(row.window))),
        *(f"guess {i + 1}" for i in range(len(row.guesses))),
    )
    cells = [cell for cell in grid.cells() if cell.history]
    for line, tokens in zip(grid.rows[len(row.window) :], row.guesses, strict=True):
        assert [bool(cell.history) for cell in line[: 1 + len(tokens)]] == [False] + [True] * len(
            tokens
        )  # behind the newest token
    tokens = [token for line in (*row.window, *row.guesses) for token in line]
    assert [cell.text for cell in cells] == [name(token) for token in tokens]
    length = len(row.guesses[0]) if row.guesses else 0
    mask = lookahead_layout(tuple(map(len, row.window)), len(row.guesses), length).mask
    for t in range(film.steps):
        states = [now.state for cell in cells if (now := cell.at(t))]
        assert states == [
            "looking" if i == t else "visible" if seen else "masked"
            for i, seen in enumerate(mask[t].tolist())
        ]


def test_captions_say_from_which_pass_a_line_comes() -> None:
    W, N = 4, 4
    steps = steps_of(W, N, 2)
    chosen = [step.rows[0].chosen for step in steps]
    for number, step in enumerate(steps, start=1):
        row = step.rows[0]
        film = mask_film(row, number, 10, name)
        told, t = film.captions, 0
        for line, tokens in enumerate(row.window):
            for j, token in enumerate(tokens):
                if (line, j) == (0, 0):
                    assert "the newest token of the text, at position 10" in told[t]
                else:
                    born = number - (len(row.window) - line)
                    assert told[t].startswith(f"“{name(token)}” in line {line}, column {j}, ")
                    assert f"at position {10 + line + j}, {line + j} after" in told[t]
                    if born:
                        assert f"chosen in pass {born}" in told[t]
                        assert token in chosen[born - 1]
                    else:
                        assert "from the initial guess" in told[t]
                t += 1
        for g, guess in enumerate(row.guesses, start=1):
            for k, token in enumerate(guess):
                assert told[t].startswith(f"“{name(token)}” of guess {g}: an n-gram of the pool")
                assert f"at position {11 + k}, {1 + k} after" in told[t]
                t += 1
        assert t == film.steps


def test_every_token_of_a_pass_has_a_picture(run: Sized) -> None:
    film = mask_film(run[1][-2].rows[0], 9, 10, name)
    for t in range(film.steps):
        assert ET.fromstring(picture(film, t)).get("aria-label") == summary(film, t)
    assert len(str(StepPlayer(film).get_state()["film"])) < 500_000


def test_a_row_that_has_ended_has_no_pass() -> None:
    rows = list(
        decode_lookahead(counting(9), [PROMPT, [2]], max_new_tokens=9, stop=[7])
    )  # one row stops before the other
    ended = next(row for step in rows for row in step.rows if not row.tokens)
    with pytest.raises(ValueError, match="has ended"):
        mask_film(ended, 1, 3, name)


# A run


def test_window_and_guesses_are_those_of_the_steps(run: Sized) -> None:
    (W, N, G), steps = run
    film = run_film(steps, W, N, G, name)
    assert film.steps == len(steps)
    window, guesses = grids_of(film)
    assert (len(window.rows), len(guesses.rows)) == (N, G)
    assert window.row_labels[-2:] == ("1 ago", "now")
    for k, step in enumerate(steps):
        row = step.rows[0]
        for up, line in enumerate(reversed(window.rows)):
            tokens = row.chosen
            if up:
                tokens = row.window[-up] if up <= len(row.window) else ()
            shown = [now for cell in line if (now := cell.at(k))]
            expected = [name(token) for token in tokens[:W]]
            assert [now.text for now in shown] == expected + [""] * (W - len(expected))
            for now, j in zip(shown, range(len(expected)), strict=False):
                newest = up == len(row.window) and j == 0
                first = up == k + 1  # from before the first pass
                assert now.state == (
                    "computed" if up == 0 else "settled" if newest else "guess" if first else "kept"
                )
        for g, line in enumerate(guesses.rows):
            states = [now.state for cell in line if (now := cell.at(k))]
            if g >= len(row.guesses):
                assert set(states) == {"free"}
                continue
            right = agreed(row.guesses[g], row.tokens)
            assert states.count("accepted") == right
            assert states[:right] == ["accepted"] * right
            assert states.count("rejected") == (right < len(row.guesses[g]))
            if g == row.best:
                assert right == min(row.accepted, len(row.tokens))


def test_the_text_is_what_was_committed(run: Sized) -> None:
    (W, N, G), steps = run
    [text] = collect(iter(steps))
    film = run_film(steps, W, N, G, name)
    lane = text_of(film)
    assert [cell.text for cell in lane.cells] == [name(token) for token in text]
    written = list(accumulate(len(step.rows[0].tokens) for step in steps))
    a_pass, taken, read = film.numbers
    for k, step in enumerate(steps):
        there = [now.state for cell in lane.cells if (now := cell.at(k))]
        assert len(there) == written[k]
        assert there.count("accepted") == int(taken.at(k))
        assert a_pass.at(k) == rate(written[k], k + 1)
        row = step.rows[0]
        assert read.at(k) == str(sum(map(len, (*row.window, *row.guesses))))
        tokens = f"{written[k]} token{'s' * (written[k] != 1)}"
        assert lane.notes[k] == f"{tokens}, {k + 1} pass{'es' * (k > 0)}"


def test_captions_of_a_run(run: Sized) -> None:
    (W, N, G), steps = run
    film = run_film(steps, W, N, G, name)
    for step, caption in zip(steps, film.captions, strict=True):
        row = step.rows[0]
        assert caption.startswith(f"“{name(row.window[0][0])}” is the newest token.")
        assert ("one more line" in caption) == (len(row.window) < N - 1)
        assert ("n-grams of" in caption) == (len(row.window) == N - 1)
        assert ("no guess for" in caption) == (not row.guesses)
        if row.best is not None:
            assert f"Guess {row.best + 1} has {row.accepted} token" in caption
        if len(row.tokens) > row.accepted:
            assert f"“{name(row.tokens[-1])}” is the model's own choice" in caption


def test_every_pass_has_a_picture(run: Sized) -> None:
    (W, N, G), steps = run
    film = run_film(steps, W, N, G, name)
    for k in range(film.steps):
        assert ET.fromstring(picture(film, k)).get("aria-label") == summary(film, k)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: ([], 4, 4, 2),
        lambda: (steps_of(4, 4, 2), 4, 3, 2),
        lambda: (steps_of(4, 4, 3), 4, 4, 1),
        lambda: (list(decode_lookahead(counting(9), [PROMPT, [1]], max_new_tokens=2)), 5, 4, 5),
    ],
)
def test_what_is_no_run_is_refused(wrong: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match="no run of one row"):
        run_film(*wrong(), name)


def test_a_random_model_and_a_stop_inside_of_a_guess() -> None:
    steps = steps_of(4, 4, 4, model=oracles.tiny(minillm))
    assert run_film(steps, 4, 4, 4, name).steps == len(steps)
    stopped = list(decode_lookahead(counting(9), [PROMPT], max_new_tokens=40, stop=[4]))
    film = run_film(stopped, 5, 4, 5, name)
    [text] = collect(iter(stopped))
    assert [cell.text for cell in text_of(film).cells] == [name(token) for token in text]


def test_n_grams_that_stood_in_the_text() -> None:
    def row(newest: int, tokens: tuple[int, ...], guess: tuple[int, ...], right: int) -> Any:
        import torch

        best = 0 if right else None
        looked = LookaheadRow(
            tokens, torch.zeros(len(tokens), 9), False, ((newest,),), (), (guess,), best, right
        )
        return LookaheadStep((looked,), (0,), 1, 1, 0.0)

    prompt = [1, 2, 3, 1]
    steps = [
        row(1, (2, 9), (2, 3), 1),  # 1 2 stood there
        row(9, (5, 6, 7), (5, 6), 2),  # 9 5 6 did not
        row(7, (1,), (4, 4), 0),  # nothing was right
        row(1, (2, 9, 5), (2, 9), 2),  # 1 2 9 was written meanwhile
    ]
    assert found_in_text(steps, prompt) == (3, 2)


def test_agreed() -> None:
    assert agreed((1, 2, 3), (1, 2, 9)) == 2
    assert agreed((1, 2), (1, 2, 3)) == 2
    assert agreed((4,), (1,)) == 0
    assert agreed((), (1,)) == 0


# Explorers


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return minillm.load("stories-draft")[1]


PROMPTS = ["The cat sat on the mat. The cat sat", "Once upon a time"]


def test_the_mask_explorer(draft: Transformer, tokenizer: Tokenizer) -> None:
    explorer = MaskExplorer(draft, tokenizer, PROMPTS)
    assert "W = 4, N = 4, G = 2: at most (W + G)(N - 1) = 18 tokens" in explorer.summary()
    assert len(grids_of(explorer.player.film)[0].rows) <= 5
    for control, value in (("W", 8), ("N", 6), ("G", 8), ("N", 2), ("W", 1), ("G", 1)):
        explorer.controls[control].value = value
        film = explorer.player.film
        assert 0 <= explorer.player.step < film.steps
        assert f"{control} = {value}" in explorer.readout.text
        assert f"here {film.steps}; lines of the window: " in explorer.readout.text
        assert len(explorer._row.window) == explorer["N"] - 1
        assert all(len(guess) == explorer["N"] - 1 for guess in explorer._row.guesses)
    explorer.controls["text"].value = "a " * 900
    assert explorer.player.film.steps >= 1
    assert set(explorer.outputs()[0]) == {"text/html", "text/plain"}


def test_the_run_explorer(draft: Transformer, tokenizer: Tokenizer) -> None:
    explorer = LookaheadExplorer(draft, tokenizer, PROMPTS, new=24)
    steps = explorer.player.film.steps
    assert f"W = 5, N = 4, G = 5, greedy: 24 tokens in {steps} passes" in explorer.summary()
    best = max(len(step.rows[0].tokens) for step in explorer._steps)
    assert len(explorer._steps[explorer.player.step].rows[0].tokens) == best
    for control, value in (("W", 8), ("N", 6), ("G", 8), ("N", 2), ("W", 1), ("G", 1)):
        explorer.controls[control].value = value
        assert f"{control} = {value}" in explorer.readout.text
    explorer.controls["temperature"].value = 0.8
    assert "temperature 0.8" in explorer.readout.text
    explorer.controls["text"].value = "<b>&amp;</b> 🎈\n"
    for k in range(explorer.player.film.steps):
        assert ET.fromstring(picture(explorer.player.film, k)) is not None


def test_a_machine_that_slows_down_moves_no_gain() -> None:
    def measure(model: Any) -> dict[Any, float]:
        plain, runs = measure_settings(model, [PROMPT, PROMPT], [1, 4], [2, 4], max_new_tokens=12)
        found = {(N, W): run for N, by in runs.items() for W, run in by.items()}
        return {key: run.measured(plain) for key, run in found.items()}

    ratios_hold(counting(9), measure)


def test_settings_are_measured_by_n_and_by_what_a_pass_reads() -> None:
    plain, found = measure_settings(counting(9), [PROMPT], [1, 4], [2, 4], max_new_tokens=20)
    assert plain.a_pass == 1
    assert {N: list(runs) for N, runs in found.items()} == {2: [1, 4], 4: [1, 4]}
    V = {1: 1.0, 4: 1.5, 32: 4.0}
    explorer = LookaheadGainExplorer(plain, found, V)
    cost, *curves = explorer.chart().series
    most = max(run.mean_read for runs in found.values() for run in runs.values())
    assert list(cost.x) == [1, 4, most]
    assert list(cost.y) == pytest.approx([1, 1.5, cost_at(V, most)])
    for curve, (N, runs) in zip(curves, found.items(), strict=True):
        assert curve.name == f"N = {N}"
        assert list(curve.x) == [run.mean_read for run in runs.values()]
        assert list(curve.y) == [run.a_pass for run in runs.values()]
    explorer.controls["N"].value = "N = 4"
    explorer.controls["W = G"].value = 1
    run = found[4][4]
    assert explorer.readout.text.startswith(f"N = 4, W = G 4: {run.a_pass:.2f} tokens a pass")
    assert explorer.chart().note == (run.mean_read, run.a_pass, f"{run.a_pass:.2f}")
    assert run.a_pass > found[2][1].a_pass
