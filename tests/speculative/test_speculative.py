"""Guess and verify: its law enumerated, its tokens against naive references, its ends, its bugs."""

import inspect
import random
import re
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache, partial
from itertools import pairwise, product
from operator import attrgetter
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import oracles
import pytest
import torch
from oracles import Counting, Guessing, Scripted, Watching, close, tiny_pair, tokens_of

import minillm
from minillm import GREEDY, KVCache, Sampler, Transformer, collect, decode_cached, generators
from minillm.batch import Batch
from minillm.data.heldout import openings
from minillm.fast.model import optimized
from minillm.speculative.bug_gallery import GALLERY, ORDER, Bug, Patch, patched
from minillm.speculative.decode import SpeculativeStep, decode_speculative
from minillm.speculative.drafters import Drafter, DraftModel, Proposal, early_exit
from minillm.speculative.exactness import (
    first_token_law,
    joint_law,
    proposal_law,
    text_law,
    toy_draft,
    toy_target,
)
from minillm.speculative.prompt_lookup import PromptLookup
from minillm.speculative.verification import residual, verify
from minillm.speedup.formulas import AdaptiveGamma
from widgets.common.meter.exactness import compare

SEEDS = range(4)
ADAPTIVE = AdaptiveGamma(0.1, (1.0, 1.02, 1.04, 1.06, 1.08))

each_gamma = pytest.mark.parametrize("gamma", [1, 2, 3])


def fractions(table: Sequence[Sequence[int]]) -> Callable[[tuple[int, ...]], list[Fraction]]:
    """Laws behind texts of sum 0, 1, 2 (modulo 3), from weights."""
    return lambda text: [Fraction(n, sum(row)) for row in [table[sum(text) % 3]] for n in row]


# The law of `verify`


THIRDS = fractions([(1, 1, 1), (3, 2, 1), (1, 0, 5)]), fractions([(1, 2, 3), (1, 1, 1), (0, 1, 2)])


@each_gamma
def test_a_round_has_the_targets_law(gamma: int) -> None:
    oracles.verified_law(minillm, gamma)


@pytest.mark.parametrize(
    ("p", "q"),
    [
        (toy_target, toy_target),
        (toy_draft, toy_target),
        (fractions([(1, 1, 0)] * 3), fractions([(0, 0, 1)] * 3)),
        (fractions([(0, 1, 0)] * 3), fractions([(1, 2, 1)] * 3)),
        THIRDS,
    ],
    ids=["equal", "swapped", "disjoint", "certain target", "thirds"],
)
def test_whatever_the_draft_believes(p: Any, q: Any) -> None:
    assert joint_law(verify, p, q, 1) == text_law(p, 2)


@pytest.mark.parametrize("seed", range(12))
def test_random_laws_in_quarters(seed: int) -> None:
    choose = random.Random(seed).choice
    splits = [row for row in product(range(5), repeat=3) if sum(row) == 4]
    p, q = (fractions([choose(splits) for _ in range(3)]) for _ in range(2))
    assert joint_law(verify, p, q, 2) == text_law(p, 3)


def random_laws(seed: int, V: int, sampler: Sampler) -> tuple[torch.Tensor, torch.Tensor]:
    logits = torch.randn(3, V, generator=torch.Generator().manual_seed(seed)) * 2
    logits[2] += logits[0]
    laws = sampler.probabilities(logits)
    return laws[:2], laws[2:]


@pytest.mark.parametrize("sampler", [Sampler(), Sampler(0.7, top_k=9), Sampler(top_p=0.8), GREEDY])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_first_token_has_the_targets_law(seed: int, sampler: Sampler) -> None:
    p, q = random_laws(seed, 40, sampler)
    assert (first_token_law(verify, p, q) - p[0]).abs().max() < 1e-14


def test_the_law_that_is_found_is_the_verifiers_own() -> None:
    """Without any verification the law is q; without acceptance, the residual."""
    p, q = random_laws(0, 40, Sampler())
    assert close(first_token_law(lambda p, q, x, u: (1, 0), p, q), q[0])

    def never(p: Any, q: Any, x: Any, u: Any) -> tuple[int, int]:
        return 0, int(minillm.sampling.pick(residual(p[0], q[0]), u[-1]))

    assert close(first_token_law(never, p, q), residual(p[0], q[0]))


def test_the_law_of_guesses_drawn_from_something_else() -> None:
    """An argmax draft: the meter's figure is that of the formula."""
    p, q = random_laws(1, 40, Sampler())
    x = int(q.argmax())
    drawn = torch.nn.functional.one_hot(q[0].argmax(), 40).double()
    kept = min(1.0, float(p[0, x] / q[0, x]))
    expected = drawn * kept + (1 - kept) * residual(p[0], q[0])
    assert close(first_token_law(verify, p, q, drawn), expected)
    assert not close(expected, p[0])


def test_text_law_goes_on_behind_a_text() -> None:
    halves = fractions([(1, 1, 0), (0, 0, 1), (1, 0, 0)])
    half = Fraction(1, 2)
    assert text_law(halves, 2) == {(0, 0): half / 2, (0, 1): half / 2, (1, 2): half}
    assert text_law(halves, 0, (1,)) == {(1,): 1}
    assert text_law(halves, 1, (1,)) == {(1, 2): 1}


def test_the_ends_of_a_uniform() -> None:
    oracles.edges_of_u(minillm)


def test_p_equal_to_q_is_never_nan() -> None:
    oracles.no_residual(minillm)
    laws = random_laws(3, 30, Sampler())[0]
    for u in (0.0, 0.5, 1 - 2**-53):
        for x in range(30):
            numbers = torch.full((2,), u, dtype=torch.float64)
            assert verify(laws, laws[:1], torch.tensor([x]), numbers).accepted == 1


# The law of `decode_speculative`


HALVES = fractions([(1, 1, 0), (0, 1, 1), (1, 0, 0)]), fractions([(1, 0, 1), (0, 0, 1), (1, 1, 0)])


def halves(**options: Any) -> None:
    """`decoded_law` of laws so simple that many uniforms can be enumerated."""
    target, draft = (Counting(minillm, oracles.counted(law)) for law in HALVES)
    oracles.decoded_law(minillm, target, DraftModel(draft), wanted=HALVES[0], **options)


@pytest.mark.parametrize("gamma", [1, 2])
def test_decoding_has_the_targets_law(gamma: int) -> None:
    oracles.decoded_law(minillm, gamma=gamma)


def test_decoding_with_three_guesses_has_the_targets_law() -> None:
    halves(gamma=3, grids=[(0.25, 0.75)] * 7)


@pytest.mark.parametrize(("gamma", "n", "draws"), [(1, 4, 3 + 3 + 3 + 1), (2, 3, 5 + 3 + 1)])
def test_whole_runs_have_the_targets_law(gamma: int, n: int, draws: int) -> None:
    """Several rounds, with the rollbacks between them."""
    halves(gamma=gamma, grids=[(0.25, 0.75)] * draws, whole=n)


@pytest.mark.parametrize("gamma", [1, 2, 3])
def test_decoding_with_copied_guesses_has_the_targets_law(gamma: int) -> None:
    oracles.copied_law(minillm, gamma)


class Chain:
    """Draws from `toy_draft`, and stops guessing behind a 2."""

    def start(self, target: Any, rows: int, capacity: int) -> "Chain":
        return self

    def propose(self, texts: Any, counts: Any, sampler: Any, u: Any) -> list[Proposal]:
        proposals = []
        for text, count, numbers in zip(texts, counts, u, strict=True):
            guesses: list[int] = []
            laws = torch.zeros(0, 3, dtype=torch.float64)
            while len(guesses) < count and guesses[-1:] != [2]:
                law = torch.tensor([*map(float, toy_draft((*text, *guesses)))], dtype=torch.float64)
                guesses.append(int(minillm.sampling.pick(law, numbers[len(guesses)])))
                laws = torch.cat((laws, law[None]))
            proposals.append(Proposal(tuple(guesses), laws))
        return proposals

    def settle(self, texts: Any) -> None: ...


@pytest.mark.parametrize("gamma", [1, 2])
def test_decoding_with_fewer_guesses_than_asked_for(gamma: int) -> None:
    oracles.decoded_law(minillm, None, Chain(), gamma=gamma)


@pytest.mark.parametrize("shape", [{"top_k": 2}, {"top_p": 0.8}], ids=str)
@pytest.mark.parametrize("gamma", [1, 2])
def test_top_k_and_top_p_shape_both_sides(shape: dict[str, float], gamma: int) -> None:
    oracles.shaped_law(minillm, gamma, **shape)


def test_temperature_shapes_both_sides() -> None:
    """Weights squared at temperature 1/2; those of the draft are other roots of its law."""
    target, draft = (
        Counting(minillm, [[x**0.5 for x in row] for row in oracles.counted(law)])
        for law in (toy_target, toy_draft)
    )
    oracles.decoded_law(minillm, target, DraftModel(draft), gamma=2, sampler=Sampler(0.5))


@pytest.mark.parametrize("sampler", [Sampler(), Sampler(0.6, top_k=2), Sampler(top_p=0.7)], ids=str)
@pytest.mark.parametrize("seed", SEEDS)
def test_early_exit_has_the_targets_law(seed: int, sampler: Sampler) -> None:
    """A real model over three tokens: two tokens' law, by its own distributions, to 1e-12."""
    model = oracles.tiny(minillm, seed=seed, vocab_size=3)
    draft, prompt = early_exit(model, 1), [0, 2, 1]

    def law(which: Transformer, *text: int) -> list[float]:
        logits = which(torch.tensor([[*prompt, *text]]))[0, -1]
        return sampler.probabilities(logits).tolist()

    def cells(cuts: Sequence[float]) -> list[tuple[float, float]]:
        edges = [0.0, *sorted(x for x in cuts if 0 < x < 1), 1.0]
        return [((a + b) / 2, b - a) for a, b in pairwise(edges)]

    def sums(law: Sequence[float]) -> list[float]:
        return [sum(law[: i + 1]) / sum(law) for i in range(3)] if any(law) else []

    p, q = law(model), law(draft)
    rest = [max(a - b, 0) for a, b in zip(p, q, strict=True)]
    ratios = [a / b for a, b in zip(p, q, strict=True) if b]
    behind = [x for token in range(3) for x in sums(law(model, token))]
    grid = list(product(cells(sums(q)), cells(ratios), cells([*sums(p), *sums(rest), *behind])))
    script = [[u for u, _ in row] for row in grid]

    def uniforms(batch: Batch, b: int, count: int) -> torch.Tensor:
        return torch.tensor(script[b][:count], dtype=torch.float64)

    with patch.object(Batch, "uniforms", uniforms):
        first = next(
            decode_speculative(
                model,
                [prompt] * len(grid),
                drafter=DraftModel(draft),
                gamma=1,
                max_new_tokens=5,
                sampler=sampler,
                generators=generators(0, 1) * len(grid),
            )
        )
    found = defaultdict[tuple[int, ...], float](float)
    for row, numbers in zip(first.rows, grid, strict=True):
        weight = numbers[0][1] * numbers[1][1] * numbers[2][1]
        for token, chance in enumerate(law(model, *row.tokens)) if len(row.tokens) == 1 else ():
            found[*row.tokens, token] += weight * chance
        if len(row.tokens) == 2:
            found[row.tokens] += weight
    for x, y in product(range(3), repeat=2):
        assert found[x, y] == pytest.approx(p[x] * law(model, x)[y], abs=1e-12)


def test_a_draft_draws_from_what_it_claims() -> None:
    oracles.drawn_law(minillm)
    drawn, q = proposal_law(PromptLookup(), oracles.tiny_config(minillm), [1, 2, 1], Sampler())
    assert drawn.tolist() == q.tolist() == [0.0, 0.0, 1.0] + [0.0] * 28
    with pytest.raises(ValueError, match=r"no guess behind \[1, 2, 3\]"):
        proposal_law(PromptLookup(), oracles.tiny_config(minillm), [1, 2, 3], Sampler())


# The bug gallery


NOTICED_BY = {
    "residual = p": "verified_law",
    "argmax draft, softmax q": "drawn_law",
    "one uniform for all positions": "verified_law",
    "bonus after a rejection": "verified_law",
    "the target's own sample, accepted by ratio": "verified_law",
    "cache not rewound": "caches_of_rounds",
    "past a stop token": "ends_in_blocks",
}


@pytest.mark.parametrize("bug", GALLERY, ids=str)
def test_each_bug_of_the_gallery_is_noticed(bug: Bug) -> None:
    with pytest.raises(AssertionError):
        getattr(oracles, NOTICED_BY[bug.name])(patched(bug))


@pytest.mark.parametrize("bug", GALLERY, ids=str)
def test_a_buggy_decoder_still_writes(bug: Bug) -> None:
    """None crashes, which would be too easy to find; all write text of the right length."""
    lib = patched(bug)
    target, draft = tiny_pair(minillm)
    run = lib.decode_speculative(
        target,
        [[1, 2, 3]],
        drafter=lib.DraftModel(draft),
        max_new_tokens=30,
        sampler=Sampler(),
        generators=generators(0, 1),
    )
    assert len(collect(run)[0]) == 30


def test_what_each_bug_does_to_the_law() -> None:
    """Figures that the lesson tells: the first token's law, and the law of two."""
    by_name = {bug.name: patched(bug) for bug in GALLERY}
    p, q = (torch.tensor(rows).double() for rows in ([[0.7, 0.3], [0.5, 0.5]], [[0.5, 0.5]]))
    biased = ["residual = p", "the target's own sample, accepted by ratio"]
    for name in biased:  # (.64, .36), as algorithms.md has it of SpeculatoViz
        law = first_token_law(by_name[name].verify, p, q)
        assert law.tolist() == pytest.approx([0.64, 0.36])
    pair = by_name["one uniform for all positions"].verify
    assert close(first_token_law(pair, p, q), p[0])  # right, token by token
    assert joint_law(pair, toy_target, toy_draft, 1) == text_law(toy_target, 2)
    assert joint_law(pair, toy_target, toy_draft, 2) != text_law(toy_target, 3)


def test_a_patch_leaves_no_trace() -> None:
    names = [
        f"minillm.{name}"
        for name in (
            "batch",
            *(f"speculative.{each}" for each in ("verification", "drafters", "decode")),
        )
    ]
    before = {name: (sys.modules[name], dict(vars(sys.modules[name]))) for name in names}
    for bug in GALLERY:
        module = attrgetter(bug.module)(patched(bug))
        assert module is not sys.modules[module.__name__]
    for name, (module, contents) in before.items():
        assert sys.modules[name] is module
        assert vars(module) == contents


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("no such text", "", "must hold the text to replace once, it has it 0 times"),
        ("accepted", "", "must hold the text to replace once"),
        ("import torch\n", "import torch\nraise KeyError\n", None),
    ],
)
def test_a_patch_that_does_not_fit(old: str, new: str, error: str | None) -> None:
    with pytest.raises(ValueError if error else KeyError, match=error):
        patched(Patch("misfit", "speculative.verification", old, new))
    assert sys.modules["minillm.speculative.verification"].verify is verify


# Tokens, against naive references


@pytest.mark.parametrize("seed", range(16))
def test_rounds_are_those_of_the_naive_reference(seed: int) -> None:
    oracles.speculates_by_hand(minillm, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(16, 100))
def test_rounds_are_those_of_the_naive_reference_at_length(seed: int) -> None:
    oracles.speculates_by_hand(minillm, seed)


@pytest.mark.parametrize("gamma", range(1, 9))
def test_greedy_equals_plain_greedy(gamma: int) -> None:
    oracles.speculates_greedily(minillm, gamma, [gamma])


def drafters(target: Transformer, draft: Transformer) -> dict[str, Drafter]:
    return {
        "draft": DraftModel(draft),
        "lookup": PromptLookup(),
        "early exit": DraftModel(early_exit(target, len(target.blocks) - 1)),
    }


SETTINGS = [("draft", 4), ("lookup", 3), ("early exit", 2)]


@pytest.fixture(scope="module")
def target() -> Transformer:
    return minillm.load("stories", dtype=torch.float64)[0]


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    return openings(minillm.load("stories")[1])


@pytest.fixture(scope="module")
def plain(target: Transformer, prompts: list[list[int]]) -> Callable[[int, int], list[list[int]]]:
    """The target's own texts of twenty prompts from the given one on."""

    @cache
    def texts(first: int, count: int) -> list[list[int]]:
        return collect(decode_cached(target, prompts[first : first + count], max_new_tokens=64))

    return texts


@pytest.fixture(scope="module")
def fast_pair() -> list[Transformer]:
    return [optimized(minillm.load(name)[0]) for name in ("stories", "stories-draft")]


@pytest.mark.slow
class TestShipped:
    """The shipped pair on held-out openings; exact in float64, in float32 up to near ties."""

    @pytest.mark.parametrize(("first", "count"), [(n, 5) for n in range(0, 200, 50)])
    @pytest.mark.parametrize(("name", "gamma"), SETTINGS)
    def test_greedy_equals_plain_greedy(
        self,
        target: Transformer,
        draft: Transformer,
        prompts: list[list[int]],
        plain: Callable[[int, int], list[list[int]]],
        first: int,
        count: int,
        name: str,
        gamma: int,
    ) -> None:
        drafter = drafters(target, draft)[name]
        rows = prompts[first : first + count]
        steps = list(
            decode_speculative(target, rows, drafter=drafter, gamma=gamma, max_new_tokens=64)
        )
        assert collect(iter(steps)) == plain(first, count)
        assert sum(row.accepted for step in steps for row in step.rows) > 5 * count

    @pytest.mark.parametrize(("name", "gamma"), SETTINGS)
    def test_on_fast_kernels_up_to_near_ties(
        self, fast_pair: list[Transformer], prompts: list[list[int]], name: str, gamma: int
    ) -> None:
        target, draft = fast_pair
        rows = prompts[::40]
        fast = decode_speculative(
            target, rows, drafter=drafters(target, draft)[name], gamma=gamma, max_new_tokens=64
        )
        verdict = compare(decode_cached(target, rows, max_new_tokens=64), fast)
        assert verdict.grade in ("identical", "rounding"), verdict
        assert (verdict.margin or 0) < 1e-4

    def test_one_rounds_law_is_the_targets(
        self, target: Transformer, draft: Transformer, prompts: list[list[int]]
    ) -> None:
        for sampler in (Sampler(), Sampler(0.8, top_p=0.9)):
            q = sampler.probabilities(draft(torch.tensor(prompts[:1]))[:, -1])
            text = torch.tensor([[*prompts[0], int(q.argmax())]])
            p = sampler.probabilities(target(text)[0, -2:])
            assert (first_token_law(verify, p, q) - p[0]).abs().max() < 1e-12

    def test_sampled_rows_equal_their_single_runs(
        self, target: Transformer, draft: Transformer, prompts: list[list[int]]
    ) -> None:
        rows_equal_their_single_runs(target, DraftModel(draft), prompts[::70], 4, Sampler())


# Rows of a batch


def rows_equal_their_single_runs(
    target: Transformer,
    drafter: Drafter,
    prompts: list[list[int]],
    gamma: int | AdaptiveGamma,
    sampler: Sampler,
) -> None:
    def run(rows: list[list[int]], seed: int) -> list[list[tuple[Any, ...]]]:
        steps = list(
            decode_speculative(
                target,
                rows,
                drafter=drafter,
                gamma=gamma,
                max_new_tokens=20,
                sampler=sampler,
                generators=generators(seed, len(rows)),
                stop=(3, 11, 17),
            )
        )
        by_row = zip(*(step.rows for step in steps), strict=True)
        return [[(x.tokens, x.guesses, x.accepted) for x in row if x.tokens] for row in by_row]

    together = run(prompts, 5)
    assert together == [run([prompt], 5 + b)[0] for b, prompt in enumerate(prompts)]
    assert len({len(rounds) for rounds in together}) > 1  # they did fall out of step


@pytest.mark.parametrize("temperature", [0, 1.0])
@pytest.mark.parametrize("gamma", [1, 4, ADAPTIVE], ids=["1", "4", "adaptive"])
@pytest.mark.parametrize("name", ["draft", "lookup", "early exit"])
def test_a_row_of_a_batch_equals_its_single_run(name: str, gamma: Any, temperature: float) -> None:
    target, draft = tiny_pair(minillm, 2)
    prompts = [tokens_of(i, n).tolist() * 2 for i, n in enumerate((7, 1, 12))]
    drafter = drafters(target, draft)[name]
    rows_equal_their_single_runs(target, drafter, prompts, gamma, Sampler(temperature))


# Ends


def test_ends_at_any_place_of_a_block() -> None:
    oracles.ends_in_blocks(minillm)


@pytest.mark.parametrize("right", range(6))
def test_every_number_of_accepted_guesses(right: int) -> None:
    """Rounds of scripted guesses: so many accepted, the next one replaced, or a bonus."""
    prompts, answers = [[1, 2]], [list(range(1, 25))]
    steps = list(
        decode_speculative(
            Scripted(minillm, prompts, answers),
            prompts,
            drafter=Guessing(minillm, prompts, answers, right, wrong=29),
            gamma=5,
            max_new_tokens=24,
        )
    )
    assert collect(iter(steps)) == answers
    assert len(steps) == -(-24 // (right + 1))
    for step in steps[:-1]:
        row = step.rows[0]
        assert (row.accepted, len(row.tokens)) == (right, right + 1)
        assert row.judged == min(right + 1, len(row.guesses))


@pytest.mark.parametrize("gamma", [1, 3, 8])
@pytest.mark.parametrize("name", ["draft", "lookup", "early exit"])
def test_the_end_of_the_context(name: str, gamma: int) -> None:
    """Prompts up to the last place of a context of 64, beside one with room."""
    target, draft = tiny_pair(minillm, 1)
    prompts = [(tokens_of(i, 32).tolist() * 2)[:n] for i, n in enumerate((63, 62, 44, 60, 56))]
    plain = collect(decode_cached(target, prompts, max_new_tokens=100))
    assert [len(text) for text in plain] == [1, 2, 20, 4, 8]
    for rows in ([0, 1, 2, 3, 4], [0], [1], [4]):
        steps = decode_speculative(
            target,
            [prompts[b] for b in rows],
            drafter=drafters(target, draft)[name],
            gamma=gamma,
            max_new_tokens=100,
        )
        assert collect(steps) == [plain[b] for b in rows]


@pytest.mark.parametrize("name", ["draft", "lookup", "early exit"])
def test_fast_kernels_to_the_end_of_the_context(name: str) -> None:
    """In float32, ragged rows: the plain loop's tokens, up to near ties."""
    target, draft = (optimized(model.float()) for model in tiny_pair(minillm, 3))
    prompts = [(tokens_of(i, 32).tolist() * 2)[:n] for i, n in enumerate((63, 40, 5, 61, 1))]
    fast = decode_speculative(
        target, prompts, drafter=drafters(target, draft)[name], gamma=6, max_new_tokens=100
    )
    verdict = compare(decode_cached(target, prompts, max_new_tokens=100), fast)
    assert verdict.grade in ("identical", "rounding"), verdict
    assert (verdict.margin or 0) < 1e-4


# Caches and records


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_caches_equal_a_fresh_prefill_after_every_round(seed: int, temperature: float) -> None:
    oracles.caches_of_rounds(minillm, seed, temperature)


@pytest.mark.parametrize("sampler", [GREEDY, Sampler(0.8, top_p=0.9)], ids=str)
def test_a_round_can_be_replayed_from_its_record(sampler: Sampler) -> None:
    target, draft = tiny_pair(minillm)
    texts = [[1, 2, 3], [4]]
    steps = decode_speculative(
        target,
        texts,
        drafter=DraftModel(draft),
        gamma=3,
        max_new_tokens=20,
        sampler=sampler,
        generators=generators(1, 2),
        stop=(5, 6),
    )
    texts, forwards = [list(text) for text in texts], 0
    for forwards, step in enumerate(steps, 1):
        assert isinstance(step, SpeculativeStep)
        assert step.forwards == forwards
        assert min(step.draft_seconds, step.verify_seconds) >= 0
        assert step.draft_seconds + step.verify_seconds <= step.seconds
        for text, row in zip(texts, step.rows, strict=True):
            gamma = len(row.guesses)
            if not row.tokens:
                assert row.ended
                assert (gamma, row.accepted, row.judged, row.p.shape, row.u.shape) == (
                    *(0, 0, 0),
                    (0, 31),
                    (0,),
                )
                continue
            assert (row.q.shape, row.p.shape, row.u.shape) == (
                (gamma, 31),
                (gamma + 1, 31),
                (gamma + 1,),
            )
            for i in range(gamma + 1):
                read = torch.tensor([text + list(row.guesses[:i])])
                assert close(row.p[i], sampler.probabilities(target(read)[0, -1]))
                if i < len(row.tokens):
                    assert close(row.logits[i], target(read)[0, -1])
                if i < gamma:
                    assert close(row.q[i], sampler.probabilities(draft(read)[0, -1]))
            accepted, token = verify(row.p, row.q, torch.tensor(row.guesses).long(), row.u)
            assert accepted == row.accepted
            assert (*row.guesses[:accepted], token)[: len(row.tokens)] == row.tokens
            text += row.tokens
    assert forwards > 3


# Special drafts


def test_a_perfect_draft_is_always_accepted() -> None:
    oracles.a_perfect_draft(minillm)


def test_a_draft_that_is_always_wrong_costs_nothing_but_time() -> None:
    """Disjoint supports: a token a round, drawn from the residual, which is p."""
    target = Counting(minillm, [(1, 1, 0)] * 3)
    steps = list(
        decode_speculative(
            target,
            [[0]],
            drafter=DraftModel(Counting(minillm, [(0, 0, 1)] * 3)),
            gamma=3,
            max_new_tokens=12,
            sampler=Sampler(),
            generators=generators(0, 1),
        )
    )
    assert len(steps) == 12
    for step in steps:
        [row] = step.rows
        assert (row.accepted, len(row.tokens)) == (0, 1)
        for p, q in zip(row.p, row.q, strict=False):
            assert torch.equal(residual(p, q), p)


@pytest.mark.parametrize("sampler", [GREEDY, Sampler()], ids=["greedy", "sampled"])
def test_a_draft_that_answers_nan(sampler: Sampler) -> None:
    """A warning; the target goes on alone, and each token is still drawn from its law."""
    target, draft = tiny_pair(minillm)
    draft.norm.weight[0] = torch.nan
    with pytest.warns(UserWarning, match="draft's logits are not finite"):
        steps = list(
            decode_speculative(
                target,
                [[1, 2], [3]],
                drafter=DraftModel(draft),
                max_new_tokens=8,
                sampler=sampler,
                generators=generators(0, 2),
            )
        )
    assert len(steps) == 8
    texts = [[1, 2], [3]]
    for step in steps:
        for text, row in zip(texts, step.rows, strict=True):
            assert row.guesses == ()
            law = sampler.probabilities(target(torch.tensor([text]))[0, -1])
            assert row.tokens == (int(minillm.sampling.pick(law, row.u[-1])),)
            text += row.tokens


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("sampler", [GREEDY, Sampler(2.0)], ids=["greedy", "sampled"])
def test_a_ban_reaches_draft_and_target(sampler: Sampler) -> None:
    pair = tiny_pair(minillm)
    for model in pair:
        model.head.register_forward_hook(
            lambda head, given, logits: logits.index_fill(-1, torch.arange(25), -torch.inf)
        )
    options: Any = {"max_new_tokens": 20, "sampler": sampler, "generators": generators(0, 1)}
    steps = list(decode_speculative(pair[0], [[1]], drafter=DraftModel(pair[1]), **options))
    assert all(token >= 25 for step in steps for token in step.rows[0].tokens)
    assert any(step.rows[0].guesses for step in steps)


@pytest.mark.parametrize("sampler", [GREEDY, Sampler(2.0)], ids=["greedy", "sampled"])
def test_a_draft_that_answers_nan_behind_some_tokens(sampler: Sampler) -> None:
    """It guesses up to there; the rows beside it guess on."""
    target, draft = tiny_pair(minillm, tie_word_embeddings=False)
    draft.embed.weight[7:20] = torch.nan
    prompts, limits = [[1, 2], [3], [8, 1]], {"gamma": 4, "max_new_tokens": 30}

    def run(rows: list[list[int]], seed: int) -> list[list[int]]:
        options: Any = limits | {"sampler": sampler, "generators": generators(seed, len(rows))}
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            return collect(decode_speculative(target, rows, drafter=DraftModel(draft), **options))

    together = run(prompts, 0)
    assert together == [run([prompt], b)[0] for b, prompt in enumerate(prompts)]
    if sampler == GREEDY:
        assert together == collect(decode_cached(target, prompts, max_new_tokens=30))


# Acceptance


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("sampler", [Sampler(), Sampler(0.7, top_p=0.9)], ids=str)
def test_acceptance_is_the_overlap_of_p_and_q(seed: int, sampler: Sampler) -> None:
    """Of the guesses that were judged, sum min(p, q) is accepted, but for chance."""
    target, draft = tiny_pair(minillm, seed)
    steps = decode_speculative(
        target,
        [[1, 2, 3]] * 6,
        drafter=DraftModel(draft),
        gamma=4,
        max_new_tokens=60,
        sampler=sampler,
        generators=generators(100 * seed, 6),
    )
    chances = torch.tensor([])
    accepted = 0
    for step in steps:
        for row in step.rows:
            overlap = torch.minimum(row.p[: row.judged], row.q[: row.judged]).sum(-1)
            chances = torch.cat((chances, overlap))
            accepted += row.accepted
    noise = float((chances * (1 - chances)).sum()) ** 0.5
    assert len(chances) > 200
    assert 0.2 < float(chances.mean()) < 0.98
    assert abs(accepted - float(chances.sum())) < 3 * noise


# Arguments


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"gamma": 0}, "gamma must be at least 1, got 0"),
        ({"gamma": -2}, "gamma must be at least 1, got -2"),
        ({"prompts": []}, "at least one prompt"),
        ({"prompts": [[1], []]}, "at least one token"),
        ({"prompts": [[1] * 64]}, "a prompt of 64 tokens leaves no room in the context of 64"),
        ({"prompts": [[31]]}, "from 0 to 30"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, got 0"),
        ({"sampler": Sampler()}, "1 rows need a generator each, got 0"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused_at_the_call(changed: dict[str, Any], named: str) -> None:
    model = oracles.tiny(minillm)
    arguments: Any = {"prompts": [[1]], "max_new_tokens": 3, "drafter": DraftModel(model)} | changed
    with pytest.raises(ValueError, match=named):
        decode_speculative(model, **arguments)  # and not at the first next()


def test_any_whole_number_is_a_gamma_and_nothing_else() -> None:
    """Called without the check of annotations, as readers call it."""
    prompts, answers = [[1, 2]], [list(range(1, 9))]
    decode: Any = partial(
        inspect.unwrap(decode_speculative),
        Scripted(minillm, prompts, answers),
        prompts,
        drafter=Guessing(minillm, prompts, answers, right=9, wrong=0),
        max_new_tokens=8,
    )
    for gamma in (np.int64(3), torch.tensor(3)):
        steps = decode(gamma=gamma)
        assert [step.rows[0].guesses for step in steps] == [(1, 2, 3), (5, 6, 7)]
    for wrong in (2.5, "3", None):
        with pytest.raises(ValueError, match="gamma must be a whole number"):
            decode(gamma=wrong)


@pytest.mark.parametrize(
    ("sizes", "named"),
    [
        ({"vocab_size": 30}, "must share a vocabulary, they have 31 and 30 tokens"),
        ({"max_position_embeddings": 63}, "63 tokens is shorter than the target's of 64"),
    ],
    ids=str,
)
def test_a_draft_that_does_not_fit_is_refused(sizes: dict[str, int], named: str) -> None:
    draft = DraftModel(oracles.tiny(minillm, **sizes))
    with pytest.raises(ValueError, match=named):
        decode_speculative(oracles.tiny(minillm), [[1]], drafter=draft, max_new_tokens=3)


def test_a_draft_of_another_shape_and_a_longer_context() -> None:
    target = oracles.tiny(minillm)
    draft = oracles.tiny(minillm, seed=1, max_position_embeddings=80, num_hidden_layers=1)
    prompts = [tokens_of(0, 60).tolist(), [1]]
    plain = collect(decode_cached(target, prompts, max_new_tokens=30))
    steps = decode_speculative(
        target, prompts, drafter=DraftModel(draft), gamma=6, max_new_tokens=30
    )
    assert collect(steps) == plain


def test_a_drafter_that_guesses_too_much_is_refused() -> None:
    class Eager(Guessing):
        def propose(self, texts: Any, counts: Any, sampler: Any, u: Any) -> list[Proposal]:
            return super().propose(texts, [count + 1 for count in counts], sampler, u)

    prompts, answers = [[1, 2]], [list(range(1, 9))]
    drafter = Eager(minillm, prompts, answers, right=9, wrong=0)
    target = Scripted(minillm, prompts, answers)
    steps = decode_speculative(target, prompts, drafter=drafter, gamma=2, max_new_tokens=8)
    with pytest.raises(ValueError, match=r"may make \[2\] guesses, it made \[3\]"):
        next(steps)


def test_a_proposal_checks_itself() -> None:
    with pytest.raises(ValueError, match="2 guesses, but 1 rows of q"):
        Proposal((1, 2), torch.zeros(1, 31))


def test_copies_are_made_in_the_order_of_imports() -> None:
    """A module stands on those before it only, so that a copy never runs the patched one's twin."""

    def needed(name: str) -> set[str]:
        source = (Path(minillm.__file__).parent / f"{name.replace('.', '/')}.py").read_text("utf-8")
        return set(re.findall(r"^from minillm\.([\w.]+) import", source, re.MULTILINE))

    alone = {"files", "kept", "measure.noise", "measure.timing", "whole"}
    assert set().union(*map(needed, alone)) <= alone
    for i, stem in enumerate(ORDER):
        assert needed(stem) <= {*ORDER[:i], *alone}


def test_a_target_that_answers_nan_is_refused() -> None:
    target, draft = tiny_pair(minillm)
    target.norm.weight[0] = torch.nan
    steps = decode_speculative(target, [[1]], drafter=DraftModel(draft), max_new_tokens=3)
    with pytest.raises(ValueError, match="logits must be finite"):
        next(steps)


def test_the_cache_has_room_for_the_guesses_and_no_more() -> None:
    target, draft = map(Watching, tiny_pair(minillm))
    drafter = DraftModel(draft)
    collect(decode_speculative(target, [[1, 2]], drafter=drafter, gamma=5, max_new_tokens=9))
    for model in (target, draft):
        assert isinstance(model.cache, KVCache)
        assert model.cache.capacity == 2 + 9 + 5
