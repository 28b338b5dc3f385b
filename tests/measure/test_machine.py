"""Measuring: what is run and what is left behind; how long it took is for the reader to see."""

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import pytest
import torch
from torch import Tensor

from minillm import KVCache, Transformer
from minillm.fast.model import optimized
from minillm.measure import machine
from minillm.measure.machine import Machine, measure_machine, measure_tokens

Tiny = Callable[..., Transformer]


@pytest.fixture(autouse=True)
def _in_short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "_SIZES": (1 << 20, 2 << 20, 4 << 20),
        "_SIDE": 16,
        "_BUDGET": 0.0,
    }.items():
        monkeypatch.setattr(machine, name, value)


# The machine


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_every_rate_is_measured(dtype: torch.dtype) -> None:
    found = measure_machine(dtype=dtype)
    assert list(found.bandwidths) == [1 << 20, 2 << 20, 4 << 20]
    assert min(*found.bandwidths.values(), found.flops, found.overhead) > 0
    assert (found.device, found.dtype, found.threads) == ("cpu", dtype, torch.get_num_threads())


def test_what_comes_next_is_told() -> None:
    told: list[str] = []
    measure_machine(progress=told.append)
    reading = ["reading 1 MiB", "reading 2 MiB", "reading 4 MiB"]
    assert told == [*reading, "multiplying", "adding next to nothing"]


@pytest.mark.parametrize(
    ("nbytes", "size"),
    [(0, 100), (1, 100), (100, 100), (101, 200), (200, 200), (200.5, 400), (400, 400), (9e9, 400)],
)
def test_bandwidth_is_that_of_the_smallest_set_that_holds_it(nbytes: float, size: int) -> None:
    bandwidths = {400: 4e9, 100: 1e9, 200: 2e9}
    found = Machine("cpu", torch.float32, 1, bandwidths, 1e9, 1e-6)
    assert found.bandwidth_at(nbytes) == bandwidths[size]


@pytest.mark.parametrize(("budget", "counted"), [(0.0, 5), (30.0, 12)])
def test_runs_after_the_first_fill_the_budget(
    monkeypatch: pytest.MonkeyPatch, budget: float, counted: int
) -> None:
    """On a clock that shows one second more whenever it is looked at."""
    ticks = count()
    monkeypatch.setattr("time.perf_counter", lambda: float(next(ticks)))
    monkeypatch.setattr(machine, "_BUDGET", budget)
    runs: list[int] = []
    assert machine._times(lambda: runs.append(1), torch.device("cpu")) == [1.0] * counted
    assert len(runs) == 1 + counted


# Tokens together


class Watched:
    """What each forward pass of a model was given."""

    def __init__(self, model: Transformer):
        self.shapes: list[tuple[int, ...]] = []
        self.lengths: list[list[int]] = []
        self.caches: list[KVCache] = []
        model.register_forward_pre_hook(self._note)

    def _note(self, _module: Transformer, inputs: tuple[Tensor, KVCache]) -> None:
        tokens, cache = inputs
        assert torch.is_inference_mode_enabled()
        held = cache.lengths[0]
        assert bool((cache.keys[:, :, :, :held] != 0).all())  # memory of its own, not zeros
        self.shapes.append(tuple(tokens.shape))
        self.lengths.append(list(cache.lengths))
        self.caches.append(cache)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("cached", [0, 9])
@pytest.mark.parametrize(
    ("rows", "shapes"),
    [(False, [(1, 1), (1, 5), (1, 2)]), (True, [(1, 1), (5, 1), (2, 1)])],
    ids=["tokens of one text", "texts"],
)
def test_each_round_runs_every_count_behind_the_same_cache(
    tiny: Tiny, rows: bool, shapes: list[tuple[int, int]], cached: int, dtype: torch.dtype
) -> None:
    model = tiny(dtype=dtype)
    watched = Watched(model)
    times = measure_tokens(model, (1, 5, 2), cached=cached, rows=rows, repeats=3)
    assert list(times) == [1, 5, 2]
    assert min(times.values()) > 0
    order = (shapes + shapes[::-1]) * 2  # every second round backwards, the first warms up
    assert watched.shapes == order
    assert watched.lengths == [[cached] * B for B, _ in order]
    for cache, (B, _) in zip(watched.caches, order, strict=True):
        assert list(cache.lengths) == [cached] * B  # given back as it was
    assert len(set(map(id, watched.caches))) == (3 if rows else 1)


def test_the_fast_twin_is_measured_as_the_model_is(tiny: Tiny) -> None:
    model = optimized(tiny(dtype=torch.float32), "F.linear")
    for rows in (False, True):
        assert set(measure_tokens(model, (1, 4), cached=3, rows=rows, repeats=1)) == {1, 4}


def test_the_context_may_be_filled_to_the_last_token(tiny: Tiny) -> None:
    model = tiny(max_position_embeddings=16)
    assert measure_tokens(model, (1, 6), cached=10, repeats=1)
    assert measure_tokens(model, (40,), cached=15, rows=True, repeats=1)


def test_the_fastest_round_counts(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([99.0, 99.0, 10.0, 3.0, 1.0, 30.0, 20.0, 2.0])  # m = 1, 2; 2, 1; 1, 2; 2, 1

    def clock(run: Callable[[], Any], device: torch.device) -> float:
        run()
        return next(times)

    monkeypatch.setattr(machine, "seconds_of", clock)
    assert measure_tokens(tiny(), (1, 2), cached=1, repeats=3) == {1: 1.0, 2: 10.0}


@pytest.mark.parametrize(
    ("counts", "cached", "repeats", "named"),
    [
        ((), 1, 1, "no counts"),
        ((0, 1), 1, 1, "counts must be at least 1, got 0"),
        ((1,), -1, 1, "cached must be at least 0"),
        ((1,), 1, 0, "repeats must be at least 1"),
        ((1, 5), 60, 1, "65 tokens are beyond the context of 64"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    tiny: Tiny, counts: Sequence[int], cached: int, repeats: int, named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        measure_tokens(tiny(), counts, cached=cached, repeats=repeats)
