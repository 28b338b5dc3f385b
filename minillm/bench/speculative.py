"""Bench rows of lessons 04 and 05: guess and verify against the plain loop, both optimized.

The number of guesses is chosen on the even prompts; every figure is of the odd ones. What the even
ones show of acceptance and cost also predicts the ratio, so that the theory is tested as well.
"""

import time
from collections.abc import Callable
from functools import partial
from statistics import mean, median
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from tqdm import tqdm

from minillm.bench.greedy import BAR, equal_tokens, scored
from minillm.bench.peer import peer
from minillm.bench.rows import CheckFailedError, Measured, row
from minillm.checkpoint import load
from minillm.data.heldout import bench_prompts
from minillm.decoding import Step, decode_cached, generators
from minillm.fast.draft import Int8Draft
from minillm.fast.model import kernel_names, optimized
from minillm.kv_cache import KVCache
from minillm.measure.repetition import distinct
from minillm.measure.timing import Pair, interleave
from minillm.sampling import GREEDY, Sampler
from minillm.speculative.decode import SpeculativeStep, decode_speculative
from minillm.speculative.drafters import Drafter, DraftModel, early_exit
from minillm.speculative.prompt_lookup import PromptLookup
from minillm.speedup.acceptance import acceptance_by_position
from minillm.speedup.formulas import expected_tokens
from minillm.tokens import encode

__all__ = [
    "assisted",
    "draft_greedy",
    "draft_sampled",
    "draft_step",
    "exit_early",
    "look_up",
]

_NEW_TOKENS = 128
_GAMMAS = range(1, 9)
_REPEATS = 3  # runs of each prompt


@row("speculative/greedy", against="the optimized cached loop")
def draft_greedy() -> Measured:
    """Guesses of the shipped draft, at temperature 0."""
    return _against_cached(Int8Draft(load("stories-draft")[0]), GREEDY)


@row("speculative/temperature-1", against="the optimized cached loop")
def draft_sampled() -> Measured:
    """Guesses of the shipped draft, at temperature 1: the texts differ, their law does not."""
    return _against_cached(Int8Draft(load("stories-draft")[0]), Sampler())


@row("speculative/prompt-lookup", against="the optimized cached loop")
def look_up() -> Measured:
    """Guesses copied from the text, at temperature 0."""
    return _against_cached(PromptLookup(), GREEDY)


@row("speculative/early-exit", against="the optimized cached loop")
def exit_early() -> Measured:
    """Guesses of the target's own first layer, at temperature 0."""
    return _against_cached(DraftModel(early_exit(optimized(load("stories")[0]), 1)), GREEDY)


@row("speculative/draft-step", against="a step of the target")
def draft_step() -> Measured:
    """A token of the draft, which costs c of a token of the target; the ratio is 1 / c."""
    target, drafter = optimized(load("stories")[0]), Int8Draft(load("stories-draft")[0])
    step, tokens = drafter.step, torch.arange(_NEW_TOKENS)
    ours, theirs = (KVCache(model.config, 1, _NEW_TOKENS) for model in (drafter.twin, target))

    @torch.inference_mode()
    def small() -> list[Tensor]:
        ours.truncate([0])
        return [step(token, ours) for token in range(_NEW_TOKENS)]

    @torch.inference_mode()
    def large() -> list[Tensor]:
        theirs.truncate([0])
        return [target(token, theirs) for token in tokens.view(-1, 1, 1)]

    small(), large()
    pairs = list(interleave([(small, large)] * 9))
    with torch.inference_mode():
        pass_of_all = drafter.twin(tokens[None], KVCache(drafter.twin.config, 1, _NEW_TOKENS))[0]
    if not torch.stack(pairs[-1].ours).equal(pass_of_all):
        raise CheckFailedError("the draft's logits are not those of a pass over all tokens")
    seconds = [(p.our_seconds / _NEW_TOKENS, p.their_seconds / _NEW_TOKENS) for p in pairs]
    c = median(small / large for small, large in seconds)
    return Measured(seconds, f"c = {c:.3f}; the same logits as in one pass", "one call")


@row("speculative/transformers", against="its own plain generate")
def assisted() -> Measured:
    """The peer: transformers' assisted generation on the same two folders, at temperature 0."""
    known, measured = _halves(load("stories")[1])
    with peer("stories", "stories-draft") as other:

        def guess(prompt: list[int], gamma: int) -> list[int]:
            return other.assisted(prompt, _NEW_TOKENS, gamma)

        gamma = _fastest(guess, known)
        runs = [
            (partial(guess, prompt, gamma), partial(other.greedy, prompt, _NEW_TOKENS))
            for prompt in measured
        ]
        pairs = list(tqdm(interleave(runs), total=len(runs), desc="texts", **BAR))
    equal = sum(pair.ours == pair.theirs for pair in pairs)
    check = f"equal tokens in {equal} of {len(pairs)} texts; {gamma} guesses a round"
    seconds = [(p.our_seconds / _NEW_TOKENS, p.their_seconds / _NEW_TOKENS) for p in pairs]
    return Measured(seconds, check, "transformers on both sides")


def _against_cached(drafter: Drafter, sampler: Sampler) -> Measured:
    """Choose and predict on one half of the prompts, measure on the other."""
    model, tokenizer = load("stories")
    target = optimized(model)
    options: dict[str, Any] = {"max_new_tokens": _NEW_TOKENS, "sampler": sampler}

    def plain(prompt: list[int]) -> list[Step]:
        return list(decode_cached(target, [prompt], generators=generators(0, 1), **options))

    def guess(prompt: list[int], gamma: int) -> list[SpeculativeStep]:
        more: dict[str, Any] = {"drafter": drafter, "gamma": gamma, "generators": generators(0, 1)}
        return list(decode_speculative(target, [prompt], **more, **options))

    known, measured = _halves(tokenizer)
    gamma = _fastest(guess, known)
    predicted = _predicted([plain(prompt) for prompt in known], [guess(p, gamma) for p in known])
    runs = [
        (partial(guess, prompt, gamma), partial(plain, prompt))
        for prompt in measured
        for _ in range(_REPEATS)
    ]
    pairs = list(tqdm(interleave(runs), total=len(runs), desc="texts", **BAR))
    check = f"{_same(sampler, pairs)}; {gamma} guesses a round; {predicted}"
    seconds = [(p.our_seconds / _NEW_TOKENS, p.their_seconds / _NEW_TOKENS) for p in pairs]
    return Measured(seconds, check, kernel_names(target))


def _halves(tokenizer: Tokenizer) -> tuple[list[list[int]], list[list[int]]]:
    """The prompts to choose and predict with, and those to measure."""
    prompts = [encode(tokenizer, prompt) for prompt in bench_prompts()]
    return prompts[::2], prompts[1::2]


def _fastest(guess: Callable[[list[int], int], Any], prompts: list[list[int]]) -> int:
    """The number of guesses that takes least time on these prompts."""
    seconds = dict.fromkeys(_GAMMAS, 0.0)
    for prompt in tqdm(prompts, desc="choosing", **BAR):
        for gamma in seconds:
            start = time.perf_counter()
            guess(prompt, gamma)
            seconds[gamma] += time.perf_counter() - start
    return min(seconds, key=seconds.__getitem__)


def _predicted(plain: list[list[Step]], rounds: list[list[SpeculativeStep]]) -> str:
    """The ratio that acceptance by position foretells, and the one acceptance of the formula."""
    steps = [step.seconds for text in plain for step in text[1:]]  # without the prefill
    guessed = [step for text in rounds for step in text[1:]]
    rows = [step.rows[0] for step in guessed]
    by_position = acceptance_by_position(guessed)
    alike = sum(row.accepted for row in rows) / max(sum(row.judged for row in rows), 1)
    cost = mean(step.seconds for step in guessed) / mean(steps)
    foretold = expected_tokens(by_position) / cost
    formula = expected_tokens([alike] * len(by_position)) / cost
    return f"predicted {foretold:.2f}, by one acceptance for all positions {formula:.2f}"


def _same(sampler: Sampler, pairs: list[Pair[list[SpeculativeStep], list[Step]]]) -> str:
    """What is equal in both runs, and how much the texts repeat themselves."""
    ours = [scored(run.ours) for run in pairs]
    share = mean(distinct([token for token, _ in text]) for text in ours)
    repeats = f"{share:.0%} distinct 4-grams"
    if sampler != GREEDY:
        return f"same law, other texts (tested by enumeration); {repeats}"
    theirs = [[step.rows[0].tokens[0] for step in run.theirs] for run in pairs]
    return f"{equal_tokens(ours, theirs)}; {repeats}"
