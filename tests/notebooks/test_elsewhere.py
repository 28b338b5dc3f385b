"""Imitated machines: what they change, and what they leave."""

import itertools
import time
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from widgets.notebooks import elsewhere
from widgets.notebooks.elsewhere import NOISE, SLOWER, BusyClock, Rounding


def numbers(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.mark.parametrize("dtype", NOISE)
@pytest.mark.parametrize(
    "compute",
    [
        lambda x: x @ x.T,
        lambda x: F.linear(x, x),
        lambda x: x.softmax(-1),
        lambda x: x.sum(-1),
        lambda x: x.mean(-1),
        lambda x: torch.einsum("ij,kj->ik", x, x),
        lambda x: torch.linalg.vector_norm(x, dim=-1),
        lambda x: torch.linalg.cholesky_ex(x @ x.T + 9 * torch.eye(8, dtype=x.dtype))[0],
        lambda x: F.scaled_dot_product_attention(x[None], x[None], x[None]),
        lambda x: x.abs().log(),
        lambda x: x.clone().exp_(),
        lambda x: torch.exp(x, out=torch.empty_like(x)),
    ],
)
def test_a_result_is_off_by_its_rounding(
    dtype: torch.dtype, compute: Callable[[torch.Tensor], torch.Tensor]
):
    x = numbers(8, 16, dtype=dtype)
    here = compute(x)
    with Rounding(1):
        there = compute(x)
        again = compute(x)
    with Rounding(2):
        another = compute(x)
    assert not there.equal(here)
    assert not there.equal(another)
    assert there.equal(again)  # one machine agrees with itself
    torch.testing.assert_close(there, here, rtol=100 * NOISE[dtype], atol=0)


def test_what_is_exact_everywhere_stays():
    counts = torch.tensor([3.0, 15496.0, 0.0, -2.5])
    whole = torch.arange(-127.0, 128.0).repeat(17, 4)
    shut = torch.tensor([[1.5, float("-inf")], [float("-inf"), 0.25]])
    with Rounding(1):
        assert counts.sum().item() == 15496.5
        assert (counts[None] @ torch.eye(4)).equal(counts[None])
        assert shut.softmax(-1).equal(torch.eye(2))
        assert torch.arange(10).sum().item() == 45
        assert (whole @ whole.T).equal(whole.double() @ whole.double().T)
        assert numbers(4).relu().equal(numbers(4).clamp_min(0))


def test_a_choice_between_equals_falls_elsewhere():
    tied = torch.full((64,), 1 / 3)
    chosen = set()
    for seed in range(5):
        with Rounding(seed):
            chosen.add(int(tied.argmax()))
    assert len(chosen) > 1


@pytest.mark.parametrize("seed", range(3))
def test_a_busy_clock_goes_on_and_is_slower_at_random(seed: int):
    ticks = iter(range(10_000))
    clock = BusyClock(lambda: next(ticks), seed)
    shown = [clock() for _ in range(2000)]
    steps = {b - a for a, b in itertools.pairwise(shown)}
    assert steps == {1, SLOWER}


def test_spans_are_long_where_all_of_a_kind_is_to_be_slowed():
    ticks = iter(range(10_000))
    clock = BusyClock(lambda: next(ticks), seed=2)
    shown = [clock() for _ in range(5000)]
    paces = [b - a for a, b in itertools.pairwise(shown)]
    turns = sum(a != b for a, b in itertools.pairwise(paces))
    assert 5 < turns < 100


def test_a_process_moves(monkeypatch: pytest.MonkeyPatch):
    entered: list[Rounding] = []
    for name in elsewhere._CLOCKS:
        monkeypatch.setattr(time, name, getattr(time, name))
    monkeypatch.setattr(Rounding, "__enter__", lambda rounding: entered.append(rounding))
    elsewhere.move(3)
    assert len(entered) == 1
    assert all(isinstance(getattr(time, name), BusyClock) for name in elsewhere._CLOCKS)
