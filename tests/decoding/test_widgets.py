"""The explorers of decoding show what the sampler and the clock say, for any text."""

import xml.etree.ElementTree as ET
from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer
from torch import Tensor

import minillm
from minillm import Sampler, Transformer
from minillm.tokens import encode, pieces
from widgets.common.still import inlined
from widgets.common.theme import BASELINE
from widgets.decoding import CostExplorer, DistributionExplorer
from widgets.decoding.explorers import SHOWN

TEXT = "Lily was sad because she"
ODD = ["", "\n\t ", "🎈", "<b>bold</b> & 'quoted'", "שלום עולם", "\x00", "a b " * 600]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return minillm.load("stories-draft")[1]


def last_logits(model: Transformer, tokenizer: Tokenizer, text: str) -> Tensor:
    """After as much of the text as the context holds."""
    tokens = encode(tokenizer, text)[-model.config.max_position_embeddings :]
    return model(torch.tensor([tokens]))[0, -1]


# The distribution


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [
        (1.0, 2048, 1.0),
        (0.0, 2048, 1.0),
        (0.5, 2048, 1.0),
        (2.0, 50, 1.0),
        (1.0, 1, 1.0),
        (1.0, 2048, 0.05),
        (0.7, 5, 0.6),
        (0.0, 3, 0.05),
    ],
)
def test_bars_are_the_samplers_probabilities(
    draft: Transformer, tokenizer: Tokenizer, temperature: float, top_k: int, top_p: float
) -> None:
    explorer = DistributionExplorer(draft, tokenizer, TEXT)
    for name, value in (("temperature", temperature), ("top_k", top_k), ("top_p", top_p)):
        explorer.controls[name].value = value
    logits = last_logits(draft, tokenizer, TEXT)
    own, order = logits.softmax(-1).topk(SHOWN)
    shaped = Sampler(temperature, top_k, top_p).probabilities(logits)
    before, after = explorer.view.data
    assert before.y == pytest.approx(own.tolist())
    assert after.y == pytest.approx(shaped[order].tolist())
    assert before.x == after.x == tuple(f"“{piece}”" for piece in pieces(tokenizer, order.tolist()))
    kept = int((shaped[order] > 0).sum())
    for told in (explorer.summary(), explorer.readout.text):
        assert f"Temperature {temperature:g}, top-k {top_k}, top-p {top_p:g}: {before.x[0]}" in told
        assert f"{own[0]:.0%} of the model's own" in told
        assert f"{shaped[order[0]]:.0%} of what is drawn from; {kept} of the 14 shown" in told


@pytest.mark.parametrize(
    ("control", "value"), [("temperature", 0.0), ("top_p", 0.05), ("top_k", 1)]
)
def test_the_ends_of_the_controls_leave_one_token(
    draft: Transformer, tokenizer: Tokenizer, control: str, value: float
) -> None:
    explorer = DistributionExplorer(draft, tokenizer, TEXT)
    before = explorer.picture()
    explorer.controls[control].value = value
    assert explorer.view.data[1].y == (1, *[0] * (SHOWN - 1))
    assert "100% of what is drawn from; 1 of the 14 shown can be drawn" in explorer.readout.text
    assert explorer.picture() != before


@pytest.mark.parametrize("text", ODD, ids=lambda text: repr(text[:9]))
def test_any_text_has_a_distribution(draft: Transformer, tokenizer: Tokenizer, text: str) -> None:
    explorer = DistributionExplorer(draft, tokenizer, TEXT)
    explorer.controls["text"].value = text
    p = last_logits(draft, tokenizer, text or TEXT).softmax(-1).topk(SHOWN).values
    assert explorer.view.data[0].y == pytest.approx(p.tolist())
    assert ET.fromstring(explorer.picture()).get("aria-label") == explorer.summary()
    assert len(set(explorer.view.data[0].x)) == SHOWN


def test_the_text_may_be_longer_than_the_context(draft: Transformer, tokenizer: Tokenizer) -> None:
    assert len(encode(tokenizer, ODD[-1])) > draft.config.max_position_embeddings
    explorer = DistributionExplorer(draft, tokenizer, ODD[-1])
    longer = DistributionExplorer(draft, tokenizer, "Some words before. " + ODD[-1])
    assert explorer.view.data[0].y == longer.view.data[0].y


@pytest.mark.parametrize(
    "likely", [["\n", " ", "\t"], ["�", "�", "�"], ["<", "&", '"'], ["\x00", "\x1b", "a"]], ids=repr
)
def test_odd_tokens_keep_bars_of_their_own(tokenizer: Tokenizer, likely: list[str]) -> None:
    """Of a model that finds these likeliest. Bars of one label would fall on one another."""
    every = pieces(tokenizer, range(tokenizer.get_vocab_size()))
    logits = -torch.arange(len(every), dtype=torch.float64) / 10
    for rank, piece in enumerate(likely):
        where = [i for i, other in enumerate(every) if other == piece]
        logits[where[likely[:rank].count(piece)]] = 9.0 - rank

    class Fixed:
        name = "fixed"
        config = SimpleNamespace(vocab_size=len(every), max_position_embeddings=64)
        device = "cpu"

        def __call__(self, tokens: Tensor) -> Tensor:
            return logits.expand(*tokens.shape, -1)

    explorer = DistributionExplorer(Fixed(), tokenizer, TEXT)  # type: ignore[arg-type]
    labels = explorer.view.data[0].x
    assert len(set(labels)) == SHOWN
    root = ET.fromstring(explorer.picture())
    assert set(labels) <= {node.text for node in root}
    assert "\n" not in explorer.summary()
    assert labels[0] in explorer.summary()


def test_distribution_is_stored_as_picture_and_line(
    draft: Transformer, tokenizer: Tokenizer
) -> None:
    one, two = (DistributionExplorer(draft, tokenizer, TEXT).outputs()[0] for _ in range(2))
    assert one["text/html"] == two["text/html"]
    assert one["text/plain"] == two["text/plain"]
    assert "\n" not in one["text/plain"]


# The cost


CURVES = {
    "recompute": [(8, 1.0), (64, 4.0), (256, 20.0)],
    "with <cache>": [(8, 0.9), (256, 1.1)],
}


def test_cost_is_what_was_measured() -> None:
    explorer = CostExplorer(CURVES, "It grows")
    plain, cached = explorer.view.data
    assert (plain.name, plain.x, plain.y) == ("recompute", (8, 64, 256), (1, 4, 20))
    assert (cached.name, cached.x, cached.y) == ("with <cache>", (8, 256), (0.9, 1.1))
    assert plain.line.color == BASELINE.light != cached.line.color
    assert explorer.view.layout.title.text == "It grows"
    assert explorer.summary() == (
        "recompute: 1.0 ms after 8 tokens, 20.0 ms after 256; "
        "with <cache>: 0.9 ms after 8 tokens, 1.1 ms after 256 (measured)."
    )
    assert explorer.readout.text == explorer.summary()


def test_cost_on_a_logarithmic_axis() -> None:
    explorer = CostExplorer(CURVES, "It grows")
    data, before = explorer.outputs()[0], explorer.picture()
    assert before in inlined(data["text/html"])
    assert data["text/plain"] == explorer.summary()
    explorer.controls["log"].value = True
    assert explorer.view.layout.yaxis.type == "log"
    assert explorer.view.data[0].y == (1, 4, 20)
    assert ET.fromstring(explorer.picture()).get("aria-label") == explorer.summary()
    assert explorer.picture() != before


def test_cost_of_a_single_token() -> None:
    assert CostExplorer({"only": [(1, 2.0)]}, "One").summary().startswith("only: 2.0 ms after 1 ")
