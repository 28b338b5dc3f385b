"""axe-core on the explorers in JupyterLab, light and dark. What keys do: `test_voila.py`."""

from collections.abc import Iterator
from importlib.resources import files
from typing import Any, Literal

import pytest
from lab import EXPLORERS, Lab, LabPage, offline_page, write_notebook
from playwright.sync_api import Browser, expect

EXPLORERS |= {
    "acceptance": """\
from minillm.speculative.prompt_lookup import PromptLookup
from minillm.data.heldout import bench_prompts
from widgets.speculative import AcceptanceExplorer, BugHunt, turns_film
from minillm.speedup.gain import Costs, Gain
from widgets.speculative import Meters
from widgets.speedup import GainExplorer

text = "The cat sat on the mat. The cat sat on"
AcceptanceExplorer(model, tokenizer, {"prompt lookup": PromptLookup()}, [text], new=12)""",
    "turns": """\
from minillm.speculative.decode import decode_speculative

rounds = decode_speculative(model, [prompt], drafter=PromptLookup(), max_new_tokens=8)
StepPlayer(turns_film(list(rounds)))""",
    "gain": """\
costs = {G: Costs(G, 2.0, 1e-3, 2e-3, 1e-4, 2e-3, (0.8,) * G, 0.8) for G in (1, 2, 4)}
GainExplorer({"kernel": {G: Gain(found, found) for G, found in costs.items()}})""",
    "hunt": """\
exact, other = (load(name, dtype=torch.float64)[0] for name in ("stories", "stories-draft"))
prompts = [encode(tokenizer, text) for text in bench_prompts()]
BugHunt(Meters(exact, other, prompts))""",
}
EXPLORERS |= {
    "jacobi": """\
from widgets.jacobi import JacobiExplorer, JacobiGainExplorer
from widgets.jacobi.gain import Passes
from widgets.lookahead import LookaheadExplorer, MaskExplorer

JacobiExplorer(model, tokenizer, ["Once upon a time"], new=6)""",
    "passes": """\
plain, block = Passes(8, (1,) * 8, 8e-3), Passes(8, (4,) * 6, 9e-3)
JacobiGainExplorer(plain, {"random": {1: plain, 4: block}}, {1: 1.0, 4: 1.3})""",
    "mask": "MaskExplorer(model, tokenizer, [text])",
    "lookahead": "LookaheadExplorer(model, tokenizer, [text], new=12)",
}
EXPLORERS |= {
    "attention": """\
from widgets.sparsity import AttentionExplorer, NeuronExplorer
from widgets.sparsity import RateExplorer, SkippingExplorer, UnionExplorer
from widgets.sparsity.gain import Cost

AttentionExplorer(model, tokenizer, "Once upon a time")""",
    "neurons": """\
gates = torch.rand(8, 2, 6, 1024, generator=torch.Generator().manual_seed(0)) - 0.9
gates = gates.relu()
NeuronExplorer(model, tokenizer, "Once upon a time", gates)""",
    "rates": "RateExplorer(gates)",
    "union": "UnionExplorer(gates > 0, gates > 0, [1, 2])",
    "skipping": """\
SkippingExplorer({share: {1: Cost((2e-4, 1e-4), (9, 5), (9, 5))} for share in (0.0, 0.5)})""",
}
EXPLORERS |= {
    "grid": """\
from widgets.quantization import GridExplorer, LayerErrorExplorer
from widgets.quantization import BitExplorer
from widgets.quantization import DuelExplorer

GridExplorer(model)""",
    "layers": "LayerErrorExplorer(model)",
    "bits": "BitExplorer()",
    "duel": "DuelExplorer(model.blocks[3].mlp.gate_up.weight, torch.randn(64, 320))",
    "gptq": """\
from widgets.gptq import ColumnExplorer

ColumnExplorer(model, torch.tensor([(prompt * 40)[:256]]))""",
    "law": """\
from minillm.scaling import overtraining
from minillm.scaling import kbit
from widgets.scaling import HypothesisExplorer, LawExplorer

LawExplorer(kbit.read())""",
    "hypothesis": "HypothesisExplorer(overtraining.read())",
}

AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
NAMES = (
    "player",
    "forward",
    "capacity",
    "distribution",
    "cost",
    "roofline",
    "free",
    "acceptance",
    "turns",
    "gain",
    "hunt",
    "jacobi",
    "passes",
    "mask",
    "lookahead",
    "attention",
    "neurons",
    "rates",
    "union",
    "skipping",
    "grid",
    "layers",
    "bits",
    "duel",
    "gptq",
    "law",
    "hypothesis",
    "predict",
    "reveal",
)
DRAWN = """() => [...document.querySelectorAll(".minillm.chart")]
    .every(chart => chart.querySelector(".main-svg, .player"))"""
RUN = """async () => (await axe.run(
    {include: [[".minillm"]]}, {resultTypes: ["violations"]})).violations"""


@pytest.fixture(scope="module")
def explorers(browser: Browser, lab: Lab) -> Iterator[LabPage]:
    """One of each kind, with all that folds open, and one prediction locked."""
    write_notebook(lab.folder / "explorers.ipynb", *NAMES)
    with offline_page(browser) as page:
        explorers = LabPage(page, lab)
        explorers.open("explorers.ipynb")
        explorers.run_all()
        page.wait_for_function(DRAWN)
        for more in page.get_by_text("More settings").all():
            more.click()
        expect(page.locator("label:visible", has_text="bits").first).to_be_visible()
        page.get_by_text("Audience poll").click()
        page.get_by_label("Your prediction, number").fill("20")
        page.get_by_text("Lock it in").click()
        page.evaluate(AXE)
        yield explorers


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(explorers: LabPage, theme: Literal["light", "dark"]) -> None:
    explorers.theme(theme)
    assert explorers.page.locator(".minillm:visible").count() >= len(NAMES)
    found: list[dict[str, Any]] = explorers.page.evaluate(RUN)
    serious = [
        f"{violation['id']}: {node['html'][:200]}"
        for violation in found
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]
    assert not serious, "\n".join(serious)
