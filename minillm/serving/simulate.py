"""The same scheduler on a card that is not here: the roofline says how long each step takes.

Nothing is measured. A step is one pass over all that its jobs read: weights once, each job's cache,
and the arithmetic of all of them, by `minillm.roofline`. What the scheduler costs is not counted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import median

from minillm.config import ModelConfig
from minillm.data.hardware import Accelerator
from minillm.data.public_models import MODELS, capacity
from minillm.roofline import Work, seconds, work
from minillm.serving.blocks import Blocks
from minillm.serving.record import Record, Served
from minillm.serving.scheduler import Job, Plan, Scheduler
from minillm.serving.workload import Asked, arrivals_at, spread

__all__ = ["Load", "curve", "simulate"]

_LEFT = 0.9  # of a card's memory, behind what the driver and activations take


def simulate(
    config: ModelConfig,
    asked: Sequence[Asked],
    scheduler: Scheduler,
    *,
    flops: float,
    bandwidth: float,
    weight_bytes: float = 2,
    cache_bytes: float = 2,
) -> Record:
    """Serve the requests; what each got, by its number. Of the tokens only the times are true.

    Args:
        config: the model's.
        asked: sorted by arrival, in seconds.
        scheduler: a fresh one; its pool's size is what the card's memory leaves for the cache.
        flops: per second, of the card.
        bandwidth: bytes per second, of the card.
        weight_bytes: of one weight.
        cache_bytes: of one number in the cache.

    Raises:
        ValueError: a request that the pool could never hold.
    """

    @cache
    def read(new: int, cached: int) -> Work:
        return work(
            config,
            new=new,
            cached=cached,
            weight_bytes=weight_bytes,
            cache_bytes=cache_bytes,
            logits="last",
        )

    clock, coming, requests = 0.0, list(asked), dict[int, Served]()
    while coming or scheduler.waiting or scheduler.running:
        while coming and coming[0].at <= clock:
            one = coming.pop(0)
            longest = len(one.prompt) + one.more
            scheduler.submit(Job(len(requests), list(one.prompt), longest))
            requests[len(requests)] = Served(one)
        plan = scheduler.plan()
        if not plan.reads:
            clock = coming[0].at
            continue
        clock += seconds(_step(plan, read), flops, bandwidth)
        for job, count in plan.reads:
            job.table.length += count
            if not job.unread:
                job.text.append(0)
                requests[job.number].tokens.append(0)
                requests[job.number].times.append(clock)
            if len(job.text) == job.longest:
                scheduler.finish(job)
    return Record(requests)


@dataclass(frozen=True)
class Load:
    """What a card does for requests that arrive at a rate. All of it is computed.

    Attributes:
        rate: requests a second that arrive.
        throughput: tokens a second that are written, from the first arrival to the last token.
        ttft: seconds to the first token, the median.
        ttft_p95: seconds that 95 of 100 requests wait for it at most.
        tpot: seconds for each token behind it, the median.
    """

    rate: float
    throughput: float
    ttft: float
    ttft_p95: float
    tpot: float


def curve(
    model: str,
    config: ModelConfig,
    card: Accelerator,
    rates: Sequence[float],
    *,
    requests: int = 1000,
    shortest: int = 10,
    longest: int = 1000,
    size: int = 16,
    budget: int = 512,
    rows: int = 256,
    seed: int = 0,
) -> list[Load]:
    """Throughput and latency against the rate of arrivals, with weights and cache in 16 bits.

    Prompts and budgets are spread evenly; the pool is what the weights leave of the card's memory.

    Args:
        model: its name in `minillm.data.public_models.MODELS`.
        config: its sizes.
        card: where it runs.
        rates: requests a second, on average.
        requests: in all, at each rate.
        shortest: tokens of a prompt, and of a budget.
        longest: see `shortest`.
        size: tokens of a block.
        budget: tokens that a step reads, see `Scheduler`.
        rows: requests that run at the same time at most.
        seed: of arrivals and lengths.

    Raises:
        ValueError: weights that do not fit, or a text longer than the pool.
    """
    fits = capacity(MODELS[model], card)
    blocks = int((_LEFT * fits.memory - fits.weights) // fits.per_token // size)
    prompts, budgets = (spread(shortest, longest, requests, seed + i) for i in range(2))
    loads = []
    for rate in rates:
        asked = [
            Asked(at, (0,) * prompt, more)
            for at, prompt, more in zip(
                arrivals_at(rate, requests, seed), prompts, budgets, strict=True
            )
        ]
        scheduler = Scheduler(Blocks(blocks, size), budget=budget, rows=rows, share=False)
        record = simulate(config, asked, scheduler, flops=card.flops, bandwidth=card.bandwidth)
        ttft, tpot = zip(*((one.ttft, one.tpot) for one in record.requests.values()), strict=True)
        loads.append(Load(rate, record.throughput, median(ttft), record.ttft_p95, median(tpot)))
    return loads


def _step(plan: Plan, read: Callable[[int, int], Work]) -> Work:
    """One pass over all that the jobs read."""
    parts = [read(count, job.table.length) for job, count in plan.reads]
    return Work(
        flops=sum(part.flops for part in parts),
        weight_bytes=max(part.weight_bytes for part in parts),
        cache_bytes=sum(part.cache_bytes for part in parts),
        activation_bytes=sum(part.activation_bytes for part in parts),
    )
