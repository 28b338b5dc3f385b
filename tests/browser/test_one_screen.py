"""Every film is one screen in JupyterLab, on a laptop and a small one; in a hall every explorer."""

from collections.abc import Iterator

import pytest
from explorers import EXPLORERS, NAMES
from lab import Lab, LabPage, offline_page, write_cells, write_notebook
from playwright.sync_api import Browser, Locator

FILMS = {
    "growth": "growth(38)",
    "batch": """\
from widgets.kv_cache import batch_film

starts = ["Once upon a time, there was a dog", "Tim", "The cat sat on"]
prompts = [encode(tokenizer, start) for start in starts]
steps = list(decode_cached(model, prompts, max_new_tokens=24))
names = [[pieces(tokenizer, row) for row in rows] for rows in (prompts, collect(iter(steps)))]
StepPlayer(batch_film(steps, *names))""",
    "acceptance": """\
from minillm.speculative.prompt_lookup import PromptLookup
from widgets.speculative import AcceptanceExplorer

text = "The cat sat on the mat. The dog sat on the mat. The bird sat"
AcceptanceExplorer(model, tokenizer, {"prompt lookup": PromptLookup()}, [text])""",
    "turns": """\
from minillm.speculative import decode_speculative
from minillm.speculative.prompt_lookup import PromptLookup
from widgets.speculative import turns_film

rounds = decode_speculative(model, [prompt], drafter=PromptLookup(), max_new_tokens=32)
StepPlayer(turns_film(list(rounds)))""",
    "forward": """\
story = "Lily had a red ball. She threw the ball to Tom, and Tom threw it back. Then they ran."
ForwardExplorer(model, tokenizer, story)""",
    "jacobi": """\
from widgets.jacobi import JacobiExplorer

JacobiExplorer(model, tokenizer, ["One day, a dog went to the"])""",
    "mask": """\
from widgets.lookahead import MaskExplorer

MaskExplorer(model, tokenizer, ["Once upon a time, there was a little"])""",
    "lookahead": """\
from widgets.lookahead import LookaheadExplorer

LookaheadExplorer(model, tokenizer, ["Once upon a time, there was a little"])""",
    "attention": """\
from widgets.sparsity import AttentionExplorer

story = "Lily had a red ball. She threw the ball to Tom, and Tom threw it back. Then they ran."
AttentionExplorer(model, tokenizer, story)""",
    "neurons": """\
from widgets.sparsity import NeuronExplorer

story = "Lily had a red ball. She threw the ball to Tom, and Tom threw it back. Then they ran."
gates = torch.rand(8, 2, 6, 1024, generator=torch.Generator().manual_seed(0)) - 0.9
NeuronExplorer(model, tokenizer, story, gates.relu())""",
    "gptq": """\
from minillm.data.heldout import stories
from widgets.gptq import ColumnExplorer

ColumnExplorer(model, torch.tensor(encode(tokenizer, stories()[0])[:128])[None])""",
    "tables": """\
from minillm.serving.workload import Asked
from widgets.serving import BlockTableExplorer

starts = [(0, text + " toys", 26), (0, "One day, Tim and his mom went to", 30), (2, text, 24)]
readers = [*starts, (4, "The dog sat on the mat. The bird sat on the mat. The cat sat", 24)]
BlockTableExplorer(model, [Asked(at, tuple(encode(tokenizer, s)), n) for at, s, n in readers])""",
    "timeline": """\
from minillm.serving.workload import Asked
from widgets.serving import TimelineExplorer


def late(count):
    early = [Asked(0, tuple(prompt), 24)] * 3
    return [*early, Asked(8, tuple((prompt * 50)[:count]), 8)]


TimelineExplorer(model, late)""",
}

SCREENS = {(1440, 900): 700, (1024, 768): 620}  # what is left of a window below Lab's own bars
HALL, PANE, LEAST = (1920, 1080), 959, 20

# Every font size in which a player writes, and how far it reaches beyond its card.
SMALLEST = """card => Math.min(...[...card.querySelectorAll(".player *")]
    .filter(node => node.checkVisibility({visibilityProperty: true}) && !node.closest(".spoken"))
    .filter(node => [...node.childNodes].some(
        child => child.nodeType === Node.TEXT_NODE && child.data.trim()))
    .map(node => parseFloat(getComputedStyle(node).fontSize)))"""
BEYOND = """card => Math.max(...[...card.querySelectorAll(".player *")]
    .filter(node => node.checkVisibility() && !node.closest(".spoken"))
    .map(node => node.getBoundingClientRect().right - card.getBoundingClientRect().right))"""

# The same of a chart, whose figure may be drawn larger than it was laid out.
SMALLEST_OF_CHART = """chart => Math.min(...[...chart.querySelectorAll("*")]
    .filter(node => node.checkVisibility({visibilityProperty: true}))
    .filter(node => !node.closest(".spoken, .player, .film .readout, .modebar"))
    .filter(node => [...node.childNodes].some(
        child => child.nodeType === Node.TEXT_NODE && child.data.trim()))
    .map(node => {
      const plot = node.closest(".js-plotly-plot");
      const times = plot ? new DOMMatrix(getComputedStyle(plot).transform).a : 1;
      return Math.round(10 * parseFloat(getComputedStyle(node).fontSize) * times) / 10;
    }))"""
TOGGLE = "() => window.jupyterapp.commands.execute('application:toggle-presentation-mode')"


@pytest.fixture(
    scope="module",
    params=[pytest.param(n, marks=[pytest.mark.slow] * (n != "growth")) for n in FILMS],
)
def lesson(request: pytest.FixtureRequest, browser: Browser, lab: Lab) -> Iterator[LabPage]:
    """A notebook of one film."""
    with offline_page(browser) as page:
        lesson = LabPage(page, lab)
        name = f"{request.param}.ipynb"
        write_cells(lab.folder / name, EXPLORERS["setup"], FILMS[request.param])
        lesson.open(name)
        lesson.run_all()
        yield lesson


def card(lesson: LabPage, size: tuple[int, int]) -> Locator:
    """The film with its controls, in a window of this size."""
    lesson.page.set_viewport_size({"width": size[0], "height": size[1]})
    lesson.page.wait_for_timeout(500)  # a heat map measures its room once more
    return lesson.output_with(".minillm.player")


@pytest.mark.parametrize("size", SCREENS, ids=str)
def test_title_controls_picture_and_caption_are_seen_at_once(
    lesson: LabPage, size: tuple[int, int]
) -> None:
    film = card(lesson, size)
    assert film.evaluate("node => node.clientHeight") <= SCREENS[size]
    assert film.evaluate(BEYOND) <= 0


def test_a_lecture_hall_reads_every_word_on_one_screen(lesson: LabPage) -> None:
    lesson.page.evaluate(TOGGLE)
    film = card(lesson, HALL)
    try:
        assert film.evaluate(SMALLEST) >= LEAST
        assert film.evaluate("node => node.clientHeight") <= PANE
        assert film.evaluate(BEYOND) <= 0
    finally:
        lesson.page.evaluate(TOGGLE)


@pytest.mark.slow
def test_a_lecture_hall_reads_every_chart_on_one_screen(browser: Browser, lab: Lab) -> None:
    with offline_page(browser) as page:
        lesson = LabPage(page, lab)
        write_notebook(lab.folder / "hall.ipynb", *NAMES)
        lesson.open("hall.ipynb")
        lesson.run_all()
        page.set_viewport_size({"width": HALL[0], "height": HALL[1]})
        page.evaluate(TOGGLE)
        charts = page.locator(".minillm.chart")
        assert charts.count() > 20
        for chart in charts.all():
            chart.scroll_into_view_if_needed()
            page.wait_for_timeout(300)  # plotly measures its room once more
            assert chart.evaluate(SMALLEST_OF_CHART) >= LEAST
            assert chart.evaluate("node => node.clientHeight") <= PANE
