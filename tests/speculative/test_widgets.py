"""The films of speculation tell what the rounds did; the hunt, what the meters see."""

import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any

import oracles
import pytest
import torch

import minillm
import widgets.speculative.hunt as speculative_hunt
from minillm import Sampler, Transformer, decode_cached, generators, load
from minillm.speculative.bug_gallery import GALLERY
from minillm.speculative.decode import SpeculativeRow, SpeculativeStep, decode_speculative
from minillm.speculative.drafters import DraftModel
from minillm.speculative.prompt_lookup import PromptLookup
from minillm.speculative.verification import residual
from widgets.common.drawing.film import Bars, Film, Lane, Lanes
from widgets.common.drawing.svg import picture, summary
from widgets.common.player import StepPlayer
from widgets.speculative import AcceptanceExplorer, BugHunt, Meters, rounds_film, turns_film

ODD = ["\n", "<b>&amp;</b>", "🎈", "שלום", " \t", "", "\x00"]
PROMPT = [1, 2, 3]


def pair(noise: float = 0.05) -> tuple[Transformer, Transformer]:
    """A tiny target, and a draft that is right now and then."""
    target, draft = (oracles.tiny(minillm, seed=2) for _ in range(2))
    random = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for weight in draft.parameters():
            weight.add_(noise * torch.randn(weight.shape, generator=random, dtype=weight.dtype))
    return target, draft


def word(token: int) -> str:
    return f"t{token}"


class Run:
    """Both decoders on one prompt, and the film of them."""

    def __init__(
        self,
        gamma: int = 3,
        temperature: float = 0.0,
        new: int = 16,
        stop: Sequence[int] = (),
        drafter: Any = None,
        name: Callable[[int], str] = word,
    ):
        target, draft = pair()
        options: dict[str, Any] = {
            "max_new_tokens": new,
            "sampler": Sampler(temperature),
            "stop": stop,
        }
        self.rounds: list[SpeculativeStep] = list(
            decode_speculative(
                target,
                [PROMPT],
                drafter=drafter or DraftModel(draft),
                gamma=gamma,
                generators=generators(1, 1),
                **options,
            )
        )
        self.rows = [step.rows[0] for step in self.rounds]
        self.plain = list(decode_cached(target, [PROMPT], generators=generators(1, 1), **options))[
            : sum(len(row.tokens) for row in self.rows)
        ]
        self.film = rounds_film(self.plain, self.rounds, name)

    @property
    def lanes(self) -> tuple[Lane, ...]:
        return lanes(self.film, 1)

    @property
    def starts(self) -> list[int]:
        """The step in which each round's guesses are written."""
        return [lane.start for lane in self.lanes]

    def ends(self) -> list[int]:
        """Its last step."""
        return [start - 1 for start in [*self.starts[1:], self.film.steps]]


def lanes(film: Film, panel: int) -> tuple[Lane, ...]:
    found = film.panels[panel]
    assert isinstance(found, Lanes)
    return found.lanes


def number(film: Film, label: str) -> list[str]:
    """The values of the number whose label starts so, one per step."""
    found = next(n for n in film.numbers if n.label.startswith(label))
    return [found.at(step) for step in range(film.steps)]


def shown(lane: Lane, step: int) -> list[tuple[str, str]]:
    """State and text of the cells that are there."""
    return [(now.state, now.text or "") for cell in lane.cells if (now := cell.at(step))]


RUNS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sampled": {"temperature": 1.0, "new": 24},
    "one guess": {"gamma": 1, "temperature": 1.0},
    "more guesses than room": {"gamma": 8, "new": 5},
    "one token": {"new": 1},
    "prompt lookup": {"drafter": PromptLookup(), "new": 12},
}


@pytest.fixture(scope="module", params=RUNS.values(), ids=RUNS)
def run(request: pytest.FixtureRequest) -> Run:
    return Run(**request.param)


# What becomes of each guess


def fate(row: SpeculativeRow, i: int) -> str:
    if i < row.accepted:
        return "accepted"
    return "rejected" if i == row.accepted else "unchecked"


def test_a_round_is_a_row_with_the_fate_of_each_guess(run: Run) -> None:
    assert [lane.label for lane in run.lanes] == [f"round {r + 1}" for r in range(len(run.rows))]
    for lane, row, end in zip(run.lanes, run.rows, run.ends(), strict=True):
        *guesses, added = shown(lane, end)
        assert guesses == [(fate(row, i), word(token)) for i, token in enumerate(row.guesses)]
        resampled = row.accepted < len(row.guesses)
        assert added == ("resampled" if resampled else "bonus", word(row.tokens[-1]))
        assert shown(lane, run.film.steps - 1) == [*guesses, added]  # it stays so


def test_the_rows_read_as_the_text(run: Run) -> None:
    end = run.film.steps - 1
    kept = [
        text
        for lane in run.lanes
        for state, text in shown(lane, end)
        if state in ("accepted", "resampled", "bonus")
    ]
    assert kept == [word(token) for row in run.rows for token in row.tokens]


def test_a_step_judges_one_guess_or_adds_one_token(run: Run) -> None:
    assert run.film.steps == sum(1 + row.judged + 1 for row in run.rows)
    for lane, row, start in zip(run.lanes, run.rows, run.starts, strict=True):
        written = [("guess", word(token)) for token in row.guesses]
        assert shown(lane, start) == [*written, ("free", "")]
        for i in range(row.judged):
            states = [state for state, _ in shown(lane, start + 1 + i)]
            assert states[: i + 1] == [fate(row, k) for k in range(i + 1)]
            behind = "guess" if i < row.accepted else "unchecked"
            assert set(states[i + 1 : -1]) <= {behind}
            assert states[-1] == "free"


def test_a_replaced_guess_is_where_its_replacement_comes_from(run: Run) -> None:
    for lane, row in zip(run.lanes, run.rows, strict=True):
        *guesses, added = lane.cells
        origin = added.history[-1].origin
        rejected = row.accepted < len(row.guesses)
        assert origin == (guesses[row.accepted].link if rejected else None)
        assert added.arrow == bool(guesses)
    links = [cell.link for lane in run.lanes for cell in lane.cells[:-1]]
    assert len(set(links)) == len(links)


def test_tips_tell_p_q_and_the_number(run: Run) -> None:
    for lane, row in zip(run.lanes, run.rows, strict=True):
        for i, cell in enumerate(lane.cells[:-1]):
            if i >= row.judged:
                assert "after a rejection" in cell.tip
                continue
            token = row.guesses[i]
            p, q, u = float(row.p[i, token]), float(row.q[i, token]), float(row.u[i])
            assert cell.tip == f"p = {p:.2g}, q = {q:.2g}, drawn {u:.2g}"


def test_notes_count_the_kept(run: Run) -> None:
    for lane, row, start, end in zip(run.lanes, run.rows, run.starts, run.ends(), strict=True):
        if not row.guesses:
            assert set(lane.notes) == {"no guess"}
            continue
        assert lane.notes[start] == f"{len(row.guesses)} guesses"
        assert lane.notes[end] == f"{row.accepted} of {len(row.guesses)} accepted"


def test_the_text_is_what_the_rounds_wrote(run: Run) -> None:
    [text] = lanes(run.film, 0)
    end = run.film.steps - 1
    written = [now.text for cell in text.cells if (now := cell.at(end))]
    assert text.prose
    assert written == [word(t) for row in run.rows for t in row.tokens]


def bars(run: Run) -> list[Any]:
    panel = run.film.panels[2]
    assert isinstance(panel, Bars)
    assert panel.series == ("target", "proposal", "overlap", "residual")
    assert [entry.step for entry in panel.history] == list(range(run.film.steps))
    return list(panel.history)


def test_bars_are_p_q_their_overlap_and_the_residual(run: Run) -> None:
    history = bars(run)
    for row, start, end in zip(run.rows, run.starts, run.ends(), strict=True):
        assert history[start].labels == ()  # the target has not read them yet
        for step in range(start + 1, end + 1):
            entry, place = history[step], min(step - start - 1, row.accepted)
            token = row.tokens[-1] if step == end else row.guesses[place]
            assert entry.labels[entry.chosen] == word(token)
            assert all(map(any, entry.values))  # none is a filler
            p = row.p[place]
            judged = place < len(row.guesses)
            q = row.q[place] if judged else torch.zeros_like(p)
            more = residual(p, q) if judged else torch.zeros_like(p)
            wanted = [float(x[token]) for x in (p, q, torch.minimum(p, q), more)]
            assert entry.values[entry.chosen] == pytest.approx(wanted, abs=1e-4)
            sums = [sum(group[k] for group in entry.values) for k in range(4)]
            whole = [float(x.sum()) for x in (p, q, torch.minimum(p, q), more)]
            assert sums == pytest.approx(whole, abs=1e-3)
            total = f"add up to {float(torch.minimum(p, q).sum()):.2f}"
            assert (total in entry.title) == judged


def test_both_lanes_of_time_are_what_was_measured(run: Run) -> None:
    plain, guessed = lanes(run.film, 3)
    assert [bar.end for bar in plain.bars] == pytest.approx(
        [1e3 * s for s in accumulate(step.seconds for step in run.plain)]
    )
    assert {bar.series for bar in plain.bars} == {"baseline"}
    assert plain.baseline
    for r, step in enumerate(run.rounds):
        draft, verify, rest = guessed.bars[3 * r : 3 * r + 3]
        assert [bar.series for bar in (draft, verify, rest)] == ["draft", "verify", "rest"]
        assert draft.end - draft.start == pytest.approx(1e3 * step.draft_seconds)
        assert verify.end - verify.start == pytest.approx(1e3 * step.verify_seconds)
        assert rest.end - draft.start == pytest.approx(1e3 * step.seconds)
        assert (draft.step, rest.step) == (run.starts[r], run.ends()[r])
    assert all(a.end == b.start for a, b in pairwise(guessed.bars))


def test_plain_time_is_shown_for_as_many_tokens(run: Run) -> None:
    for step in range(run.film.steps):
        cells = [state for lane in run.lanes for state, _ in shown(lane, step)]
        written = sum(state in ("accepted", "resampled", "bonus") for state in cells)
        assert sum(bar.step <= step for bar in lanes(run.film, 3)[0].bars) == written


def test_numbers_are_those_of_the_rounds(run: Run) -> None:
    last = run.film.steps - 1
    accepted, judged = (sum(map(of, run.rows)) for of in (lambda r: r.accepted, lambda r: r.judged))
    assert number(run.film, "kept")[last] == f"{accepted} of {judged}"
    most = max(len(row.guesses) for row in run.rows)
    places = [
        f"{sum(row.accepted > i for row in run.rows)}/{n}"
        for i in range(most)
        if (n := sum(row.judged > i for row in run.rows))
    ]
    assert number(run.film, "kept at guess 1")[last] == ("  ".join(places) or "–")
    tokens = sum(len(row.tokens) for row in run.rows)
    assert number(run.film, "tokens a pass")[last] == f"{tokens / len(run.rows):.2f}"
    slow, fast = (sum(step.seconds for step in steps) for steps in (run.plain, run.rounds))
    assert number(run.film, "faster so far")[last] == f"{slow / fast:.2f}×"
    tags = {n.label.split(",")[0]: n.tag for n in run.film.numbers}
    assert tags.pop("faster so far") == "measured"
    assert set(tags.values()) == {"computed"}


def test_numbers_of_a_round_wait_for_its_end(run: Run) -> None:
    speed = number(run.film, "faster so far")
    assert speed[0] == "–"
    for start, end in zip(run.starts[1:], run.ends(), strict=False):
        assert speed[start] == speed[end]


def test_captions_tell_the_step(run: Run) -> None:
    for row, start, end in zip(run.rows, run.starts, run.ends(), strict=True):
        assert run.film.captions[start].startswith(f"Round {run.starts.index(start) + 1}: ")
        for i in range(row.judged):
            token = row.guesses[i]
            told = run.film.captions[start + 1 + i]
            p, q = float(row.p[i, token]), float(row.q[i, token])
            assert told.startswith(f"“{word(token)}”: ")
            if i == row.accepted:
                assert "rejected." in told
                left = len(row.guesses) - i - 1
                assert ("never checked" in told) == bool(left)
            elif p >= q:
                assert "in any case" in told or "too: accepted." in told
            else:
                assert f"= {p / q:.2g}. The number drawn is" in told
                assert told.endswith("below it: accepted.")
        added = run.film.captions[end]
        assert ("replaces" in added) == (row.accepted < len(row.guesses))
        assert f"“{word(row.tokens[-1])}”" in added
    assert "and the prompt with" in run.film.captions[0]


def test_every_step_has_a_picture_without_what_was_measured(run: Run) -> None:
    for step in range(run.film.steps):
        root = ET.fromstring(picture(run.film, step))
        assert root.get("aria-label") == summary(run.film, step)
        assert "ms" not in summary(run.film, step)
    assert len(str(StepPlayer(run.film).get_state()["film"])) < 100_000


def test_kept_guesses_behind_a_stop_token_are_thrown_away() -> None:
    """With the draft as good as the target, every place of a round can be where the text ends."""
    target, _ = pair()
    whole = [row.tokens for row in Run(gamma=4, new=15, drafter=DraftModel(target)).rows]
    text = [token for tokens in whole for token in tokens]
    ends = set()
    for stop in dict.fromkeys(text):
        run = Run(gamma=4, new=15, stop=[stop], drafter=DraftModel(target))
        last, row = run.lanes[-1], run.rows[-1]
        taken = len(row.tokens)
        states = [state for state, _ in shown(last, run.film.steps - 1)]
        if taken <= row.accepted:  # no token of the target's behind them
            wasted = len(row.guesses) - taken
            assert states == ["accepted"] * taken + ["wasted"] * wasted
            assert run.film.steps == run.starts[-1] + 1 + taken
            assert all(cell.tip == "after the end of the text" for cell in last.cells[taken:])
        else:
            assert states[-1] == "bonus"
        ends.add(taken)
    assert len(ends) > 2


def test_odd_texts_stay_text() -> None:
    run = Run(name=lambda token: ODD[token % len(ODD)])
    for step in range(run.film.steps):
        ET.fromstring(picture(run.film, step))
        assert "\n" not in summary(run.film, step)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda run: (run.plain[:-1], run.rounds),
        lambda run: (run.plain, run.rounds[:-1]),
        lambda run: ([], []),
        lambda run: (run.plain, []),
    ],
)
def test_runs_that_do_not_fit_are_refused(wrong: Callable[[Run], Any]) -> None:
    run = Run()
    plain, rounds = wrong(run)
    with pytest.raises(ValueError, match=f"{len(plain)} plain steps and {len(rounds)} rounds"):
        rounds_film(plain, rounds, word)


def test_a_batch_is_no_run_of_one_row() -> None:
    target, draft = pair()
    rounds = list(
        decode_speculative(target, [[1], [2]], drafter=DraftModel(draft), max_new_tokens=3)
    )
    with pytest.raises(ValueError, match="not one row"):
        rounds_film(list(decode_cached(target, [[1]], max_new_tokens=6)), rounds, word)


# The two models take turns


def test_the_two_models_never_work_at_once() -> None:
    run = Run()
    film = turns_film(run.rounds)
    draft, target = (lane.bars for lane in lanes(film, 0))
    assert len(draft) == len(target) == film.steps == len(run.rounds)
    for r, (guessing, checking) in enumerate(zip(draft, target, strict=True)):
        assert guessing.end == checking.start
        assert r == 0 or target[r - 1].end <= guessing.start
        assert f"Round {r + 1}: " in film.captions[r]
        guesses = len(run.rows[r].guesses)
        told = f"{guesses} passes" if guesses > 1 else "one pass" if guesses else "no pass"
        assert told in film.captions[r]
    busy = sum(step.draft_seconds for step in run.rounds)
    share = busy / sum(step.seconds for step in run.rounds)
    assert number(film, "of the time the draft")[-1] == f"{share:.0%}"
    ET.fromstring(picture(film, film.steps - 1))


def test_no_round_no_film() -> None:
    with pytest.raises(ValueError, match="no round"):
        turns_film([])


# The acceptance explorer


@pytest.fixture(scope="module")
def explorer(draft: Transformer) -> AcceptanceExplorer:
    drafters = {"itself": DraftModel(draft), "lookup": PromptLookup()}
    _, tokenizer = load("stories-draft")
    return AcceptanceExplorer(draft, tokenizer, drafters, ["One day", "Tim and Tim"], new=6)


def test_a_run_in_which_all_was_kept_is_shown_at_its_end(explorer: AcceptanceExplorer) -> None:
    film = explorer.player.film
    assert explorer.player.step == film.steps - 1
    assert explorer.readout.text == explorer.summary()
    assert explorer.summary().startswith("itself, gamma 4, temperature 1: 6 tokens in 2 passes")
    assert "5 of 5 guesses accepted" not in explorer.summary()  # the last round has less room
    assert "\n" not in explorer.summary()


def test_three_controls_are_seen_at_once_and_each_has_a_name(explorer: AcceptanceExplorer) -> None:
    *shown, more = explorer.children[0].children
    assert len(shown) == 3 + 1  # the model's name stands beside the prompt
    controls = [*explorer.controls["text"].children[:2], *explorer.controls.values()]
    assert all(control.description for control in controls if control.has_trait("description"))
    folded = explorer.children[1]
    assert folded.layout.display == "none"
    more.value = True
    assert folded.layout.display == "flex"
    assert len(folded.children) == 2


@pytest.mark.parametrize(
    ("control", "value"),
    [
        ("gamma", 1),
        ("temperature", 0.0),
        ("text", "The cat sat. The cat"),
        ("seed", 3),
    ],
)
def test_a_control_runs_both_decoders_anew(
    explorer: AcceptanceExplorer, control: str, value: Any
) -> None:
    before, old = explorer.player.film, explorer[control]
    explorer.controls[control].value = value
    assert explorer.player.film != before
    assert explorer.readout.text == explorer.summary()
    explorer.controls[control].value = old


def test_another_drafter_guesses(explorer: AcceptanceExplorer) -> None:
    explorer.controls["text"].value = "Tim and Sam. Tim and Sam. Tim"
    explorer.controls["drafter"].label = "lookup"
    assert explorer.summary().startswith("lookup, gamma 4")
    replaced = set()
    for seed in range(4):
        explorer.controls["seed"].value = seed
        film = explorer.player.film
        rejected = any("rejected" in caption for caption in film.captions)
        told = film.captions[explorer.player.step]
        assert ("replaces the rejected guess" in told) == rejected  # what is shown first
        assert rejected or explorer.player.step == film.steps - 1
        replaced.add(rejected)
    assert True in replaced
    for name, value in {"text": "", "seed": 0}.items():
        explorer.controls[name].value = value
    explorer.controls["drafter"].label = "itself"


def test_a_text_longer_than_the_context_is_cut(explorer: AcceptanceExplorer) -> None:
    explorer.controls["text"].value = "one two three " * 400
    assert "6 tokens in" in explorer.summary()
    assert told(explorer) == "Cut: the last 506 of its 1202 tokens are read."
    explorer.controls["text"].value = ""
    assert told(explorer) is None


def told(explorer: AcceptanceExplorer) -> str | None:
    """What the reader is told of a text that is too long."""
    note = explorer.controls["text"].children[2]
    return None if note.layout.display == "none" else note.value


def test_at_temperature_0_no_bar_is_a_filler(explorer: AcceptanceExplorer) -> None:
    explorer.controls["temperature"].value = 0.0
    (bars,) = (panel for panel in explorer.player.film.panels if isinstance(panel, Bars))
    judged = [at for at in bars.history if at.values]
    assert judged
    assert all(any(group) for at in judged for group in at.values)
    explorer.controls["temperature"].value = 1.0


def test_the_explorer_is_stored_as_picture_and_line(explorer: AcceptanceExplorer) -> None:
    bundle = explorer.outputs()[0]
    assert bundle["text/plain"] == explorer.summary()
    assert ET.fromstring(explorer.picture()).get("role") == "img"


# The hunt


SEEN = {  # by the name of the defect, the meters that see it
    "residual = p": {"first", "start", "pairs"},
    "argmax draft, softmax q": {"first"},
    "one uniform for all positions": {"pairs"},
    "bonus after a rejection": {"first", "pairs"},
    "the target's own sample, accepted by ratio": {"first", "start", "pairs"},
    "cache not rewound": {"greedy", "cache"},
    "past a stop token": {"stop"},
}


@pytest.fixture(scope="module")
def meters() -> Meters:
    return Meters(*pair(), [PROMPT])


@pytest.mark.parametrize("bug", GALLERY, ids=str)
def test_each_defect_is_seen_by_its_meters(meters: Meters, bug: Any) -> None:
    found = meters.examine(bug)
    assert {meter for meter, holds in vars(found).items() if not holds} == SEEN[bug.name]
    assert not found.exact


def test_the_library_itself_passes_all_meters(meters: Meters) -> None:
    assert meters.examine(None).exact


def test_a_text_must_hold_a_kept_guess_and_a_rejected_one() -> None:
    target, draft = pair()
    with pytest.raises(ValueError, match="no text of 16 tokens has both"):
        Meters(target, target, [PROMPT, [4]])  # all are kept
    with pytest.raises(ValueError, match="no text of 1 tokens has both"):
        Meters(target, draft, [PROMPT], new=1)  # there is none


@pytest.fixture
def hunt(meters: Meters) -> BugHunt:
    return BugHunt(meters)


def suspect_of(name: str | None) -> int:
    """Its number in the row of suspects."""
    index = None if name is None else [bug.name for bug in GALLERY].index(name)
    return 1 + speculative_hunt._ORDER.index(index)


def test_every_defect_and_the_right_code_are_among_the_suspects(hunt: BugHunt) -> None:
    assert sorted(speculative_hunt._ORDER, key=str) == sorted([*range(7), None], key=str)
    assert list(hunt.suspect.options) == list(range(1, 9))


def test_a_suspect_is_shown_by_its_symptoms_alone(hunt: BugHunt) -> None:
    hunt.suspect.value = suspect_of("past a stop token")
    told = hunt.summary()
    assert "the text runs past a stop token" in told
    assert "the cache equals a fresh prefill" in told
    assert not any(bug.effect in hunt.card.html for bug in GALLERY)
    assert "<details>" not in hunt.card.html
    assert hunt.card.summary() == told


@pytest.mark.parametrize("bug", GALLERY, ids=str)
def test_the_right_diagnosis_shows_the_patch(hunt: BugHunt, bug: Any) -> None:
    hunt.suspect.value = suspect_of(bug.name)
    hunt.diagnosis.label = bug.name
    assert f"Found: {bug.name}. {bug.effect}" in hunt.summary()
    assert "<details>" in hunt.card.html
    assert bug.seen.split(",")[0] in hunt._note().folds[0][0]


def test_a_wrong_diagnosis_names_the_meter_that_speaks_against_it(hunt: BugHunt) -> None:
    hunt.suspect.value = suspect_of("cache not rewound")
    hunt.diagnosis.label = "bonus after a rejection"
    assert hunt.summary().endswith(
        "Not bonus after a rejection: there the meters would say “greedy: its text is that of "
        "plain decoding”."
    )
    assert "<details>" not in hunt.card.html
    hunt.diagnosis.label = "nothing"
    assert "Not the library's own code: there the meters would say" in hunt.summary()


def test_two_defects_no_meter_tells_apart(hunt: BugHunt) -> None:
    hunt.suspect.value = suspect_of("residual = p")
    hunt.diagnosis.label = "the target's own sample, accepted by ratio"
    assert "No meter tells the two apart, but this one is: residual = p." in hunt.summary()


def test_the_innocent_one(hunt: BugHunt) -> None:
    hunt.suspect.value = suspect_of(None)
    hunt.diagnosis.label = "nothing"
    assert "nothing is wrong with this one" in hunt.summary()
    hunt.diagnosis.label = "residual = p"
    assert "Not residual = p" in hunt.summary()


def test_another_suspect_starts_anew(hunt: BugHunt) -> None:
    hunt.diagnosis.label = "past a stop token"
    hunt.suspect.value = 2
    assert hunt.diagnosis.label == "what is wrong?"
    assert hunt.card.summary() == hunt.summary()
    bundle = hunt.outputs()[0]
    assert bundle["text/plain"] == hunt.summary()
    assert ET.fromstring(hunt.picture()).get("role") == "img"
