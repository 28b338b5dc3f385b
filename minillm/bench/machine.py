"""Bench rows of the machine itself: what decoding loses beside other work, and by waiting."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median

from tqdm import tqdm

from minillm.bench.greedy import BAR
from minillm.bench.rows import CheckFailedError, Measured, row
from minillm.checkpoint import load
from minillm.data.heldout import bench_prompts
from minillm.decoding import Step, collect, decode_cached
from minillm.fast.linear import stock_kernel
from minillm.fast.model import kernel_names, optimized
from minillm.measure.timing import interleave
from minillm.threads import OWN_SETTINGS, thread_settings
from minillm.tokens import encode

__all__ = ["beside_one", "beside_two", "others_busy", "waiting"]

_MODEL = "stories"
_NEW_TOKENS = 48
_PAIRS = 9
_OTHER_SETTINGS = {
    "one thread": {"OMP_NUM_THREADS": "1"},
    "the library's default": {},
    "asleep at once": {"OMP_WAIT_POLICY": "PASSIVE"},
    "10,000 looks": {"GOMP_SPINCOUNT": "10000"},
}
_DECODE = """
from minillm import collect, decode_cached, load
model, _ = load("stories")
for text in range(9):
    steps = list(decode_cached(model, [[1, 2, 3]], max_new_tokens=32))
    print(sum(step.seconds for step in steps[1:]) / 31)
"""
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
def beside_two() -> Measured:
    """Decoding beside two busy processes; the ratio is what is left of its speed."""
    return _beside(2)


@row("machine/busy@1", against="the same without company")
def beside_one() -> Measured:
    """As `machine/busy`, beside one."""
    return _beside(1)


def _beside(others: int) -> Measured:
    model, tokenizer = load(_MODEL)
    fast, prompt = optimized(model), encode(tokenizer, bench_prompts()[0])

    def alone() -> list[Step]:
        return list(decode_cached(fast, [prompt], max_new_tokens=_NEW_TOKENS))

    def beside() -> list[Step]:
        with others_busy(others):
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


@row("machine/waiting", against="the best of four other settings")
def waiting() -> Measured:
    """How torch's threads wait: the readable model in processes of their own, each setting twice.

    The compiled call of the fast twin knows none of these settings.
    """
    settings = {"ours": thread_settings({}), **_OTHER_SETTINGS}
    seconds: dict[str, list[float]] = {name: [] for name in settings}
    order = [*settings, *reversed(settings)]
    for name in tqdm(order, desc="settings", **(BAR | {"unit": "process"})):
        seconds[name] += _decoded_with(settings[name])
    ours = seconds.pop("ours")
    best = min(seconds, key=lambda name: median(seconds[name]))
    said = ", ".join(f"{name}: {1000 * median(times):.1f} ms" for name, times in seconds.items())
    pairs = list(zip(ours, seconds[best], strict=True))
    return Measured(pairs, check=f"the best was {best} ({said})", kernel=stock_kernel())


def _decoded_with(settings: Mapping[str, str]) -> list[float]:
    """Seconds of a token in each of some texts, by a process with these variables alone."""
    inherited = {name: x for name, x in os.environ.items() if name not in OWN_SETTINGS}
    run = [sys.executable, "-P", "-c", _DECODE]
    answer = subprocess.run(run, env={**inherited, **settings}, check=True, capture_output=True)
    return [float(line) for line in answer.stdout.split()]


def _a_token(steps: Sequence[Step]) -> float:
    """Seconds of a step, the prefill apart."""
    return sum(step.seconds for step in steps[1:]) / (len(steps) - 1)
