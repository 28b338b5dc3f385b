"""Sampling: the distribution is that of transformers, the pick the exact inverse CDF."""

import math
import subprocess
import sys

import oracles
import pytest
import torch

import minillm
from minillm import GREEDY, Sampler
from minillm.sampling import pick


def logits_of(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64) * 3


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("top_k", [None, 1, 5, 50, 1000])
@pytest.mark.parametrize("top_p", [1e-9, 0.3, 0.9, 1.0])
def test_equals_the_warpers_of_transformers(
    temperature: float, top_k: int | None, top_p: float
) -> None:
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    logits = logits_of(0, 20, 50)
    warped = TemperatureLogitsWarper(temperature)(None, logits)
    warped = TopKLogitsWarper(top_k or 50)(None, warped)
    warped = TopPLogitsWarper(top_p)(None, warped)
    p = Sampler(temperature, top_k, top_p).probabilities(logits)
    assert torch.equal(p > 0, warped > -math.inf)
    assert oracles.close(p, warped.softmax(-1))


def test_filters_by_hand() -> None:
    p = torch.tensor([0.1, 0.4, 0.2, 0.25, 0.05], dtype=torch.float64)
    for sampler, kept in (
        (Sampler(), [0, 1, 2, 3, 4]),
        (Sampler(top_k=2), [1, 3]),
        (Sampler(top_p=0.39), [1]),
        (Sampler(top_p=0.41), [1, 3]),
        (Sampler(top_p=0.66), [1, 2, 3]),
        (Sampler(top_k=4, top_p=0.99), [0, 1, 2, 3]),
        (Sampler(top_k=2, top_p=0.6), [1]),  # top-p counts what top-k left: 0.4 of 0.65 is 0.62
    ):
        expected = torch.zeros_like(p)
        expected[kept] = p[kept] / p[kept].sum()
        assert oracles.close(sampler.probabilities(p.log()), expected)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_top_k_keeps_k_of_equal_logits(k: int) -> None:
    p = Sampler(top_k=k).probabilities(torch.zeros(4))
    assert sorted(p.tolist(), reverse=True) == pytest.approx([1 / k] * k + [0] * (4 - k))


def test_of_equal_logits_the_first_are_kept() -> None:
    tied = torch.tensor([[1.0, 3.0, 2.0, 3.0, 2.0, 2.0], [0.0] * 6])
    kept = [Sampler(top_k=k).probabilities(tied) > 0 for k in (1, 3, 4)]
    assert [mask.nonzero()[:, 1].tolist() for mask in kept] == [
        [1, 0],
        [1, 2, 3, 0, 1, 2],
        [1, 2, 3, 4, 0, 1, 2, 3],
    ]


@pytest.mark.parametrize("temperature", [1e-300, 1.0, 1e308])
def test_top_k_of_1_is_greedy(temperature: float) -> None:
    logits = torch.cat((torch.zeros(2, 30), logits_of(3, 9, 30) * 1e-9, logits_of(4, 9, 30) // 1))
    p = Sampler(temperature, top_k=1).probabilities(logits)
    assert torch.equal(p, GREEDY.probabilities(logits))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("p", "top_p", "kept"),
    [
        ([0.5, 0.3, 0.1, 0.1], 0.8, 2),
        ([1 / 7] * 7, 5 / 7, 5),
        ([0.1] * 10, 0.8, 8),
        ([0.1] * 10, 0.3, 3),
        ([0.5, 0.3, 0.1, 0.1], 0.8001, 3),
        ([0.5, 0.3, 0.1, 0.1], 0.7999, 2),
    ],
)
def test_top_p_is_reached_by_an_exact_sum(
    p: list[float], top_p: float, kept: int, dtype: torch.dtype
) -> None:
    logits = torch.tensor(p, dtype=dtype).log()
    assert (Sampler(1.0, None, top_p).probabilities(logits) > 0).tolist() == [
        i < kept for i in range(len(p))
    ]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_temperature_0_is_argmax(dtype: torch.dtype) -> None:
    logits = logits_of(1, 3, 4, 30).to(dtype)
    p = GREEDY.probabilities(logits)
    assert p.dtype == torch.float64
    assert torch.equal(p, torch.nn.functional.one_hot(logits.argmax(-1), 30).double())
    for u in (0.0, 0.5, 1 - 2**-53):
        assert torch.equal(pick(p, torch.full((3, 4), u, dtype=torch.float64)), logits.argmax(-1))


@pytest.mark.parametrize("temperature", [1e-30, 1e-300, 1e-308, 5e-324])
def test_temperature_0_is_the_limit(temperature: float) -> None:
    logits = logits_of(2, 10, 30)
    p = Sampler(temperature).probabilities(logits)
    assert oracles.close(p, GREEDY.probabilities(logits))


def test_pick_is_the_inverse_cdf() -> None:
    oracles.picks_inverse_cdf(minillm)


@pytest.mark.parametrize("seed", range(5))
def test_no_token_of_probability_0_is_picked(seed: int) -> None:
    """Neither at the edges of the cells of a distribution that is not dyadic, nor behind them."""
    p = Sampler(1.5, top_k=9, top_p=0.9).probabilities(logits_of(seed, 40))
    edges = p.cumsum(-1)
    u = torch.cat((edges, edges.nextafter(edges + 1), edges.nextafter(edges - 1)))
    u = torch.cat((u, torch.tensor([0.0, 5e-324, 1 - 2**-53], dtype=torch.float64)))
    u = u[(u >= 0) & (u < 1)]
    assert (p[pick(p.expand(len(u), -1), u)] > 0).all()


def test_pick_where_probabilities_do_not_add_up_to_one() -> None:
    """Rounding, or a caller's float32: u counts as a share of the sum that is there."""
    thirds = torch.tensor([0.0, 0.3, 0.3, 0.3, 0.0], dtype=torch.float32)
    u = torch.tensor([0.0, 0.33, 0.34, 0.66, 0.67, 1 - 2**-53], dtype=torch.float64)
    assert pick(thirds.expand(6, -1), u).tolist() == [1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"temperature": -0.1}, "temperature must be 0 or above, got -0.1"),
        ({"temperature": math.nan}, "temperature"),
        ({"temperature": math.inf}, "temperature"),
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
        ({"top_k": -3}, "top_k"),
        ({"top_p": 0.0}, "top_p must be above 0 and at most 1, got 0"),
        ({"top_p": -0.5}, "top_p"),
        ({"top_p": 1.01}, "top_p"),
        ({"top_p": math.nan}, "top_p"),
    ],
    ids=str,
)
def test_sampler_refuses(arguments: dict[str, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Sampler(**arguments)


UNTYPED = """
from minillm import Sampler
for name in ("temperature", "top_k", "top_p"):
    for wrong in ("1", [1], 1 + 0j, *([2.5] if name == "top_k" else [None])):
        try:
            Sampler(**{name: wrong})
        except ValueError as error:
            assert f"{name} must be" in str(error)
        else:
            raise AssertionError((name, wrong))
"""


def test_what_is_no_number_is_refused() -> None:
    """In a process of its own: here the annotations are checked before the library can."""
    done = subprocess.run([sys.executable, "-c", UNTYPED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("sampler", [GREEDY, Sampler(), Sampler(top_k=1)], ids=str)
def test_logits_that_are_not_finite_are_refused(sampler: Sampler, bad: float) -> None:
    logits = logits_of(0, 2, 7)
    logits[1, 3] = bad
    with pytest.raises(ValueError, match="logits must be finite"):
        sampler.probabilities(logits)
    with pytest.raises(ValueError, match="logits must be finite"):
        sampler.choose(logits, torch.zeros(2))


@pytest.mark.parametrize("sampler", [GREEDY, Sampler(), Sampler(0.5, 6, 0.9)], ids=str)
def test_minus_infinity_bans_a_token(sampler: Sampler) -> None:
    logits = logits_of(0, 2, 7)
    logits[1, logits[1].argmax()] = -math.inf
    allowed = logits[1].isfinite()
    p = sampler.probabilities(logits)
    assert oracles.close(p[1, allowed], sampler.probabilities(logits[1, allowed]))
    assert p[1, ~allowed].item() == 0
    assert oracles.close(p[0], sampler.probabilities(logits[0]))
    u = torch.tensor([0.3, 0.7], dtype=torch.float64)
    assert torch.equal(sampler.choose(logits, u), pick(p, u))
    with pytest.raises(ValueError, match="logits must be finite"):  # a row without any token
        sampler.probabilities(torch.stack((logits[0], torch.full((7,), -math.inf))))
