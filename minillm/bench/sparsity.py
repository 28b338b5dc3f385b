"""Bench rows of lesson 09: skipping what shut gates multiply, alone and under speculation.

Both sides run the same optimized loop, greedy; only their MLPs differ. No text ends at a stop
token. The notes say what the MLPs read, what is left of the gain as the batch grows, and what
speculation gains on the same prompts, where every verification reads a batch of guesses.
"""

from collections.abc import Sequence
from functools import partial
from statistics import median

from tqdm import tqdm

from minillm.bench.greedy import BAR, equal_tokens, scored
from minillm.bench.rows import Measured, row
from minillm.checkpoint import load
from minillm.data.heldout import bench_prompts, openings
from minillm.decoding import Step, decode_cached
from minillm.fast.draft import Int8Draft
from minillm.fast.model import kernel_names, optimized
from minillm.fast.skipping_model import skipping
from minillm.measure.timing import Pair, interleave
from minillm.sparsity.skipping import mlp_bytes
from minillm.speculative.decode import decode_speculative
from minillm.speculative.drafters import Drafter
from minillm.tokens import encode
from minillm.transformer import Transformer

__all__ = ["decode", "speculate"]

_NEW_TOKENS = 96
_BATCHES = (2, 8, 32, 128)
_BATCH_TOKENS = 8  # new ones of each row
_ROUNDS = 5  # of each batch
_GAMMA = 4

Prompts = Sequence[Sequence[int]]
Texts = Pair[list[Step], list[Step]]


@row("sparsity/decode", against="the optimized cached loop")
def decode() -> Measured:
    """Batch 1; the note adds larger batches."""
    skips, dense, prompts, more = _start()
    runs = [(partial(_one, skips, prompt), partial(_one, dense, prompt)) for prompt in prompts]
    pairs = list(tqdm(interleave(runs), total=len(runs), desc="texts", **BAR))
    read, dense_read = mlp_bytes(skips)
    larger = ", ".join(f"{N}: {_batch(skips, dense, more[:N]):.2f}" for N in _BATCHES)
    check = (
        f"{_same(pairs)}; {read / dense_read:.0%} of the MLPs' bytes read; ratio at batch {larger}"
    )
    return Measured(_seconds(pairs), check, kernel_names(skips))


@row("sparsity/speculative", against="the same speculation without skipping")
def speculate() -> Measured:
    """Guesses of the shipped draft, verified with and without skipping; and each trick alone."""
    skips, dense, prompts, _ = _start()
    drafter = Int8Draft(load("stories-draft")[0])
    runs = [
        (partial(run, skips, prompt), partial(run, dense, prompt))
        for prompt in prompts
        for run in (partial(_guess, drafter), _one)
    ]
    pairs = list(tqdm(interleave(runs), total=len(runs), desc="texts", **BAR))
    guessed, plain = pairs[::2], pairs[1::2]
    gains = {
        "skipping": [alone.their_seconds / alone.our_seconds for alone in plain],
        "speculation": _over(plain, [pair.their_seconds for pair in guessed]),
        "both": _over(plain, [pair.our_seconds for pair in guessed]),
    }
    against_plain = ", ".join(f"{name} {median(ratios):.2f}" for name, ratios in gains.items())
    check = f"{_same(guessed)}; {_GAMMA} guesses a round; against the plain loop {against_plain}"
    return Measured(_seconds(guessed), check, kernel_names(skips))


def _over(plain: Sequence[Texts], seconds: Sequence[float]) -> list[float]:
    """How many times as fast as the plain loop without skipping."""
    return [pair.their_seconds / ours for pair, ours in zip(plain, seconds, strict=True)]


def _start() -> tuple[Transformer, Transformer, Prompts, Prompts]:
    """The target with and without skipping, the prompts, and more of them for batches."""
    model, tokenizer = load("stories")
    prompts = [encode(tokenizer, prompt) for prompt in bench_prompts()]
    return skipping(model), optimized(model), prompts, openings(tokenizer, max(_BATCHES))


def _one(model: Transformer, prompt: Sequence[int]) -> list[Step]:
    return list(decode_cached(model, [prompt], max_new_tokens=_NEW_TOKENS))


def _guess(drafter: Drafter, model: Transformer, prompt: Sequence[int]) -> list[Step]:
    return list(
        decode_speculative(
            model, [prompt], drafter=drafter, gamma=_GAMMA, max_new_tokens=_NEW_TOKENS
        )
    )


def _batch(skips: Transformer, dense: Transformer, prompts: Prompts) -> float:
    """The ratio for so many prompts at once, the reading of the prompts left out."""

    def run(model: Transformer) -> float:
        _, *steps = decode_cached(model, prompts, max_new_tokens=_BATCH_TOKENS)
        return sum(step.seconds for step in steps)

    pairs = interleave([(partial(run, skips), partial(run, dense))] * _ROUNDS, warm_up=1)
    return median(pair.theirs / pair.ours for pair in pairs)


def _seconds(pairs: Sequence[Texts]) -> list[tuple[float, float]]:
    return [(p.our_seconds / _NEW_TOKENS, p.their_seconds / _NEW_TOKENS) for p in pairs]


def _same(pairs: Sequence[Texts]) -> str:
    """That both sides wrote the same."""
    ours, theirs = (
        list(map(scored, side))
        for side in ([pair.ours for pair in pairs], [pair.theirs for pair in pairs])
    )
    return equal_tokens(ours, [[token for token, _ in text] for text in theirs])
