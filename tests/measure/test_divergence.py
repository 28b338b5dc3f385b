"""KL and paired losses: against enumeration, one token at a time, and what the intervals cover."""

import math

import pytest
import torch
from oracles import tiny, tokens_of

import minillm
from minillm.measure.divergence import ByText, divergences, interval

LENGTHS = (2, 9, 5, 64, 65, 66, 150)  # a context holds 64
TEXTS = [tokens_of(seed, n).tolist() for seed, n in enumerate(LENGTHS)]
ORIGINAL, OTHER, THIRD = (tiny(minillm, seed=seed) for seed in range(3))


def one_by_one(texts: list[list[int]]) -> ByText:
    """`OTHER` beside `ORIGINAL`: every place of every text alone, every token by its name."""
    sums = []
    for text in texts:
        loss = added = kl = 0.0
        for place in range(1, len(text)):
            start = (place - 1) // 64 * 64
            read = torch.tensor([text[start:place]])
            p, q = (m(read)[0, -1].softmax(-1).tolist() for m in (ORIGINAL, OTHER))
            loss -= math.log(q[text[place]])
            added += math.log(p[text[place]] / q[text[place]])
            kl += sum(p[token] * math.log(p[token] / q[token]) for token in range(31))
        sums.append((loss, added, kl))
    return ByText(torch.tensor([len(text) - 1 for text in texts]), *torch.tensor(sums).double().T)


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_divergences_are_those_of_every_token_by_itself(batch: int) -> None:
    found, expected = (
        divergences(ORIGINAL, {"other": OTHER}, TEXTS, batch)["other"],
        one_by_one(TEXTS),
    )
    assert found.tokens.tolist() == [n - 1 for n in LENGTHS]
    for ours, theirs in zip(
        (found.loss, found.added, found.kl),
        (expected.loss, expected.added, expected.kl),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_model_does_not_diverge_from_itself() -> None:
    found = divergences(ORIGINAL, {"same": ORIGINAL}, TEXTS)["same"]
    assert found.kl.abs().max() == found.added.abs().max() == 0


def test_no_divergence_is_below_zero_and_none_is_symmetric() -> None:
    forward = divergences(ORIGINAL, {"b": OTHER, "c": THIRD}, TEXTS)
    back = divergences(OTHER, {"a": ORIGINAL}, TEXTS)["a"]
    assert all((found.kl > 0).all() for found in (*forward.values(), back))
    assert (forward["b"].kl - back.kl).abs().min() > 1e-3
    torch.testing.assert_close(forward["b"].added, -back.added)


def test_each_model_is_measured_as_if_alone() -> None:
    both = divergences(ORIGINAL, {"b": OTHER, "c": THIRD}, TEXTS)
    alone = divergences(ORIGINAL, {"c": THIRD}, TEXTS)["c"]
    assert alone.kl.equal(both["c"].kl)
    assert alone.loss.equal(both["c"].loss)


@pytest.mark.parametrize("texts", [[], [[1, 2], [1]]])
def test_texts_without_a_token_to_predict_are_refused(texts: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="at least two tokens each"):
        divergences(ORIGINAL, {"other": OTHER}, texts)


def drawn(seed: int, texts: int, planted: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Texts of unequal lengths, whose difference a token varies around the planted one."""
    source = torch.Generator().manual_seed(seed)
    tokens = torch.randint(50, 350, (texts,), generator=source)
    each = planted + 0.3 * torch.randn(texts, generator=source, dtype=torch.float64)
    return each * tokens, tokens


def test_the_interval_covers_a_planted_difference_in_about_95_of_100_experiments() -> None:
    covered = 0
    for seed in range(300):
        found = interval(*drawn(seed, 40, planted=0.1), seed=seed)
        covered += found.low <= 0.1 <= found.high
    assert 0.9 < covered / 300 < 0.98


def test_a_difference_is_decided_where_its_interval_does_not_hold_zero() -> None:
    experiments = range(200)
    for planted, least, most in ((0.0, 0, 20), (0.3, 190, 200), (-0.3, 190, 200)):
        found = [interval(*drawn(seed, 40, planted)) for seed in experiments]
        assert least <= sum(x.decided for x in found) <= most
        assert all(x.decided == (not x.low <= 0 <= x.high) for x in found)
        assert all(x.low < x.mean < x.high for x in found)


def test_the_mean_is_that_of_all_tokens_and_the_draws_are_those_of_the_seed() -> None:
    sums, tokens = torch.tensor([1.0, 30.0]), torch.tensor([10, 90])
    assert interval(sums, tokens).mean == pytest.approx(0.31)
    assert interval(sums, tokens).low == pytest.approx(0.1)
    assert interval(sums, tokens).high == pytest.approx(1 / 3)
    some = drawn(0, 20, 0.1)
    assert interval(*some) == interval(*some, seed=0) != interval(*some, seed=1)
    assert str(interval(sums, tokens)) == "+0.3100 (+0.1000 to +0.3333)"
    opposed = interval(torch.tensor([-1.0, 30.0]), tokens)
    assert str(opposed) == "+0.2900 (-0.1000 to +0.3333), not decided"


def test_what_two_models_share_widens_no_interval() -> None:
    hard, tokens = drawn(0, 30, planted=3.0)
    better, worse = hard + 0.001 * tokens, hard + 0.003 * tokens
    assert interval(worse - better, tokens).decided
    assert interval(worse, tokens).low < interval(better, tokens).high


def test_one_text_gives_no_interval() -> None:
    with pytest.raises(ValueError, match="at least two of them, got 1"):
        interval(torch.tensor([1.0]), torch.tensor([10]))
