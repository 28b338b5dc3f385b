"""A bench row of the machine itself: what decoding loses beside other work."""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tqdm import tqdm

from minillm.bench.greedy import BAR
from minillm.bench.rows import CheckFailedError, Measured, row
from minillm.checkpoint import load
from minillm.data.heldout import bench_prompts
from minillm.decoding import Step, collect, decode_cached
from minillm.fast.linear import kernel_names
from minillm.fast.model import optimized
from minillm.measure.timing import interleave
from minillm.tokens import encode

__all__ = ["beside_others", "others_busy"]

_MODEL = "stories"
_NEW_TOKENS = 48
_OTHERS = 2
_PAIRS = 9
_STARTED = 0.3  # seconds until a fresh Python is busy


@contextmanager
def others_busy(count: int) -> Iterator[None]:
    """Within the block, as many other processes keep a core busy each."""
    spin = [sys.executable, "-P", "-c", "while True: pass"]
    others = [subprocess.Popen(spin) for _ in range(count)]
    try:
        time.sleep(_STARTED)
        yield
    finally:
        for process in others:
            process.kill()
        for process in others:
            process.wait()


@row("machine/busy", against="the same without company")
def beside_others() -> Measured:
    """Decoding beside two busy processes; the ratio is what is left of its speed."""
    model, tokenizer = load(_MODEL)
    fast, prompt = optimized(model), encode(tokenizer, bench_prompts()[0])

    def alone() -> list[Step]:
        return list(decode_cached(fast, [prompt], max_new_tokens=_NEW_TOKENS))

    def beside() -> list[Step]:
        with others_busy(_OTHERS):
            return alone()

    runs = interleave([(beside, alone)] * _PAIRS)
    pairs = list(tqdm(runs, total=_PAIRS, desc="texts", **BAR))
    if any(collect(iter(pair.ours)) != collect(iter(pair.theirs)) for pair in pairs):
        raise CheckFailedError("the texts differ")
    return Measured(
        [(_a_token(pair.ours), _a_token(pair.theirs)) for pair in pairs],
        check=f"the same {_NEW_TOKENS} tokens",
        kernel=kernel_names(fast),
    )


def _a_token(steps: Sequence[Step]) -> float:
    """Seconds of a step, the prefill apart."""
    return sum(step.seconds for step in steps[1:]) / (len(steps) - 1)
