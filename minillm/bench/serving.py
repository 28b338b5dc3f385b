"""Bench rows of lesson 14: what continuous batching, blocks, shared beginnings and chunks gain."""

from collections.abc import Callable, Sequence
from functools import partial
from statistics import median

import torch
from tokenizers import Tokenizer
from torch import Tensor
from tqdm import tqdm

from minillm.bench.greedy import BAR, CLOSE
from minillm.bench.rows import CheckFailedError, Measured, row
from minillm.checkpoint import load
from minillm.data.heldout import stories
from minillm.fast.model import ONE_CALL, kernel_names, optimized
from minillm.kv_cache import KVCache
from minillm.measure.timing import Pair, interleave
from minillm.serving.engine import Engine
from minillm.serving.record import Record
from minillm.serving.replay import one_each, serve, serve_in_batches
from minillm.serving.workload import Asked, workload
from minillm.tokens import encode
from minillm.transformer import Transformer

__all__ = ["chunks", "continuous", "invariance", "paging", "prefix", "tokens_computed"]

_MODEL = "stories"
_ROWS = 16  # requests that run together, and rows of a static batch
_BLOCKS = 16 * 32  # of 16 tokens: a whole context for each
_BUDGET = 256  # tokens that a step reads
_PAIRS, _ARRIVING = 7, 3
_SECONDS = 90.0  # after which no pair of a row is begun
_OPENING, _SHARING = 300, 20
_NEWCOMER = 450


@row("serving/continuous", against=f"static batches of {_ROWS} requests")
def continuous() -> Measured:
    """32 requests that are there at once; times are for one of all tokens written.

    The time to the first token needs arrivals: there are as many a second, at random (Poisson), as
    static batches have just been seen to serve. Both loads are those of vLLM's benchmarks
    (`vllm bench throughput` and `vllm bench serve`).
    """
    model, text = _fast()

    def pairs_of(rate: float, count: int) -> list[Pair[Record, Record]]:
        asked = workload(text, rate=rate)
        engine = partial(Engine, model, blocks=_BLOCKS, rows=_ROWS, budget=_BUDGET)
        both = lambda: serve(engine(), asked), lambda: serve_in_batches(model, asked, _ROWS)
        return _in_turn(*both, count)

    pairs = pairs_of(float("inf"), _PAIRS)
    served = len(pairs[0].ours.requests)
    capacity = served / median(pair.theirs.end for pair in pairs)
    arriving = pairs_of(capacity, _ARRIVING)
    ours, theirs = tokens_computed(pairs[0].ours)
    check = (
        f"{_equal_texts([*pairs, *arriving])}; 95th percentile of TTFT {_waits(arriving):.2f} of "
        f"the static one where requests arrive at random, {_waits(pairs):.2f} where all are there "
        f"at once; tokens computed: {ours:,} instead of {theirs:,} ({theirs / ours:.2f} times)"
    )
    seconds = [(1 / pair.ours.throughput, 1 / pair.theirs.throughput) for pair in pairs]
    return Measured(seconds, check, kernel_names(model))


@row("serving/paging", against="one contiguous piece for each request's prompt and budget")
def paging() -> Measured:
    """Slots that are reserved and hold nothing, of all reserved, over six workloads' steps."""
    model, text = _fast()
    shares = []
    for seed in range(6):
        asked = workload(text, seed=seed)
        engine = Engine(model, blocks=_BLOCKS, rows=_ROWS, share=False)
        record, size = serve(engine, asked, one_each), engine.pool.blocks.size
        running = [
            (len(blocks) * size, len(asked[number].prompt) + asked[number].more, length)
            for moment in record.moments
            for number, (blocks, length) in moment.tables.items()
        ]
        in_blocks, contiguous, used = map(sum, zip(*running, strict=True))
        shares.append((1 - used / in_blocks, 1 - used / contiguous))
    ours, theirs = (median(side) for side in zip(*shares, strict=True))
    check = f"{ours:.1%} of the slots in blocks are unused, {theirs:.1%} of the contiguous ones"
    return Measured(shares, check, kernel_names(model), "ratio of unused shares")


@row("serving/prefix", against="each request reading all of its prompt")
def prefix() -> Measured:
    """20 requests that share an opening of 300 tokens, up to their first tokens."""
    model, text = _fast()
    opening, tails = tuple(text[:_OPENING]), text[_OPENING:]
    asked = [Asked(0, (*opening, *tails[10 * i :][:10]), 1) for i in range(_SHARING)]

    def run(share: bool) -> Record:
        return serve(Engine(model, blocks=2 * _BLOCKS, rows=_SHARING, share=share), asked)

    pairs = _in_turn(partial(run, True), partial(run, False))
    read = [
        sum(sum(m.prefill.values()) for m in r.moments) for r in (pairs[0].ours, pairs[0].theirs)
    ]
    check = f"{_equal_texts(pairs)}; {read[0]:,} tokens read instead of {read[1]:,}"
    seconds = [(pair.ours.end / _SHARING, pair.theirs.end / _SHARING) for pair in pairs]
    return Measured(seconds, check, kernel_names(model))


@row("serving/chunks", against=f"a prompt of {_NEWCOMER} tokens read in one step")
def chunks() -> Measured:
    """The longest gap between two tokens of those who write when a long prompt arrives."""
    model, text = _fast()
    writers = [Asked(0, tuple(text[100 * i :][:4]), 60) for i in range(4)]
    asked = [*writers, Asked(1e-9, tuple(text[-_NEWCOMER:]), 10)]  # behind the first step

    def run(budget: int) -> Record:
        return serve(Engine(model, blocks=_BLOCKS, budget=budget), asked)

    pairs = _in_turn(partial(run, 32), partial(run, 1024))
    cost = 1 - median(pair.ours.throughput / pair.theirs.throughput for pair in pairs)
    check = f"{_equal_texts(pairs)}; chunks of 32 cost {cost:.0%} of the throughput"
    seconds = [(_longest_gap(pair.ours), _longest_gap(pair.theirs)) for pair in pairs]
    return Measured(seconds, check, kernel_names(model), "ratio of longest gaps")


@row("serving/invariance", against=f"F.linear, a step of {_ROWS} rows")
def invariance() -> Measured:
    """What kernels with independent rows take for a step of decoding, 64 tokens cached."""
    plain, _ = load(_MODEL)
    ours, theirs = optimized(plain, ONE_CALL), optimized(plain, "F.linear")
    with torch.inference_mode():
        runs = interleave([(_step(ours, _ROWS), _step(theirs, _ROWS))] * 61)
        pairs = list(tqdm(runs, total=61, desc="step", **BAR))
        alone = [_step(model, 1)() for model in (ours, theirs)]
    if float((pairs[0].ours - pairs[0].theirs).abs().max()) >= CLOSE:
        raise CheckFailedError("logits differ")
    if not pairs[0].ours[0].equal(alone[0][0]):
        raise CheckFailedError("a row of the batch is not the row alone")
    differ = "differ" if not pairs[0].theirs[0].equal(alone[1][0]) else "are equal too, here"
    check = (
        f"a row's logits alone and in the batch are equal bit for bit; by F.linear they {differ}"
    )
    seconds = [(pair.our_seconds / _ROWS, pair.their_seconds / _ROWS) for pair in pairs]
    return Measured(seconds, check, kernel_names(ours))


def _fast() -> tuple[Transformer, list[int]]:
    """The optimized model, and the tokens of the held-out stories."""
    model, tokenizer = load(_MODEL)
    return optimized(model, ONE_CALL), _tokens(tokenizer)


def _tokens(tokenizer: Tokenizer) -> list[int]:
    return encode(tokenizer, "\n\n".join(stories()))


def _in_turn(
    ours: Callable[[], Record], theirs: Callable[[], Record], count: int = _PAIRS
) -> list[Pair[Record, Record]]:
    runs = interleave([(ours, theirs)] * count, warm_up=1, budget=_SECONDS)
    return list(tqdm(runs, total=count, desc="workloads", **BAR))


def _waits(pairs: Sequence[Pair[Record, Record]]) -> float:
    return median(pair.ours.ttft_p95 / pair.theirs.ttft_p95 for pair in pairs)


def tokens_computed(record: Record) -> tuple[int, int]:
    """Tokens that the model computes for an engine, and for static batches of the same requests."""
    asked = [served.asked for served in record.requests.values()]
    padded = 0
    for first in range(0, len(asked), _ROWS):
        batch = asked[first : first + _ROWS]
        prompt, more = max(len(one.prompt) for one in batch), max(one.more for one in batch)
        padded += len(batch) * (prompt + more - 1)
    return sum(sum(moment.step.reads.values()) for moment in record.moments), padded


def _equal_texts(pairs: Sequence[Pair[Record, Record]]) -> str:
    """Say that both sides wrote the same.

    Raises:
        CheckFailedError: they did not.
    """
    for pair in pairs:
        for number, served in pair.ours.requests.items():
            if served.tokens != pair.theirs.requests[number].tokens:
                raise CheckFailedError(f"the text of request {number} differs")
    return f"equal tokens in {len(pairs[0].ours.requests)} texts"


def _longest_gap(record: Record) -> float:
    """Of those who wrote before the last request came."""
    *writers, _ = record.requests.values()
    return max(served.longest_gap for served in writers)


def _step(model: Transformer, rows: int) -> Callable[[], Tensor]:
    """The logits behind one more token in each row; the first row's text is always the same."""
    generator = torch.Generator().manual_seed(0)
    text = torch.randint(model.config.vocab_size, (_ROWS, 65), generator=generator)[:rows]
    cache = KVCache(model.config, rows, 65)
    model.hidden(text[:, :64], cache)

    def run() -> Tensor:
        cache.truncate([64] * rows)
        return model.head(model.hidden(text[:, 64:], cache)[:, -1])

    return run
