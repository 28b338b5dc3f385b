"""Measures of sparsity: hand counts on tiny matrices, the law X^N, zeros that are made."""

import math
from fractions import Fraction

import pytest
import torch
from oracles import tiny, tokens_of
from torch import Tensor, nn

import minillm
from minillm.attention import causal_mask
from minillm.decoding import collect, decode_cached, decode_recomputed
from minillm.measure.evaluation import evaluate
from minillm.sparsity.counting import keys_for, mass_of_top, observe, share_below
from minillm.sparsity.neurons import (
    firing_rates,
    hot_neurons,
    neighbours,
    unused,
    unused_by_law,
)
from minillm.sparsity.pruning import ThresholdedGate, cats, sinks_and_window, teal, top_k_attention

WEIGHTS = torch.tensor(  # causal rows: what stands above the diagonal is hidden
    [
        [1.00, 0.00, 0.00, 0.00],
        [0.75, 0.25, 0.00, 0.00],
        [0.50, 0.00, 0.50, 0.00],
        [0.90, 0.05, 0.04, 0.01],
    ],
    dtype=torch.float64,
)
VISIBLE = causal_mask(4, 4, torch.device("cpu"))


def by_hand(rows: list[list[float]], threshold: float, of_maximum: bool) -> list[float]:
    """Counted one by one, each row up to its own place."""
    shares = []
    for t, row in enumerate(rows):
        seen = [abs(x) for x in row[: t + 1]]
        limit = threshold * max(seen) if of_maximum else threshold
        shares.append(sum(x <= limit for x in seen) / len(seen))
    return shares


# Attention


@pytest.mark.parametrize("threshold", [0.0, 0.01, 0.04, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("of_maximum", [False, True])
def test_shares_equal_a_count_by_hand(threshold: float, of_maximum: bool) -> None:
    found = share_below(WEIGHTS, threshold, VISIBLE, of_maximum=of_maximum)
    assert found.tolist() == pytest.approx(by_hand(WEIGHTS.tolist(), threshold, of_maximum))


def test_hidden_keys_are_no_zeros() -> None:
    """Even attention over T keys has no zero; counting hidden keys would find almost half."""
    T = 64
    even = causal_mask(T, T, torch.device("cpu")) / torch.arange(1, T + 1)[:, None]
    visible = causal_mask(T, T, torch.device("cpu"))
    assert share_below(even, 0.0, visible).tolist() == [0.0] * T
    assert share_below(even, 0.0).mean().item() == pytest.approx((T - 1) / (2 * T))


def test_signs_do_not_count_and_everything_counts_by_default() -> None:
    x = torch.tensor([[-0.5, 0.0, 0.001, -0.001]])
    assert share_below(x, 0.001).tolist() == [0.75]
    assert share_below(x, 0.0).tolist() == [0.25]


def test_one_mask_serves_all_heads() -> None:
    many = WEIGHTS.expand(2, 3, 4, 4)
    assert share_below(many, 0.04, VISIBLE)[1, 2].equal(share_below(WEIGHTS, 0.04, VISIBLE))


@pytest.mark.parametrize("threshold", [-0.1, 1.1, math.nan])
def test_a_threshold_outside_0_to_1_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold must be from 0 to 1"):
        share_below(WEIGHTS, threshold)


def test_a_row_without_visible_keys_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one entry"):
        share_below(WEIGHTS, 0.1, VISIBLE.tril(-1))


def test_the_mass_of_the_largest() -> None:
    assert mass_of_top(WEIGHTS, 1).tolist() == [1.0, 0.75, 0.5, 0.9]
    assert mass_of_top(WEIGHTS, 2).tolist() == pytest.approx([1.0, 1.0, 1.0, 0.95])
    assert mass_of_top(WEIGHTS, 4).tolist() == pytest.approx([1.0] * 4)


def test_keys_that_hold_a_mass() -> None:
    assert keys_for(WEIGHTS, 0.7).tolist() == [1, 1, 2, 1]
    assert keys_for(WEIGHTS, 0.96).tolist() == [1, 2, 2, 3]
    for mass in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="mass must lie between 0 and 1"):
            keys_for(WEIGHTS, mass)


@pytest.mark.parametrize("k", [-1, 0, 5])
def test_k_is_a_number_of_keys(k: int) -> None:
    with pytest.raises(ValueError, match="k must be from 1 to 4"):
        mass_of_top(WEIGHTS, k)


@pytest.mark.parametrize("mask", [None, sinks_and_window(9, 1, 3)], ids=["causal", "window"])
def test_what_is_observed_is_what_the_model_computes(mask: Tensor | None) -> None:
    model, tokens = tiny(minillm), tokens_of(0, 2, 9)
    seen = observe(model, tokens, mask)
    L, H, D = 2, 4, 6
    assert seen.weights.shape == (L, 2, H, 9, 9)
    assert seen.outputs.shape == (L, 2, H, 9, D)
    assert seen.gates.shape == (L, 2, 9, 20)
    torch.testing.assert_close(seen.weights.sum(-1), torch.ones(L, 2, H, 9, dtype=torch.float64))
    assert not seen.weights[..., ~seen.visible].any()
    # the last block's outputs lead to its MLP's gates
    block, kept = model.blocks[-1], []
    block.mlp.register_forward_pre_hook(lambda _, given: kept.append(given[0]))
    model.hidden(tokens, mask=mask)
    gate = (kept[0] @ block.mlp.gate_up.weight[:20].T).relu()
    torch.testing.assert_close(seen.gates[-1], gate)


def test_observing_leaves_no_hooks() -> None:
    model = tiny(minillm)
    observe(model, tokens_of(0, 1, 5))
    assert not any(module._forward_hooks for module in model.modules())


# Neurons


def test_firing_rates_by_hand() -> None:
    gates = torch.tensor([[[[0.0, 1.0, 2.0], [0.0, 0.0, 3.0]]], [[[0.0, 0.0, 0.0]] * 2]])
    assert firing_rates(gates).tolist() == [[0.0, 0.5, 1.0], [0.0, 0.0, 0.0]]


def test_hot_neurons_make_four_fifths_of_all_openings() -> None:
    rates = torch.tensor(
        [[0.1, 0.7, 0.2, 0.0], [0.25] * 4, [0.0] * 4, [0.0, 0.0, 0.0, 0.01], [0.4, 0.4, 0.1, 0.1]]
    )
    assert hot_neurons(rates).tolist() == [2, 4, 0, 1, 2]


# The table of the project's reference, for N = 1, 2, 4, ...
TABLE = {
    0.9: [0.9, 0.81, 0.656, 0.430, 0.185, 0.034, 0.001, 0.0],
    0.95: [0.95, 0.903, 0.815, 0.663, 0.440, 0.194, 0.038, 0.001],
    0.97: [0.97, 0.941, 0.885, 0.784, 0.614, 0.377, 0.142, 0.020],
    0.99: [0.99, 0.980, 0.961, 0.923, 0.851, 0.725, 0.526, 0.276],
}


@pytest.mark.parametrize("X", TABLE)
def test_the_law_has_the_values_of_the_table(X: float) -> None:
    found = [unused_by_law(X, 2**i) for i in range(8)]
    assert found == pytest.approx(TABLE[X], abs=0.000501)
    assert found == pytest.approx([float(Fraction(str(X)) ** 2**i) for i in range(8)])


@pytest.mark.parametrize(("X", "N"), [(-0.1, 2), (1.1, 2), (math.nan, 2), (0.9, 0)])
def test_the_law_refuses_what_is_no_share_and_no_batch(X: float, N: int) -> None:
    with pytest.raises(ValueError, match=r"X is a share|N must be at least 1"):
        unused_by_law(X, N)


@pytest.mark.parametrize("N", [1, 2, 8, 32])
@pytest.mark.parametrize("X", [0.5, 0.9, 0.97])
def test_bernoulli_gates_obey_the_law(X: float, N: int) -> None:
    M, F = 200, 500
    source = torch.Generator().manual_seed(N)
    opened = torch.rand(1, M, N, F, generator=source) >= X
    expected = unused_by_law(X, N)
    sigma = math.sqrt(expected * (1 - expected) / (M * F))
    found = unused(opened)
    assert abs(found.measured.item() - expected) < 3 * sigma
    assert abs(found.gap.item()) < 5 * sigma + 1e-3


def test_neurons_that_differ_leave_more_unused() -> None:
    """Half of the neurons dead, half always open: the law says 1/4 for two tokens, half is true."""
    opened = torch.tensor([False, True]).repeat(5).expand(1, 7, 2, 10)
    found = unused(opened)
    assert (found.measured.item(), found.by_rates.item(), found.by_law.item()) == (0.5, 0.5, 0.25)
    assert found.gap.item() == 0.25


def test_tokens_that_are_alike_leave_more_unused() -> None:
    """All neurons alike, each open for all tokens of a group or for none."""
    opened = torch.tensor([[[True], [False]], [[False], [True]]]).permute(0, 2, 1)  # (2, 1, 2)
    groups = opened.expand(2, 4, 2)[None]  # (1, M = 2, N = 4, F = 2)
    found = unused(groups)
    assert (found.measured.item(), found.by_rates.item(), found.by_law.item()) == (
        0.5,
        0.0625,
        0.0625,
    )


def test_one_token_has_no_gap() -> None:
    opened = torch.rand(3, 50, 1, 20, generator=torch.Generator().manual_seed(1)) < 0.2
    found = unused(opened)
    torch.testing.assert_close(found.gap, torch.zeros(3, dtype=torch.float64))


def test_mean_of_powers_is_at_least_the_power_of_means() -> None:
    gates = observe(tiny(minillm), tokens_of(3, 4, 16)).gates
    found = unused(neighbours(gates != 0, 4))
    assert (found.by_rates >= found.by_law - 1e-12).all()


def test_neighbours_stand_in_one_text_side_by_side() -> None:
    L, B, T, F = 2, 3, 7, 5
    opened = torch.rand(L, B, T, F, generator=torch.Generator().manual_seed(0)) < 0.5
    groups = neighbours(opened, 3)
    assert groups.shape == (L, 6, 3, F)
    expected = [opened[:, b, i : i + 3] for i in (0, 3) for b in range(B)]
    assert groups.equal(torch.stack(expected, dim=1))
    for N in (0, 8):
        with pytest.raises(ValueError, match="N must be from 1 to 7"):
            neighbours(opened, N)


# Zeros that are made


def held_out() -> Tensor:
    return tokens_of(5, 2, 40)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8, 1.0])
@pytest.mark.parametrize("act", ["silu", "gelu", "relu"])
def test_cats_shuts_the_share_of_gates_that_is_asked_for(share: float, act: str) -> None:
    model, tokens = tiny(minillm, hidden_act=act), held_out()
    before = observe(model, tokens).gates
    twin = cats(model, tokens, share)
    first = observe(twin, tokens).gates[0]
    already = (before[0] == 0).double().mean().item()
    assert (first == 0).double().mean().item() == pytest.approx(max(share, already), abs=1e-3)
    kept = first != 0
    assert first[kept].equal(before[0][kept])
    if kept.any() and not kept.all():
        assert before[0][~kept].abs().max() <= before[0][kept].abs().min()
    assert not isinstance(model.blocks[0].mlp.act, ThresholdedGate)


def test_a_threshold_of_zero_changes_a_relu_by_nothing_and_one_above_costs() -> None:
    model, tokens = tiny(minillm), held_out()
    exact = cats(model, tokens, 0.0)
    assert exact(tokens).equal(model(tokens))
    errors = [float((cats(model, tokens, s)(tokens) - model(tokens)).abs().max()) for s in (0.7, 1)]
    assert 0 < errors[0] < errors[1]
    losses = [evaluate(twin, tokens.flatten()).loss for twin in (model, exact)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_teal_empties_what_enters_each_matrix(share: float) -> None:
    model, tokens = tiny(minillm, hidden_act="silu"), held_out()
    twin, entered = teal(model, tokens, share), []
    linear = next(x for x in twin.blocks[0].modules() if isinstance(x, nn.Linear))
    handle = linear.register_forward_pre_hook(lambda _, given: entered.append(given[0]))
    twin.hidden(tokens)
    handle.remove()
    assert (entered[0] == 0).double().mean().item() == pytest.approx(share, abs=1e-3)
    assert twin(tokens).equal(model(tokens)) == (share == 0)


@pytest.mark.parametrize("make", [cats, teal])
@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_a_share_outside_0_to_1_is_refused(make, share: float) -> None:
    model = tiny(minillm)
    with pytest.raises(ValueError, match="from 0 to 1"):
        make(model, held_out(), share)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("k", [1, 3, 64])
def test_top_k_attention_is_attention_to_the_k_best(k: int) -> None:
    model, tokens = tiny(minillm), held_out()
    twin = top_k_attention(model, k)
    seen = observe(model, tokens)
    v = _values(model, tokens)
    weights = seen.weights[0]
    best = weights.topk(min(k, 40)).values[..., -1:]
    kept = torch.where(weights >= best, weights, 0)
    kept = kept / kept.sum(-1, keepdim=True)
    v = v.repeat_interleave(2, dim=1)
    torch.testing.assert_close(observe(twin, tokens).outputs[0], kept @ v)
    assert twin(tokens).equal(model(tokens)) == (k >= 40)
    changed = tokens.clone()
    changed[:, -1] = (tokens[:, -1] + 1) % 31
    torch.testing.assert_close(twin(changed)[:, :-1], twin(tokens)[:, :-1])  # still causal


def test_top_k_attention_decodes_with_a_cache() -> None:
    """Query heads that share their keys choose each for itself, of one new token too."""
    twin = top_k_attention(tiny(minillm), 3)
    cached, recomputed = (
        collect(decode(twin, [[1, 2, 3]], max_new_tokens=12))
        for decode in (decode_cached, decode_recomputed)
    )
    assert cached == recomputed


def _values(model, tokens: Tensor) -> Tensor:
    kept: list[tuple[Tensor, ...]] = []
    attend = model.blocks[0].attention.attend
    handle = attend.register_forward_pre_hook(lambda _, given: kept.append(given))
    model.hidden(tokens)
    handle.remove()
    return kept[0][2]


@pytest.mark.parametrize("k", [0, -1, 65])
def test_top_k_needs_a_number_of_keys(k: int) -> None:
    with pytest.raises(ValueError, match="k must be from 1 to 64"):
        top_k_attention(tiny(minillm), k)


def test_sinks_and_a_window_by_hand() -> None:
    seen = [[int(x) for x in row] for row in sinks_and_window(6, 1, 2)]
    assert seen == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 0, 1, 1, 0, 0],
        [1, 0, 0, 1, 1, 0],
        [1, 0, 0, 0, 1, 1],
    ]
    assert sinks_and_window(5, 0, 5).equal(causal_mask(5, 5, torch.device("cpu")))
    for sinks, window in ((-1, 2), (0, 0)):
        with pytest.raises(ValueError, match=r"(sinks|window) must be at least"):
            sinks_and_window(5, sinks, window)
