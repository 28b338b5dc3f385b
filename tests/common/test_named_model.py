"""The box that names an explorer's model: what it loads, what it refuses, and what it keeps."""

import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from minillm import Transformer, load
from minillm.checkpoint import save
from minillm.speculative import DraftModel, PromptLookup
from minillm.speculative.drafters import Drafter
from widgets.common import named_model
from widgets.common.controls import Explorer
from widgets.common.named_model import ModelBox
from widgets.decoding import DistributionExplorer
from widgets.jacobi import JacobiExplorer
from widgets.lookahead import LookaheadExplorer, MaskExplorer
from widgets.sparsity import AttentionExplorer, NeuronExplorer
from widgets.speculative import AcceptanceExplorer
from widgets.transformer import ForwardExplorer

TEXT = "Tim and Sam. Tim and Sam. Tim"
OWN, OTHER = "stories-draft", "stories-xs"  # of 2 and of 4 layers


@pytest.fixture(scope="module")
def own() -> tuple[Transformer, Tokenizer]:
    return load(OWN)


@pytest.fixture(autouse=True)
def nothing_is_kept() -> Iterator[None]:
    yield
    named_model._kept.clear()


@pytest.fixture
def silu(tiny: Callable[..., Transformer], tmp_path: Path) -> str:
    """A folder with a model that no draft and no zeros fit."""
    model = tiny(dtype=torch.float32, vocab_size=2049, hidden_act="silu")
    save(tmp_path / "silu", model, load(OWN)[1], torch.float32)
    return str(tmp_path / "silu")


def enter(box: ModelBox, name: str) -> None:
    """What the browser sends when Enter is pressed in the box."""
    box._handle_custom_msg({"name": name}, [])


def shown(explorer: Explorer) -> tuple[str, str]:
    """What an explorer draws, and says below it."""
    return explorer.picture(), explorer.readout.text


EXPLORERS: dict[str, Callable[[Transformer, Tokenizer], Explorer]] = {
    "distribution": lambda m, t: DistributionExplorer(m, t, TEXT),
    "forward": lambda m, t: ForwardExplorer(m, t, TEXT),
    "acceptance": lambda m, t: AcceptanceExplorer(m, t, {"lookup": PromptLookup()}, [TEXT], new=6),
    "jacobi": lambda m, t: JacobiExplorer(m, t, [TEXT], new=6),
    "mask": lambda m, t: MaskExplorer(m, t, [TEXT]),
    "lookahead": lambda m, t: LookaheadExplorer(m, t, [TEXT], new=6),
    "attention": lambda m, t: AttentionExplorer(m, t, TEXT),
    "neurons": lambda m, t: NeuronExplorer(m, t, TEXT, torch.ones(2, 1, 3, 768)),
}


@pytest.mark.parametrize("name", EXPLORERS)
def test_every_explorer_of_a_prompt_shows_the_model_that_is_named(
    name: str, own: tuple[Transformer, Tokenizer]
) -> None:
    explorer = EXPLORERS[name](*own)
    box, before = explorer.controls["model"], shown(explorer)
    assert (box.value, box.said) == (OWN, "")
    enter(box, OTHER)
    assert (box.value, box.said, box.refused) == (OTHER, "", False)
    assert explorer._model.config == load(OTHER)[0].config
    assert shown(explorer) != before
    if name not in ("acceptance", "neurons"):  # which show times, and rates of other texts
        assert shown(explorer) == shown(EXPLORERS[name](*load(OTHER)))
    enter(box, "")
    assert (box.value, explorer._model) == (OWN, own[0])
    if name != "acceptance":
        assert shown(explorer) == before


def test_lists_offer_what_the_model_has(own: tuple[Transformer, Tokenizer]) -> None:
    explorer = ForwardExplorer(*own, TEXT)
    explorer.controls["head"].value = 1
    enter(explorer.named, OTHER)
    layers = load(OTHER)[0].config.num_hidden_layers
    assert len(explorer.controls["layer"].options) == layers > 2
    assert explorer["head"] == 1  # stays
    explorer.controls["layer"].value = layers - 1
    enter(explorer.named, OWN)
    assert explorer["layer"] == 0  # the other one is no more


def test_what_cannot_be_loaded_is_told_in_a_line_and_the_picture_stays(
    own: tuple[Transformer, Tokenizer], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    explorer = ForwardExplorer(*own, TEXT)
    before = shown(explorer)
    for name in ("no such model", str(tmp_path), str(tmp_path / "broken.gguf"), "x" * 5000, "\0"):
        enter(explorer.named, name)
        assert explorer.named.value == OWN
        assert explorer.named.refused
        assert explorer.named.said.endswith(f"; the picture still shows {OWN}.")
        assert "\n" not in explorer.named.said
        assert len(explorer.named.said) < 160
        assert shown(explorer) == before
    enter(explorer.named, OTHER)
    assert (explorer.named.value, explorer.named.said, explorer.named.refused) == (OTHER, "", False)


def test_a_line_says_that_a_model_is_loading_until_it_is_drawn(
    own: tuple[Transformer, Tokenizer],
) -> None:
    explorer, told = ForwardExplorer(*own, TEXT), list[tuple[str, bool]]()
    before = explorer.readout.text
    explorer.named.observe(
        lambda change: told.append((change["new"], explorer.readout.text == before)), "said"
    )
    enter(explorer.named, OTHER)
    assert told == [(f"Loading {OTHER} …", True), ("", False)]


def test_one_named_model_is_in_memory_for_all_boxes(own: tuple[Transformer, Tokenizer]) -> None:
    first, second = ModelBox(*own), ModelBox(*own)
    enter(first, OTHER)
    enter(second, OTHER)
    assert first.model is second.model
    held = weakref.ref(first.model)
    enter(second, "stories-s")
    gc.collect()
    assert held() is None
    assert first.model.config == load(OTHER)[0].config  # loaded again
    assert len(named_model._kept) == 1


def test_what_is_refused_unread_costs_nobody_a_model(own: tuple[Transformer, Tokenizer]) -> None:
    box = ModelBox(*own)
    enter(box, OTHER)
    model = box.model
    enter(box, "no such model")
    assert box.model is model


def test_drafters_of_another_vocabulary_are_left_out_and_told(
    own: tuple[Transformer, Tokenizer], silu: str
) -> None:
    drafters: dict[str, Drafter] = {"draft": DraftModel(own[0]), "lookup": PromptLookup()}
    explorer = AcceptanceExplorer(*own, drafters, [TEXT], new=6)
    enter(explorer.named, silu)
    assert explorer.named.said == (
        f"Left out, since they know another vocabulary than {silu}: draft."
    )
    assert explorer.summary().startswith("lookup, gamma 4")
    enter(explorer.named, OWN)
    assert explorer.controls["drafter"]._options_labels == ("draft", "lookup")
    assert explorer.named.said == ""

    explorer = AcceptanceExplorer(*own, {"draft": DraftModel(own[0])}, [TEXT], new=6)
    enter(explorer.named, silu)
    assert explorer.named.value == OWN
    assert "no drafter here knows the vocabulary" in explorer.named.said
    explorer.controls["gamma"].value = 2  # goes on
    assert explorer.summary().startswith("draft, gamma 2")


def test_gates_that_never_shut_are_not_shown(own: tuple[Transformer, Tokenizer], silu: str) -> None:
    explorer = NeuronExplorer(*own, TEXT, torch.ones(2, 1, 3, 768))
    before = shown(explorer)
    enter(explorer.named, silu)
    assert "gates that go through silu, not relu" in explorer.named.said
    assert shown(explorer) == before


def test_a_model_says_what_it_was_loaded_by() -> None:
    from minillm.fast import optimized

    model, _ = load(OWN)
    assert (model.name, optimized(model).name) == (OWN, OWN)
    with torch.device("meta"):
        assert Transformer(model.config).name == ""
