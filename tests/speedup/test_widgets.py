"""The charts of what guessing gains show what was measured; the exercises of lesson 05."""

import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import oracles
import pytest
import torch
from drift import ratios_hold

import minillm
from minillm import Sampler, Transformer
from minillm.decoding import Step
from minillm.measure.noise import Measured
from minillm.speculative.decode import SpeculativeRow, SpeculativeStep
from minillm.speculative.drafters import DraftModel
from minillm.speculative.prompt_lookup import PromptLookup
from minillm.speedup.batch import measure_batches
from minillm.speedup.formulas import break_even, speedup
from minillm.speedup.gain import Costs, Gain, measure_gain
from widgets.speedup import BatchExplorer, GainExplorer, SplitExplorer


def pair() -> tuple[Transformer, Transformer]:
    return oracles.tiny_pair(minillm, seed=2)


def made(
    guesses: int, accepted: int, seconds: tuple[float, float, float], rows: int = 1
) -> SpeculativeStep:
    """A round of so many guesses, with its times of draft, verify and rest."""
    logits = torch.zeros(accepted + 1, 2)
    row = SpeculativeRow(
        tokens=(0,) * (accepted + 1),
        logits=logits,
        ended=False,
        guesses=(0,) * guesses,
        q=torch.ones(guesses, 2) / 2,
        target_logits=torch.zeros(guesses + 1, 2),
        u=torch.zeros(guesses + 1),
        accepted=accepted,
        sampler=Sampler(),
    )
    return SpeculativeStep((row,) * rows, (0,) * rows, 1, 1, sum(seconds), *seconds[:2])


def plain(*seconds: float) -> list[Step]:
    return [Step((), (), 1, 1, s) for s in seconds]


def costs(gamma: int = 2) -> Costs:
    rounds = [
        made(gamma, 2, (0.2, 1.0, 0.1)),
        made(gamma, 0, (0.4, 1.2, 0.1)),
        made(gamma, 1, (0.4, 1.4, 0.3)),
        made(gamma - 1, 1, (9.0, 9.0, 9.0)),  # less room: left out
    ]
    return Costs.of(rounds, plain(1.0, 3.0, 0.5), gamma)


def test_costs_are_medians_of_full_rounds() -> None:
    found = costs()
    assert (found.tokens, found.draft, found.verify) == (2.0, 0.4, 1.2)
    assert (found.rest, found.plain) == (pytest.approx(0.1), 1.0)
    assert found.acceptance == pytest.approx((2 / 3, 1 / 2))
    assert found.share == pytest.approx(3 / 5)
    assert (found.c, found.verification) == (pytest.approx(0.2), pytest.approx(1.3))
    assert found.measured == pytest.approx(2.0 / 1.7)


def test_places_that_were_never_reached_count_as_never_kept() -> None:
    found = Costs.of([made(3, 0, (1, 1, 0))], plain(1.0), 3)
    assert found.acceptance == (0, 0, 0)


def test_costs_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="none of 3 guesses"):
        Costs.of([made(2, 1, (1, 1, 0))], plain(1.0), 3)
    with pytest.raises(ValueError, match="none of 2 guesses"):
        Costs.of([made(2, 1, (1, 1, 0))], [], 2)


def test_a_prediction_takes_its_costs_from_other_prompts() -> None:
    fitted, tried = costs(), replace(costs(), tokens=1.0)
    gain = Gain(fitted, tried)
    assert gain.tried.measured == pytest.approx(1 / 1.7)
    assert gain.predicted() == pytest.approx(speedup([2 / 3, 1 / 2], 0.2, 1.3))
    assert gain.predicted(0) == pytest.approx(speedup([2 / 3, 1 / 2], 0, 1.3))
    assert gain.formula() == pytest.approx(speedup([0.6, 0.6], 0.2, 1.0))


def test_gains_are_measured_for_each_number_of_guesses() -> None:
    target, draft = pair()
    prompts = [[1, 2], [3], [4, 5, 6]]
    gains = measure_gain(target, DraftModel(draft), prompts, [1, 3], max_new_tokens=12)
    assert list(gains) == [1, 3]
    for gamma, gain in gains.items():
        for half in (gain.fitted, gain.tried):
            assert half.gamma == gamma == len(half.acceptance)
            assert 1 <= half.tokens <= gamma + 1
            assert min(half.draft, half.verify, half.plain, half.rest) > 0


@pytest.mark.parametrize(
    ("prompts", "gammas", "named"),
    [
        (1, [1], "1 prompts and 1 gammas"),
        (2, [], "2 prompts and 0 gammas"),
        (2, [3, 0], "gammas must be at least 1, got 0"),
        (2, [3, 6], "rounds of 6 guesses need at least 14 new tokens, got 13"),
    ],
)
def test_gains_that_cannot_be_measured_are_refused_first(
    prompts: int, gammas: list[int], named: str
) -> None:
    model = oracles.Overhearing(pair()[0])
    with pytest.raises(ValueError, match=named):
        measure_gain(model, PromptLookup(), [[1]] * prompts, gammas, max_new_tokens=13)
    assert model.heard == []  # nothing was decoded


def test_so_many_tokens_leave_a_full_round_behind_the_first() -> None:
    target, _ = pair()
    [gain] = measure_gain(target, DraftModel(target), [[1], [2]], [3], max_new_tokens=8).values()
    assert gain.fitted.tokens == gain.tried.tokens == 4


def exact(gamma: int, plain: float) -> Costs:
    """Costs without noise."""
    return replace(costs(gamma), draft=0.4, verify=1.2, rest=0.1, plain=plain)


def gains() -> dict[str, dict[int, Gain]]:
    good = {gamma: Gain(costs(gamma), exact(gamma, 2.0)) for gamma in (2, 3)}
    bad = {gamma: Gain(costs(gamma), exact(gamma, 0.5)) for gamma in (2, 3)}
    return {"packed": good, "<stock>": bad}


def test_the_gain_is_measured_predicted_and_by_the_formula() -> None:
    explorer = GainExplorer(gains())
    measured, predicted, formula, even, mark = explorer.view.data
    run, before = gains()["packed"], measured.y
    assert measured.x == predicted.x == formula.x == (2, 3)
    assert measured.y == pytest.approx([run[gamma].tried.measured for gamma in (2, 3)])
    assert predicted.y == pytest.approx([run[gamma].predicted() for gamma in (2, 3)])
    assert formula.y == pytest.approx([run[gamma].formula() for gamma in (2, 3)])
    assert (even.name, set(even.y)) == ("break-even", {1.0})
    assert mark.y[0] == measured.y[mark.x[0] - 2]
    explorer.controls["run"].label = "<stock>"
    assert explorer.view.data[0].y == pytest.approx([x / 4 for x in before])
    assert explorer.readout.text == explorer.summary()


def test_a_dearer_draft_changes_what_is_predicted_only() -> None:
    explorer, before = GainExplorer(gains()), GainExplorer(gains())
    explorer.controls["cost"].value = 4.0
    run = gains()["packed"]
    assert explorer.view.data[0].y == before.view.data[0].y
    assert explorer.view.data[1].y == pytest.approx([run[gamma].predicted(4) for gamma in (2, 3)])
    assert explorer.view.data[2].y == pytest.approx([run[gamma].formula(4) for gamma in (2, 3)])
    assert "with a draft of 4 times the cost" in explorer.summary()


def test_the_readout_names_the_break_even_acceptance() -> None:
    explorer = GainExplorer(gains())
    explorer.controls["gamma"].value = 2
    fit = gains()["packed"][2].fitted
    even = break_even(2, fit.c, fit.verification)
    assert even is not None
    assert f"an acceptance of {even:.2f} would break even" in explorer.summary()
    explorer.controls["cost"].value = 4.0
    dear = break_even(2, 4 * fit.c, fit.verification)
    assert dear is not None
    hopeless = {2: replace(gains()["packed"][2], fitted=replace(fit, verify=9.0))}
    assert "no acceptance would break even" in GainExplorer({"run": hopeless}).summary()


def noisy(gamma: int, plain: float, spread: float = 1.0) -> Costs:
    """Costs whose plain step was measured with a spread, as a part of it."""
    steps = Measured(plain, plain * (1 - spread / 2), plain * (1 + spread))
    return replace(exact(gamma, 1.0), plain=steps)


@pytest.mark.parametrize(
    ("plain", "spread", "headline", "verdict"),
    [
        (2.0, 0.0, "Guesses pay: the speed-up is up to 2.35", "it gains"),
        (0.5, 0.0, "A guess costs more than it brings", "it loses"),
        (0.9, 1.0, "Not decided on this machine now: speed-up (times)", "not decided"),
    ],
)
def test_no_gain_is_told_that_the_noise_could_have_made(
    plain: float, spread: float, headline: str, verdict: str
) -> None:
    run = {"run": {gamma: Gain(exact(gamma, 1), noisy(gamma, plain, spread)) for gamma in (2, 3)}}
    explorer = GainExplorer(run)
    assert explorer.view.layout.title.text == headline
    assert explorer.readout.text.startswith("Not decided") == (verdict == "not decided")
    assert verdict in SplitExplorer(run).summary()


def test_many_texts_leave_little_only_where_that_was_seen() -> None:
    slow, fast = Measured(100, 95, 105), Measured(150, 145, 155)
    clear = BatchExplorer({1: (slow, fast), 8: (fast, slow)})
    assert clear.chart().headline == "Many texts at once leave little for guesses to gain"
    wild = Measured(150, 60, 300)
    late = BatchExplorer({1: (slow, wild), 8: (fast, slow)})
    assert late.chart().headline == "Guesses lose with 8 texts at once"
    assert "0.67 times as many: it loses" in late.summary()
    noisy = BatchExplorer({1: (slow, wild), 8: (wild, slow)})
    assert noisy.chart().headline == "Not decided on this machine now: speed-up (times)"
    assert noisy.readout.text.startswith("Not decided on this machine now")


def test_a_pass_that_seems_cheaper_than_one_token_is_called_noise() -> None:
    fast = replace(exact(2, 1.0), verify=0.6, rest=0.0, draft=0.0)
    said = GainExplorer({"run": {2: Gain(fast, exact(2, 1.0))}}).summary()
    assert "V(3) = 0.60 (below 1, which is noise" in said
    assert "break even" in said
    assert "0.00" not in said.partition("Predicted")[2]
    free = replace(fast, verify=1.004)
    said = GainExplorer({"run": {2: Gain(free, exact(2, 1.0))}}).summary()
    assert "an acceptance below 0.01 would break even" in said


def test_a_round_is_split_beside_its_tokens_one_by_one() -> None:
    explorer = SplitExplorer(gains())
    packed, stock = explorer.view.data
    assert (packed.name, stock.name) == ("packed", "<stock>")
    assert explorer["gamma"] == 3  # nearest to 4
    found = gains()["packed"][3].tried
    assert packed.y == pytest.approx(
        [
            1e3 * x
            for x in (
                found.draft,
                found.verify,
                found.rest,
                found.draft + found.verify + found.rest,
                found.tokens * found.plain,
            )
        ]
    )
    assert "packed: draft 400.0, verify 1200.0, rest 100.0" in explorer.summary()
    assert "it gains; <stock>: " in explorer.summary()
    assert explorer.summary().endswith("it loses (measured).")


@pytest.mark.parametrize("explorer", [GainExplorer, SplitExplorer])
def test_runs_share_their_numbers_of_guesses(explorer: type) -> None:
    uneven = gains()
    del uneven["packed"][3]
    for wrong in (uneven, {}, {"none": {}}):
        with pytest.raises(ValueError, match="share their numbers of guesses"):
            explorer(wrong)


def test_rates_of_a_batch_count_all_rows() -> None:
    target, draft = pair()
    rates = measure_batches(
        target, DraftModel(draft), [[1], [2, 3], [4]], iter([1, 3]), gamma=2, max_new_tokens=8
    )
    assert list(rates) == [1, 3]
    assert all(rate > 0 for both in rates.values() for rate in both)


def test_a_machine_that_slows_down_moves_no_gain_of_a_batch() -> None:
    target, _ = pair()

    def measure(model: Any) -> dict[Any, float]:
        prompts = [[1], [2, 3], [4]]
        rates = measure_batches(model, PromptLookup(), prompts, [1, 3], gamma=2, max_new_tokens=8)
        return {B: fast / slow for B, (slow, fast) in rates.items()}

    ratios_hold(target, measure)


def test_a_machine_that_slows_down_moves_no_gain_of_guesses() -> None:
    target, _ = pair()

    def measure(model: Any) -> dict[Any, float]:
        prompts = [[1], [2, 3], [4], [5]]
        gains = measure_gain(model, PromptLookup(), prompts, [1, 2], max_new_tokens=12)
        return {gamma: gain.tried.measured for gamma, gain in gains.items()}

    ratios_hold(target, measure)


@pytest.mark.parametrize("wrong", [4, 0, -1])
def test_batches_of_other_sizes_than_there_are_prompts(wrong: int) -> None:
    model = oracles.Overhearing(pair()[0])
    with pytest.raises(ValueError, match=f"batches must be .*, got {wrong}"):
        measure_batches(model, PromptLookup(), [[1], [2], [3]], [1, wrong])
    assert model.heard == []  # nothing was decoded


def test_a_batch_that_ends_at_once_has_no_rate() -> None:
    target, _ = pair()
    with pytest.raises(ValueError, match="all rows ended in the step that reads the prompts"):
        measure_batches(target, DraftModel(target), [[1]], [1], gamma=4, max_new_tokens=5)


def test_batches_are_shown_as_gain_and_as_rates() -> None:
    explorer = BatchExplorer({8: (400.0, 300.0), 1: (100.0, 150.0)})
    base, gain, mark = explorer.view.data
    assert (base.x, base.y) == ((1, 8), (1, 1))
    assert (gain.x, gain.y) == ((1, 8), (1.5, 0.75))
    assert (mark.x, mark.y, mark.text) == ((8,), (0.75,), ("0.75×",))
    explorer.controls["show"].value = "tokens a second"
    base, gain, mark = explorer.view.data
    assert (base.y, gain.y, mark.y) == ((100, 400), (150, 300), (300,))
    explorer.controls["batch"].value = 1
    assert explorer.summary() == (
        "1 texts at once: 100 tokens a second plain, 150 with guesses, 1.50 times as many: "
        "it gains (measured)."
    )
    assert explorer.view.layout.annotations[0].text == "tokens a second"


@pytest.mark.parametrize(
    "make",
    [
        lambda: GainExplorer(gains()),
        lambda: SplitExplorer(gains()),
        lambda: BatchExplorer({1: (1.0, 2.0), 2: (2.0, 3.0)}),
    ],
)
def test_charts_are_stored_as_picture_and_line(make: Callable[[], Any]) -> None:
    one, two = (make().outputs()[0] for _ in range(2))
    assert one["text/html"] == two["text/html"]
    assert one["text/plain"] == make().summary()
    assert "\n" not in one["text/plain"]
    root = ET.fromstring(make().picture())
    assert (root.get("role"), root.get("aria-label")) == ("img", one["text/plain"])
    assert len(make().controls) <= 3
    assert all(control.description for control in make().controls.values())
