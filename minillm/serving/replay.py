"""Serve a workload: by an engine as its requests arrive, or in static batches.

The clock counts what the steps take, so nobody sleeps until the next request arrives: while none
is there, it is set forward. By default a step takes its seconds; with `one_each` the clock counts
steps, and the same requests give the same record on every machine.
"""

from collections.abc import Callable, Iterator, Sequence

from minillm.decoding import Model, decode_cached
from minillm.serving.engine import Engine, ServingStep
from minillm.serving.record import Moment, Record, Served
from minillm.serving.workload import Asked

__all__ = ["follow", "one_each", "serve", "serve_in_batches", "took"]

Clock = Callable[[float], float]  # what a step takes, given its seconds


def took(seconds: float) -> float:
    """A step takes its seconds."""
    return seconds


def one_each(seconds: float) -> float:
    """A step takes 1, however long it was."""
    return 1.0


def serve(engine: Engine, asked: Sequence[Asked], clock: Clock = took) -> Record:
    """Submit each request when it arrives, and step until all have ended.

    Args:
        engine: a fresh one, or one that nobody waits for.
        asked: sorted by arrival.
        clock: `took`, or `one_each`.
    """
    return [Record({}), *follow(engine, asked, clock)][-1]


def follow(engine: Engine, asked: Sequence[Asked], clock: Clock = took) -> Iterator[Record]:
    """As `serve`, step by step: the one record behind each.

    Raises:
        ValueError: the scores of a request cannot be judged.
    """
    requests, moments = dict[int, Served](), list[Moment]()
    coming, now = list(asked), 0.0
    while coming or engine.busy:
        if not engine.busy:
            now = max(now, coming[0].at)
        while coming and coming[0].at <= now:
            one = coming.pop(0)
            requests[engine.submit(one.prompt, max_new_tokens=one.more)] = Served(one)
        step = engine.step()
        for error in step.failed.values():
            raise error
        writing = {number for number in step.reads if requests[number].tokens}
        start, now = now, now + clock(step.seconds)
        for number, tokens in step.tokens.items():
            requests[number].tokens += tokens
            requests[number].times += [now] * len(tokens)
        moments.append(_moment(engine, step, start, now, writing))
        yield Record(requests, moments)


def _moment(
    engine: Engine, step: ServingStep, start: float, end: float, writing: set[int]
) -> Moment:
    decode = frozenset(n for n in writing if step.reads[n] == 1 and n in step.tokens)
    scheduler = engine.scheduler
    return Moment(
        start,
        end,
        step,
        {number: count for number, count in step.reads.items() if number not in decode},
        decode,
        {job.number: (tuple(job.table.blocks), job.table.length) for job in scheduler.running},
        tuple(job.number for job in scheduler.waiting),
        frozenset(scheduler.prefixes.held),
        tuple(scheduler.blocks.holders),
    )


def serve_in_batches(
    model: Model, asked: Sequence[Asked], rows: int, clock: Clock = took
) -> Record:
    """Static batching: wait for `rows` requests, decode them together until the last has ended.

    Each row is padded to the longest prompt and keeps its place until the longest budget is spent.

    Args:
        model: what scores the next token.
        asked: sorted by arrival.
        rows: of a batch; the last may have fewer.
        clock: `took`, or `one_each`.
    """
    requests, now = dict[int, Served](), 0.0
    for first in range(0, len(asked), rows):
        batch = asked[first : first + rows]
        served = [Served(one) for one in batch]
        requests |= dict(enumerate(served, first))
        now = max(now, batch[-1].at)
        longest = max(one.more for one in batch)
        prompts = [one.prompt for one in batch]
        for step in decode_cached(model, prompts, max_new_tokens=longest):
            now += clock(step.seconds)
            for one, row in zip(served, step.rows, strict=True):
                wanted = row.tokens[: one.asked.more - len(one.tokens)]
                one.tokens += wanted
                one.times += [now] * len(wanted)
    return Record(requests)
