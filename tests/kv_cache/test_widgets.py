"""The films of the cache tell what the decoders did; the capacity explorer what sizes imply."""

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any

import oracles
import pytest
import torch

import minillm
from minillm import ModelConfig, Transformer, decode_cached, decode_recomputed, kv_bytes
from minillm.data.hardware import ACCELERATORS
from minillm.data.public_models import MODELS, PublicModel
from minillm.decoding import Step, collect
from minillm.roofline import work
from widgets.common.drawing.film import BLANK, Film, Heat, Lane, Lanes
from widgets.common.drawing.svg import picture, summary
from widgets.common.player import StepPlayer
from widgets.kv_cache import CapacityExplorer, batch_film, growth_film

ODD = ["\n", "<b>&amp;</b>", "🎈", "שלום", " \t", "", "\x00"]


def states(lane: Lane, step: int) -> list[str]:
    """Of the cells that are there."""
    return [now.state for cell in lane.cells if (now := cell.at(step))]


def number(film: Film, label: str) -> list[str]:
    """The values of the number whose label starts so, one per step."""
    found = next(n for n in film.numbers if n.label.startswith(label))
    return [found.at(step) for step in range(film.steps)]


# One more token, without and with a cache


class Run:
    """Both decoders on one prompt, and the film of them."""

    def __init__(self, prompt: int, new: int, pieces: Sequence[str] = (), context: int = 64):
        model = oracles.tiny(minillm, dtype=torch.float32, max_position_embeddings=context)
        self.config: ModelConfig = model.config
        self.prompt, tokens = prompt, oracles.tokens_of(0, prompt).tolist()
        self.plain, self.cached = (
            list(decode(model, [tokens], max_new_tokens=new))
            for decode in (decode_recomputed, decode_cached)
        )
        tokens += collect(iter(self.cached))[0][:-1]
        self.pieces = list(pieces) or [f"t{token}" for token in tokens]
        self.film = growth_film(self.plain, self.cached, self.pieces, self.config)

    def lanes(self, panel: int) -> tuple[Lane, ...]:
        found = self.film.panels[panel]
        assert isinstance(found, Lanes)
        return found.lanes

    def work(self, panel: int) -> Heat:
        found = self.film.panels[panel]
        assert isinstance(found, Heat)
        return found

    def birth(self, i: int) -> int:
        """The step that first forwards token i."""
        return max(0, i - self.prompt + 1)


@pytest.fixture(scope="module", params=[(5, 6), (1, 4), (4, 1), (1, 1)], ids=str)
def run(request: pytest.FixtureRequest) -> Run:
    return Run(*request.param)


def test_cells_are_what_each_step_computed_and_read(run: Run) -> None:
    assert run.film.steps == len(run.plain)
    [text] = run.lanes(0)
    for s, fast in enumerate(run.cached):
        held, free = fast.cached[0], len(run.pieces) - fast.cached[0]
        assert states(text, s) == (
            ["read"] * (held - fast.computed) + ["computed"] * fast.computed + ["free"] * free
        )


def test_cells_have_their_text_once_written(run: Run) -> None:
    for lane in run.lanes(0):
        assert [cell.text for cell in lane.cells] == run.pieces
        for i, cell in enumerate(lane.cells):
            texts = [now.text for s in range(run.film.steps) if (now := cell.at(s))]
            assert texts == [
                run.pieces[i] if s >= run.birth(i) else "" for s in range(run.film.steps)
            ]


def test_tips_tell_the_token_and_the_player_its_step(run: Run) -> None:
    """The player says "written in step n" of a cell's last event."""
    wire = StepPlayer(run.film).get_state()["film"]
    for lane, shown in zip(run.lanes(0), wire["panels"][0]["lanes"], strict=True):
        for i, cell in enumerate(shown["cells"]):
            assert cell["tip"] == lane.cells[i].tip == f"token {i}: “{run.pieces[i]}”"
            assert cell["link"] == f"token {i}"
            written = [entry[0] for entry in cell["history"] if entry[1] in wire["events"]]
            assert written == [run.birth(i)]


def test_notes_and_captions_count_as_the_steps_do(run: Run) -> None:
    [stack] = run.lanes(4)
    for s, fast in enumerate(run.cached):
        size = kv_bytes(run.config, fast.cached[0], torch.float32)
        assert stack.notes[s] == f"{size:,} B"
        assert stack.bars[s].end == size
    assert f"the prompt's {run.prompt} tokens" in run.film.captions[0]
    for s, caption in enumerate(run.film.captions[1:], start=1):
        held = run.prompt + s
        without = work(run.config, new=held, logits="last").flops
        saved = without / work(run.config, new=1, cached=held - 1, logits="last").flops
        assert caption.startswith(f"“{run.pieces[held - 1]}”: its query meets {held - 1} stored")
        assert f"{kv_bytes(run.config, 1, torch.float32):,} bytes written" in caption
        assert f"{kv_bytes(run.config, held - 1, torch.float32):,} read" in caption
        assert f", {saved:.0f} times as many" in caption


def test_numbers_are_those_of_the_library(run: Run) -> None:
    card = ACCELERATORS["RTX 4090"].memory
    held = [step.cached[0] for step in run.cached]
    assert number(run.film, "such caches fill 24 GB") == [
        f"{card / kv_bytes(run.config, n, torch.float32):,.0f}" for n in held
    ]
    per_token = f"{kv_bytes(run.config, 1, torch.float32):,}"
    each = f"{per_token} bytes a token: k and v × 2 layers × 2 heads × 6"
    assert run.film.panels[4].title.endswith(each)  # type: ignore[union-attr]
    slow, fast = (list(accumulate(s.computed for s in steps)) for steps in (run.plain, run.cached))
    assert number(run.film, "tokens through the layers") == [
        f"{a:,} → {b:,}" for a, b in zip(slow, fast, strict=True)
    ]
    assert number(run.film, "this step") == [
        f"{1e3 * a.seconds:.1f} → {1e3 * b.seconds:.1f} ms"
        for a, b in zip(run.plain, run.cached, strict=True)
    ]
    tags = {n.label.split(",")[0]: n.tag for n in run.film.numbers}
    assert (tags["this step"], tags["faster so far"]) == ("measured", "measured")
    assert list(tags.values()).count("computed") == 2


def test_time_bars_follow_one_another_and_add_up(run: Run) -> None:
    panel = run.film.panels[3]
    assert isinstance(panel, Lanes)
    for lane, steps in zip(panel.lanes, (run.plain, run.cached), strict=True):
        assert [bar.step for bar in lane.bars] == list(range(len(steps)))
        assert lane.bars[0].start == 0
        assert all(a.end == b.start for a, b in pairwise(lane.bars))
        for bar, step in zip(lane.bars, steps, strict=True):
            assert bar.end - bar.start == pytest.approx(1e3 * step.seconds)
        assert lane.bars[-1].end == pytest.approx(1e3 * sum(step.seconds for step in steps))
    assert panel.span == max(lane.bars[-1].end for lane in panel.lanes)


def test_a_row_is_what_a_step_computes_and_reads(run: Run) -> None:
    for panel, old in ((1, "again"), (2, "read")):
        heat = run.work(panel)
        assert heat.states == ("computed", old)
        assert (heat.rows, heat.columns) == (len(run.cached), len(run.pieces))
        rows = []
        for s, (slow, fast) in enumerate(zip(run.plain, run.cached, strict=True)):
            held, new = fast.cached[0], fast.computed
            assert held == slow.computed  # without a cache all of them, again
            rows += [1] * (held - new) + [0] * new + [BLANK] * (heat.columns - held)
            unborn = [BLANK] * (heat.columns * heat.rows - len(rows))
            assert list(heat.at(s)) == rows + unborn


def test_it_opens_where_the_two_ways_have_parted() -> None:
    film = Run(5, 6).film
    assert film.opening == StepPlayer(film).step == 3
    assert StepPlayer(film, step=1).step == 1


def test_every_step_has_a_picture_without_what_was_measured(run: Run) -> None:
    for s in range(run.film.steps):
        assert ET.fromstring(picture(run.film, s)).get("aria-label") == summary(run.film, s)
        assert "ms" not in summary(run.film, s)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda run: (run.plain[:-1], run.cached, run.pieces),
        lambda run: (run.plain, run.cached[:-1], run.pieces),
        lambda run: (run.plain[:-1], run.cached[:-1], run.pieces),
        lambda run: (run.plain, run.cached, run.pieces[:-1]),
        lambda run: (run.plain, run.cached, [*run.pieces, "last"]),
        lambda run: (run.plain, run.cached, run.pieces[:2]),
        lambda run: (run.plain, run.cached, []),
        lambda run: (run.cached, run.plain, run.pieces),
        lambda run: (run.plain, run.plain, run.pieces),
        lambda run: ([], [], []),
        lambda run: ([], [], ["a"]),
    ],
)
def test_runs_that_do_not_fit_are_refused(wrong: Callable[[Run], Any]) -> None:
    run = Run(3, 4)
    plain, cached, pieces = wrong(run)
    with pytest.raises(ValueError, match=f"{len(plain)} and {len(cached)} steps do not fit"):
        growth_film(plain, cached, pieces, run.config)


def test_a_batch_is_no_run_of_one_row() -> None:
    model = oracles.tiny(minillm)
    plain, cached = (
        list(decode(model, [[1, 2], [3, 4]], max_new_tokens=2))
        for decode in (decode_recomputed, decode_cached)
    )
    with pytest.raises(ValueError, match="of one row"):
        growth_film(plain, cached, ["a"] * 5, model.config)


def test_512_tokens_are_shown_and_513_refused() -> None:
    run = Run(481, 32, context=600)
    assert len(run.pieces) == 512
    assert states(run.lanes(0)[0], 31) == ["read"] * 511 + ["computed"]
    assert len(str(StepPlayer(run.film).get_state()["film"])) < 500_000
    assert len(picture(run.film, 31)) < 300_000
    with pytest.raises(ValueError, match="1 to 512 cells"):
        Run(482, 32, context=600)


def test_odd_texts_stay_text() -> None:
    run = Run(3, len(ODD) - 2, pieces=ODD)
    for s in range(run.film.steps):
        shown = "".join(ET.fromstring(picture(run.film, s)).itertext())
        assert "<b>&amp;</b>" in shown
        assert "\n" not in summary(run.film, s)


# One batch


def batch(
    prompts: Sequence[int], new: int, **more: Any
) -> tuple[list[Step], Film, list[list[str]]]:
    """A run of rows that end with the context of 16 at the latest, and its film."""
    model = oracles.tiny(minillm, max_position_embeddings=16)
    tokens = [oracles.tokens_of(i, n).tolist() for i, n in enumerate(prompts)]
    steps = list(decode_cached(model, tokens, max_new_tokens=new, **more))
    texts = [[f"p{t}" for t in row] for row in tokens]
    made = [[f"n{t}" for t in row] for row in collect(iter(steps))]
    whole = [a + b[:-1] for a, b in zip(texts, made, strict=True)]  # forwarded
    return steps, batch_film(steps, texts, made), whole


BATCHES = {
    "rows end after 6, 4 and 1": ([3, 12, 15], 6),
    "the longest row first": ([15, 1], 9),
    "rows of one length": ([4, 4], 3),
    "one row": ([5], 4),
    "one step": ([2, 7, 1], 1),
}


@pytest.mark.parametrize(("prompts", "new"), BATCHES.values(), ids=BATCHES)
def test_places_are_computed_read_or_wasted(prompts: list[int], new: int) -> None:
    steps, film, whole = batch(prompts, new)
    (panel,) = film.panels
    assert isinstance(panel, Lanes)
    for s, step in enumerate(steps):
        shown = [Counter(states(lane, s)) for lane in panel.lanes]
        before = [Counter(states(lane, s - 1)) for lane in panel.lanes] if s else [Counter()] * 9
        written = sum(n["computed"] for n in shown)
        wasted_now = sum(n["wasted"] - old["wasted"] for n, old in zip(shown, before, strict=False))
        assert written + wasted_now == step.computed
        assert [n["computed"] + n["read"] for n in shown] == list(step.cached)
        for b, (lane, n) in enumerate(zip(panel.lanes, shown, strict=True)):
            ended = s and steps[s - 1].rows[b].ended
            assert n["wasted"] - before[b]["wasted"] == (
                max(prompts) - prompts[b] if s == 0 else int(bool(ended))
            )
            assert lane.notes[s] == ("ended" if step.rows[b].ended else f"{step.cached[b]} cached")
    for lane, texts in zip(panel.lanes, whole, strict=True):
        kept = [c for c in lane.cells if c.history[0].state != "wasted"]
        assert [cell.text for cell in kept] == texts
        assert all(c.tip and not c.text for c in lane.cells if c.history[0].state == "wasted")


@pytest.mark.parametrize(("prompts", "new"), BATCHES.values(), ids=BATCHES)
def test_counts_of_a_batch_are_those_of_the_steps(prompts: list[int], new: int) -> None:
    steps, film, _ = batch(prompts, new)
    computed = list(accumulate(step.computed for step in steps))
    kept = [sum(step.cached) for step in steps]
    assert number(film, "tokens through the layers") == [f"{n:,}" for n in computed]
    assert number(film, "of them kept") == [f"{n:,}" for n in kept]
    assert number(film, "thrown away") == [
        f"{(c - k) / c:.0%}" for c, k in zip(computed, kept, strict=True)
    ]
    assert {n.tag for n in film.numbers} == {"computed"}
    for step, caption in zip(steps, film.captions, strict=True):
        ended = sum(row.ended for row in step.rows)
        assert caption.startswith(f"{len(prompts) - ended} of {len(prompts)} rows still write")
        assert f"computed {step.computed} places" in caption


def test_rows_that_stop_early_waste_what_follows() -> None:
    whole = batch([3, 5, 2], 8)[2]
    stop = int(whole[1][6][1:])  # the second new token of row 1
    steps, film, _ = batch([3, 5, 2], 8, stop=[stop])
    (panel,) = film.panels
    assert isinstance(panel, Lanes)
    for b, lane in enumerate(panel.lanes):
        alive = [s for s in range(len(steps)) if s == 0 or not steps[s - 1].rows[b].ended]
        after = [c for c in lane.cells if c.tip == "computed after the row's end"]
        assert len(after) == len(steps) - len(alive)
        assert [c.history[0].step for c in after] == list(range(len(alive), len(steps)))
    assert ET.fromstring(picture(film, film.steps - 1)) is not None


# When a card is full


@pytest.fixture(scope="module")
def ours(draft: Transformer) -> PublicModel:
    return PublicModel.from_config("stories", draft.config, 1_000_000)


def tuned(ours: PublicModel, **values: Any) -> CapacityExplorer:
    """An explorer whose controls were moved to these values."""
    explorer = CapacityExplorer(ours)
    named = {"model": {"stories": ours, **MODELS}, "card": ACCELERATORS}
    for name, value in values.items():
        explorer.controls[name].value = named[name][value] if name in named else value
    return explorer


@pytest.mark.parametrize(
    ("model", "card", "cards", "batch", "bits"),
    [
        ("Llama-3-8B", "RTX 4090", 1, 1, 16),
        ("Llama-3-8B", "RTX 4090", 2, 64, 16),
        ("Llama-2-7B", "A100 40 GB PCIe", 1, 8, 8),
        ("Llama-2-70B", "H100 SXM", 4, 3, 4),
        ("Llama-3.1-405B", "RTX 4090", 9, 64, 4),  # full long before its context
        ("DeepSeek-V3 (MLA)", "H200", 16, 32, 8),
        ("GPT-3", "MI300X", 2, 1, 16),
        ("stories", "H200", 16, 1, 4),  # full long after its context
    ],
)
def test_capacity_is_the_closed_formula(
    ours: PublicModel, model: str, card: str, cards: int, batch: int, bits: int
) -> None:
    sizes = {"stories": ours, **MODELS}[model]
    weights = sizes.parameters * bits / 8
    per_token = sizes.kv_elements_per_token * batch * bits / 8
    tokens = int((cards * ACCELERATORS[card].memory - weights) / per_token)
    explorer = tuned(ours, model=model, card=card, cards=cards, batch=batch, bits=bits)
    grown, alone, level, note = explorer.view.data
    assert grown.y == pytest.approx([(weights + n * per_token) / 1e9 for n in grown.x])
    assert alone.y == pytest.approx([weights / 1e9] * len(grown.x))
    assert level.y == pytest.approx([cards * ACCELERATORS[card].memory / 1e9] * 2)
    assert level.text[0].startswith(card if cards == 1 else f"{cards} x {card}")
    assert (note.x[0], note.text[0]) == (tokens, f"full at {tokens:,} tokens")
    assert note.y[0] == pytest.approx(level.y[0], rel=1e-3)  # where the two lines cross
    assert min(grown.x) < tokens < max(grown.x)
    for part in (
        f"full at {tokens:,} tokens a row",
        f"cache {per_token:,.0f} bytes a token ({sizes.kv_formula})",
        f"on {cards} x {card}",
        f"{bits} bits",
        sizes.source,
    ):
        assert part in explorer.summary()
    assert ("beyond the" in explorer.summary()) == (tokens > sizes.context)


def test_the_weights_alone_do_not_fit_until_cards_are_added(ours: PublicModel) -> None:
    explorer = tuned(ours)
    assert explorer.summary().endswith(
        "on 1 x RTX 4090: full at 20,071 tokens a row, beyond the 4,096 it was trained for "
        "(computed)."
    )
    explorer.controls["model"].value = MODELS["GPT-3"]
    for told in (explorer.summary(), explorer.readout.text):
        assert "on 1 x RTX 4090: the weights alone do not fit (computed)." in told
    assert explorer.view.data[3].text[0] == "the weights alone do not fit"
    assert min(explorer.view.data[1].y) > max(explorer.view.data[2].y)
    explorer.controls["cards"].value = 16
    assert "on 16 x RTX 4090: full at 7,205 tokens a row, beyond the 2,048" in explorer.summary()
    assert explorer.view.data[3].text[0] == "full at 7,205 tokens"


@pytest.mark.parametrize(("control", "value"), [("batch", 7), ("cards", 5), ("bits", 4)])
def test_a_control_changes_all_that_is_shown(ours: PublicModel, control: str, value: int) -> None:
    explorer, before = tuned(ours), tuned(ours)
    explorer.controls[control].value = value
    for i in (0, 3):
        assert explorer.view.data[i].y != before.view.data[i].y
    assert explorer.view.data[3].text != before.view.data[3].text
    assert explorer.readout.text != before.readout.text
    assert explorer.picture() != before.picture()


def test_marks_lie_inside_of_the_picture_for_every_model_and_card(ours: PublicModel) -> None:
    explorer = CapacityExplorer(ours)
    for model in ("stories", "GPT-3", "Llama-3.1-405B"):
        for cards, batch in ((1, 1), (9, 64), (16, 64), (16, 1)):
            for name, value in (("cards", cards), ("batch", batch)):
                explorer.controls[name].value = value
            explorer.controls["model"].value = {"stories": ours, **MODELS}[model]
            root = ET.fromstring(explorer.picture())
            said = explorer.view.data[3].text[0]
            (mark,) = (node for node in root if node.text == said and node.tag.endswith("text"))
            assert 200 < int(mark.attrib["x"]) < 936  # its text ends there
            assert 60 < int(mark.attrib["y"]) < 356


def test_explorer_is_stored_as_picture_and_line(ours: PublicModel) -> None:
    one, two = (CapacityExplorer(ours).outputs()[0] for _ in range(2))
    assert one["text/html"] == two["text/html"]
    assert one["text/plain"] == two["text/plain"] == CapacityExplorer(ours).summary()
    assert "\n" not in one["text/plain"]
    assert ET.fromstring(CapacityExplorer(ours).picture()).get("role") == "img"
