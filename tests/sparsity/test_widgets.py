"""The explorers of zeros show what was counted; the exercises of lesson 09."""

import xml.etree.ElementTree as ET
from typing import Any

import oracles
import pytest
import torch
from tokenizers import Tokenizer

import minillm
from minillm import Transformer
from minillm.measure.noise import Measured, apart
from minillm.sparsity.counting import Observed, mass_of_top, observe, share_below
from minillm.sparsity.neurons import firing_rates
from widgets.common.drawing.film import Film, Heat
from widgets.common.drawing.svg import picture
from widgets.sparsity import (
    AttentionExplorer,
    NeuronExplorer,
    RateExplorer,
    SkippingExplorer,
    UnionExplorer,
    attention_film,
    measure_costs,
    neuron_film,
)
from widgets.sparsity.batches import texts_together
from widgets.sparsity.gain import Cost, crossover

T = 7
NAMES = [f"t{i}" for i in range(T)]


@pytest.fixture(scope="module")
def seen() -> Observed:
    return observe(oracles.tiny(minillm), oracles.tokens_of(0, 1, T))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return minillm.load("stories-draft")[1]


def heats(film: Film) -> list[Heat]:
    return [panel for panel in film.panels if isinstance(panel, Heat)]


def number(film: Film, start: str) -> Any:
    (found,) = (n for n in film.numbers if n.label.startswith(start))
    return found.values


# Attention


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("of_maximum", [False, True])
def test_the_film_shows_what_a_threshold_leaves(
    seen: Observed, threshold: float, of_maximum: bool
) -> None:
    film = attention_film(seen, NAMES, 1, 2, threshold, of_maximum=of_maximum)
    assert film.steps == T
    weights = seen.weights[1, 0, 2]
    _, states, by_head = heats(film)
    shown = [states.states[byte] for byte in states.at(0)]
    limit = weights.max(-1, keepdim=True).values * threshold if of_maximum else threshold
    for t in range(T):
        for s in range(T):
            small = bool((weights <= limit)[t, s])
            expected = "masked" if s > t else "rejected" if small else "visible"
            assert shown[t * T + s] == expected
    shares = share_below(weights, threshold, seen.visible, of_maximum=of_maximum)
    assert number(film, "zeros among the keys") == tuple(f"{x:.0%}" for x in shares.tolist())
    needed = number(film, "keys for 90 %")
    for t, row in enumerate(weights):
        least = next(n for n in range(1, T + 1) if float(mass_of_top(row[None], n)) >= 0.9)
        assert needed[t] == f"{least} of {t + 1}"
    assert (by_head.rows, by_head.columns) == (2, 4)
    for step in range(T):
        assert ET.fromstring(picture(film, step)) is not None


def test_hidden_keys_are_blank_and_never_counted(seen: Observed) -> None:
    film = attention_film(seen, NAMES, 0, 0, 0.0)
    assert number(film, "zeros, all heads") in ("0%", ("0%",))
    weights = heats(film)[0].at(0)
    assert all((weights[t * T + s] == 255) == (s > t) for t in range(T) for s in range(T))


def test_controls_change_the_film(draft: Transformer, tokenizer: Tokenizer) -> None:
    explorer = AttentionExplorer(draft, tokenizer, "Once upon a time there was a cat.")
    first = explorer.player.film
    explorer.controls["threshold"].value = 0.3
    assert "A weight up to 0.3 counts" in explorer.player.film.hint
    explorer.controls["of_maximum"].value = True
    assert "of the query's largest" in explorer.player.film.hint
    explorer.controls["head"].value = explorer.controls["head"].options[-1][1]
    assert explorer.player.film.title != first.title
    step = explorer.player.step
    explorer.controls["text"].value = "A dog."
    assert explorer.player.film.steps < step
    assert set(explorer.outputs()[0]) == {"text/html", "text/plain"}


@pytest.mark.parametrize("text", ["", "\n\t  ", "<b>&amp;</b>", "שלום 🎈", "a " * 90])
def test_any_text_of_the_reader(draft: Transformer, tokenizer: Tokenizer, text: str) -> None:
    gates = torch.ones(draft.config.num_hidden_layers, 1, 1, draft.config.intermediate_size)
    for explorer in (
        AttentionExplorer(draft, tokenizer, text),
        NeuronExplorer(draft, tokenizer, text, gates),
    ):
        for step in (0, explorer.player.film.steps - 1):
            assert ET.fromstring(picture(explorer.player.film, step)) is not None


# Neurons


def test_the_film_shows_which_neurons_each_token_opens(seen: Observed) -> None:
    rates = firing_rates(seen.gates)
    film = neuron_film(seen, NAMES, rates)
    (heat,) = heats(film)
    opened, L, F = seen.gates[:, 0] != 0, 2, 20
    for t in range(T):
        states = [heat.states[byte] for byte in heat.at(t)]
        for layer in range(L):
            order = rates[layer].argsort(descending=True).tolist()
            row = states[layer * F : (layer + 1) * F]
            assert row == ["computed" if opened[layer, t, f] else "shut" for f in order]
    used = [int(opened[:, : t + 1].any(1).sum()) for t in range(T)]
    assert number(film, "shut for all tokens") == tuple(f"{1 - n / (L * F):.0%}" for n in used)


def test_the_histogram_counts_every_neuron_once() -> None:
    gates = torch.zeros(1, 1, 100, 6)
    for f, opened in enumerate((0, 1, 3, 10, 30, 100)):
        gates[0, 0, :opened, f] = 1.0
    explorer = RateExplorer(gates)
    assert list(explorer.chart().series[0].y) == [1, 1, 1, 1, 1, 1]
    assert "neurons never open" in explorer.chart().headline


def test_texts_together_stand_at_one_place() -> None:
    opened = torch.rand(2, 6, 5, 3, generator=torch.Generator().manual_seed(0)) < 0.5
    groups = texts_together(opened, 3)
    assert groups.shape == (2, 10, 3, 3)
    expected = [opened[:, i : i + 3, t] for i in (0, 3) for t in range(5)]
    assert groups.equal(torch.stack(expected, dim=1))


def test_the_union_chart_shows_law_and_measurement() -> None:
    opened = torch.rand(2, 8, 8, 30, generator=torch.Generator().manual_seed(0)) < 0.2
    explorer = UnionExplorer(opened, opened, [1, 2, 4, 8])
    for together in explorer.controls["together"].options:
        explorer.controls["together"].value = together
        for layer in (None, 0, 1):
            explorer.controls["layer"].value = layer
            measured, rates, law = (list(curve.y) for curve in explorer.chart().series)
            assert measured[0] == pytest.approx(law[0]) == pytest.approx(rates[0])
            assert all(r >= x - 1e-12 for r, x in zip(rates, law, strict=True))
            assert measured == sorted(measured, reverse=True)
    explorer.controls["batch"].value = 8
    assert explorer.readout.text.startswith("8 tokens, neighbours in a text: ")


# Costs


@pytest.fixture(scope="module")
def costs() -> dict[float, dict[int, Cost]]:
    mlp = oracles.tiny(minillm, dtype=torch.float32).blocks[0].mlp
    return measure_costs([mlp], [0.0, 0.5, 1.0], [1, 4], rounds=1)


def test_bytes_and_flops_are_those_of_the_open_neurons(costs) -> None:
    C, F = 24, 20
    for density, read in ((0.0, 1 / 3), (1.0, 1.0)):
        for R, cost in costs[density].items():
            assert cost.nbytes == (4 * 3 * C * F, pytest.approx(4 * 3 * C * F * read))
            assert cost.flops == (6 * R * C * F, pytest.approx(6 * R * C * F * read))
            assert min(cost.seconds) > 0
    one, four = costs[0.5][1], costs[0.5][4]
    assert one.nbytes[1] < four.nbytes[1] < four.nbytes[0]


def test_the_chart_of_costs(costs) -> None:
    explorer = SkippingExplorer(costs)
    for show in explorer.controls["show"].options:
        explorer.controls["show"].value = show
        dense, skips = explorer.chart().series
        assert dense.baseline
        assert list(dense.x) == list(skips.x) == [1, 4]
    explorer.controls["open"].value = 1.0
    assert "100% of the bytes and 100% of the FLOPs" in explorer.readout.text


def test_where_it_stops_paying() -> None:
    def cost(dense: float, skips: float) -> Cost:
        return Cost((dense, skips), (1, 1), (1, 1))

    assert crossover({1: cost(2, 1), 4: cost(2, 2), 8: cost(2, 3)}) == 4
    assert crossover({1: cost(2, 3), 4: cost(2, 1), 8: cost(2, 3)}) == 8
    assert crossover({1: cost(2, 3), 4: cost(2, 1)}) is None
    assert crossover({1: cost(2, 1)}) is None


def _spread(seconds: float) -> Measured:
    return Measured(seconds, 0.9 * seconds, 1.1 * seconds)


def test_a_title_says_what_one_row_decides_where_many_do_not() -> None:
    one = Cost((_spread(2.0), _spread(1.0)), (1, 1), (1, 1))
    many = Cost((_spread(1.05), _spread(1.0)), (1, 1), (1, 1))
    assert "skipping pays for 1 row" in SkippingExplorer({0.5: {1: one, 4: many}}).chart().headline


def test_a_drift_that_hits_both_sides_alike_decides() -> None:
    dense, skips = (Measured.of(x * drift for drift in range(1, 10)) for x in (2.0, 1.0))
    assert not apart(skips, dense)
    cost = Cost((dense, skips), (1, 1), (1, 1))
    assert "pays throughout" in SkippingExplorer({0.5: {1: cost, 4: cost}}).chart().headline
