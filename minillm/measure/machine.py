"""What this machine computes and reads a second, and how long it takes for tokens together.

A data sheet gives peaks; what a program gets, depends on the caches that its data fit into, on
threads, and on who else is using the machine. So it is measured: the bandwidth for each of some
working sets, each read again and again, so that it rests in the fastest cache that holds it; the
arithmetic of one large matrix product; and the time of an operation that does nearly nothing.

Dimensions: B batch, T new tokens.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from minillm.kv_cache import KVCache
from minillm.measure.noise import Measured
from minillm.measure.timing import in_turn, seconds_of, until_narrow
from minillm.transformer import Transformer
from minillm.whole import whole, wholes

__all__ = ["Machine", "measure_machine", "measure_tokens", "reading", "reference_run"]

_REFERENCE = Path(__file__).parents[1] / "data" / "reference_run.json"
_SIZES = tuple(mib << 20 for mib in (1, 4, 16, 32, 64, 128))  # bytes of the working sets
_COLUMNS = 1024  # of the matrix that is read
_SIDE, _LARGE_SIDE = 1024, 4096  # of the squares that are multiplied: on a CPU, elsewhere
_CALLS = 100  # of the tiny operation, between two looks at the clock
_BUDGET = 0.2  # seconds for each measurement
_FEWEST = 5  # runs of each, however long they take


@dataclass(frozen=True)
class Machine:
    """Measured rates.

    Attributes:
        device: "cpu", "cuda", ...
        dtype: of the numbers that were read and multiplied.
        threads: that torch used on the CPU.
        bandwidths: bytes per second of reading, by the bytes that are read again and again.
        flops: per second, of a large matrix product.
        overhead: seconds of a call into torch that has next to nothing to do.
    """

    device: str
    dtype: torch.dtype
    threads: int
    bandwidths: Mapping[int, float]
    flops: float
    overhead: float

    def bandwidth_at(self, nbytes: float) -> float:
        """The bandwidth of the smallest measured working set that holds `nbytes`, or the largest.

        >>> machine = Machine("cpu", torch.float32, 2, {1000: 9e10, 8000: 2e10}, 1e11, 1e-6)
        >>> machine.bandwidth_at(1000), machine.bandwidth_at(1001), machine.bandwidth_at(9000)
        (90000000000.0, 20000000000.0, 20000000000.0)
        """
        enough = [size for size in self.bandwidths if size >= nbytes]
        return self.bandwidths[min(enough, default=max(self.bandwidths))]


@torch.inference_mode()
def measure_machine(
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    progress: Callable[[str], object] = lambda said: None,
) -> Machine:
    """Measure, in about three seconds, with the threads that torch now uses.

    Rates are those of the fastest run, which nothing else interrupted; the overhead is a median.

    Args:
        device: where to measure.
        dtype: of the numbers.
        progress: is told in a few words what comes next.
    """
    device = torch.device(device)
    ones = partial(torch.ones, device=device, dtype=dtype)
    bandwidths = {}
    for size in _SIZES:
        progress(f"reading {size >> 20} MiB")
        bandwidths[size] = size / min(  # one at a time: each holds all that it reads
            min(_times(reading(size, device, dtype, how), device)) for how in _READINGS
        )
    progress("multiplying")
    side = _SIDE if device.type == "cpu" else _LARGE_SIDE
    square = ones(side, side)
    fastest = min(_times(partial(torch.matmul, square, square), device))
    progress("adding next to nothing")
    spent = _times(partial(_add_often, ones(1, _COLUMNS)), device)
    return Machine(
        device=device.type,
        dtype=dtype,
        threads=torch.get_num_threads(),
        bandwidths=bandwidths,
        flops=2 * side**3 / fastest,
        overhead=median(spent) / _CALLS,
    )


def reading(
    nbytes: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    how: str = "sum",
) -> Callable[[], torch.Tensor]:
    """A run that reads so many bytes, a multiple of 4096: a sum, or the product of a row with them.

    Which of them reads faster depends on the size and on the machine.
    """
    matrix = torch.ones(nbytes // (_COLUMNS * dtype.itemsize), _COLUMNS, device=device, dtype=dtype)
    return partial(_READINGS[how], matrix)


_READINGS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sum": torch.sum,
    "product": lambda matrix: matrix.new_ones(len(matrix)) @ matrix,
}


def _add_often(row: torch.Tensor) -> None:
    for _ in range(_CALLS):
        torch.add(row, row)


@torch.inference_mode()
def measure_tokens(
    model: Transformer,
    counts: Sequence[int],
    *,
    cached: int,
    rows: bool = False,
    repeats: int = 15,
) -> dict[int, Measured]:
    """Seconds of one forward pass over m tokens together, for each m of `counts`.

    That is what `work(config, new=m, cached=cached)` counts, or with `rows`, `new=1, batch=m`: the
    m tokens follow one another in one sequence, behind `cached` tokens whose cache they share;
    or, with `rows`, they belong to m sequences, each with `cached` tokens in a cache of its own.
    Every round runs each m once, every second one backwards: a drift of the machine hits all alike,
    and none always follows the longest pass. The first round warms up; of the others, at most
    `repeats` (see `until_narrow`), the fastest counts, which nothing else interrupted, and all give
    its interval. After each pass the cache is as before.

    Raises:
        ValueError: no counts, or one below 1; repeats below 1; more tokens than the context holds.
    """
    repeats, cached = whole("repeats", repeats, least=1), whole("cached", cached)
    counts = wholes("counts", counts, least=1)
    shapes = {m: (m, 1) if rows else (1, m) for m in counts}  # (B, T)
    if not shapes:
        raise ValueError("there are no counts of tokens to measure")
    longest = cached + max(T for _, T in shapes.values())
    if longest > model.config.max_position_embeddings:
        raise ValueError(
            f"{longest} tokens are beyond the context of {model.config.max_position_embeddings}"
        )
    caches = {B: _filled(model, B, cached, longest) for B in {B for B, _ in shapes.values()}}

    def timed(B: int, T: int) -> float:
        tokens = torch.arange(B * T, device=model.device) % model.config.vocab_size
        spent = seconds_of(partial(model, tokens.view(B, T), caches[B]), model.device)
        caches[B].truncate([cached] * B)
        return spent

    passes = [partial(timed, *shape) for shape in shapes.values()]
    rounds = in_turn([passes] * (repeats + 1))
    next(rounds)  # warms up
    return {
        m: Measured.of(times, min(times))
        for m, times in zip(shapes, zip(*until_narrow(rounds), strict=True), strict=True)
    }


def reference_run() -> dict[str, Any]:
    """A recorded run to set beside one's own: machine, seconds of m tokens and of m texts by m.

    Measured with the shipped `stories`, the fastest kernels: m tokens of one text behind 64 cached
    ones ("tokens"), m texts with 400 cached tokens each ("texts").
    """
    record = json.loads(_REFERENCE.read_text(encoding="utf-8"))
    curves = {name: {int(m): s for m, s in record[name].items()} for name in ("tokens", "texts")}
    return record | curves


def _filled(model: Transformer, rows: int, cached: int, capacity: int) -> KVCache:
    """A cache that holds `cached` tokens: ones, since fresh zeros may share one page of memory."""
    cache = KVCache(model.config, rows, capacity, device=model.device, dtype=model.dtype)
    cache.keys.fill_(1)
    cache.values.fill_(1)
    cache.advance(cached)
    return cache


def _times(run: Callable[[], object], device: torch.device) -> list[float]:
    """Seconds of each of as many runs as the budget allows, after one that warms up."""
    run()
    spent: list[float] = []
    begin = time.perf_counter()
    while len(spent) < _FEWEST or time.perf_counter() - begin < _BUDGET:
        spent.append(seconds_of(run, device))
    return spent
