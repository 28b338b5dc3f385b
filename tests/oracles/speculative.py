"""What must be true of speculative decoding: laws enumerated, rounds by hand, caches of rounds."""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import product
from math import ceil
from types import ModuleType
from unittest.mock import patch

import torch
from torch import Tensor

from minillm.speculative.exactness import joint_law, proposal_law, text_law, toy_draft, toy_target
from minillm.speedup.formulas import AdaptiveGamma
from oracles.kv_cache import prefilled
from oracles.models import (
    STOP,
    Counting,
    Guessing,
    Scripted,
    Watching,
    close,
    counted,
    ragged_prompts,
    tiny,
    tiny_pair,
    tokens_of,
)

__all__ = [
    "a_perfect_draft",
    "caches_of_rounds",
    "copied_law",
    "decoded_law",
    "drawn_law",
    "edges_of_u",
    "ends_in_blocks",
    "lookups",
    "no_residual",
    "rounds_by_hand",
    "shaped_law",
    "speculates_by_hand",
    "speculates_greedily",
    "verified_law",
]


def verified_law(lib: ModuleType, gamma: int = 2) -> None:
    """What a round emits has the target's law, over all cells of all uniforms."""
    verify = lib.speculative.verification.verify
    assert joint_law(verify, toy_target, toy_draft, gamma) == text_law(toy_target, gamma + 1)


def no_residual(lib: ModuleType) -> None:
    """Where p has no more than q anywhere, what is added is drawn from p, and never NaN."""
    for p in ([0.25, 0.5, 0.25], [0.0, 0.0, 1.0], [0.1, 0.2, 0.7]):
        law = torch.tensor(p, dtype=torch.float64)
        assert torch.equal(lib.speculative.verification.residual(law, law), law)
        assert torch.equal(lib.speculative.verification.residual(law, law + 1e-17), law)


def edges_of_u(lib: ModuleType) -> None:
    """At both ends of a uniform: no guess without mass is kept, none with more than q is lost."""
    p, q = (
        torch.tensor(rows, dtype=torch.float64)
        for rows in ([[0.0, 0.7, 0.3], [0.0, 0.0, 1.0]], [[0.6, 0.2, 0.2]])
    )
    for u in (0.0, 1 - 2**-53):
        for guess, kept in enumerate((0, 1, 1)):
            numbers = torch.full((2,), u, dtype=torch.float64)
            accepted, token = lib.speculative.verification.verify(
                p, q, torch.tensor([guess]), numbers
            )
            assert accepted == kept
            assert token == 2 if kept else token > 0


def drawn_law(lib: ModuleType, seed: int = 0) -> None:
    """A draft model's guesses have the law that it says they have."""
    model = tiny(lib, seed=seed)
    for sampler in (lib.Sampler(0.7), lib.Sampler(top_k=5), lib.Sampler(top_p=0.6), lib.GREEDY):
        drawn, q = proposal_law(
            lib.speculative.drafters.DraftModel(model), model.config, [1, 2, 3], sampler
        )
        assert close(drawn, q)
        assert close(q, sampler.probabilities(model(torch.tensor([[1, 2, 3]]))[0, -1]))


def decoded_law(
    lib: ModuleType,
    target=None,
    drafter=None,
    *,
    gamma: int = 1,
    sampler=None,
    prompt: Sequence[int] = (0,),
    grids: Sequence[Sequence[float]] = (),
    wanted: Callable[[tuple[int, ...]], Sequence[Fraction]] = toy_target,
    whole: int | None = None,
) -> None:
    """What `decode_speculative` emits has the target's law, over all cells of all uniforms.

    Every row of one batch is fed the midpoints of other cells: row by row, one of the product of
    `grids`. LookaheadRow at are the first round, and the target's law behind it; or runs of `whole`
    tokens.
    """
    target = target or Counting(lib, counted(toy_target))
    drafter = drafter or lib.speculative.drafters.DraftModel(Counting(lib, counted(toy_draft)))
    quarters = (0.125, 0.375, 0.625, 0.875)
    script = [list(u) for u in product(*(grids or [quarters] * (2 * gamma + 1)))]
    rows, sampler, size = len(script), sampler or lib.Sampler(), whole or gamma + 1

    def uniforms(batch, b: int, count: int) -> Tensor:
        numbers, script[b] = script[b][:count], script[b][count:]
        return torch.tensor(numbers, dtype=torch.float64)

    with patch.object(lib.batch.Batch, "uniforms", uniforms):
        steps = lib.speculative.decode.decode_speculative(
            target,
            [list(prompt)] * rows,
            drafter=drafter,
            gamma=gamma,
            max_new_tokens=whole or 9,
            sampler=sampler,
            generators=lib.generators(0, 1) * rows,
        )
        texts = lib.collect(steps if whole else iter([next(steps)]))
    law: Counter[tuple[int, ...]] = Counter()
    for text, times in Counter(map(tuple, texts)).items():
        for rest, chance in text_law(wanted, size - len(text), text).items():
            law[rest] += times * chance / rows
    assert law == text_law(wanted, size)


def copied_law(lib: ModuleType, gamma: int = 2) -> None:
    """`decoded_law` where the guesses are copied from the text."""
    twelfths = [(i + 0.5) / 12 for i in range(12)]  # a rejected token leaves thirds
    grids = [[0.5]] * gamma + [[0.125, 0.375, 0.625, 0.875]] * gamma + [twelfths]
    lookup, prompt = (
        lib.speculative.prompt_lookup.PromptLookup(),
        (1, 2, 0, 1, 0, 2, 1, 2),
    )  # 0, 1, 0, 2 follow
    decoded_law(lib, None, lookup, gamma=gamma, prompt=prompt, grids=grids)


def shaped_law(lib: ModuleType, gamma: int = 1, **shape: float) -> None:
    """`decoded_law` where top-k or top-p leaves two of three tokens, to target and draft."""
    kept = ((3, 1, 0), (1, 0, 1), (0, 1, 3))  # of the target's weights, in equal parts

    def wanted(text: tuple[int, ...]) -> list[Fraction]:
        weights = kept[sum(text) % 3]
        return [Fraction(n, sum(weights)) for n in weights]

    target = Counting(lib, [(6, 2, 1), (4, 1, 4), (1, 2, 6)])
    draft = lib.speculative.drafters.DraftModel(Counting(lib, [(4, 4, 1), (4, 4, 1), (1, 4, 4)]))
    sampler, quarters = lib.Sampler(**(shape or {"top_k": 2})), [0.125, 0.375, 0.625, 0.875]
    options = {"gamma": gamma, "sampler": sampler, "wanted": wanted}
    decoded_law(lib, target, draft, **options)
    grids = [[0.5]] * gamma + [quarters] * (gamma + 1)
    lookup, prompt = lib.speculative.prompt_lookup.PromptLookup(), (1, 0, 1, 1, 0)
    decoded_law(lib, target, lookup, prompt=prompt, grids=grids, **options)


def _by_model(model, sampler) -> Callable[[list[int], list[int]], list[float] | None]:
    """The law of the token behind text and guesses, by a forward pass over all of them."""
    return lambda text, guesses: sampler.probabilities(
        model(torch.tensor([text + guesses]))[0, -1]
    ).tolist()


def _by_lookup(text: list[int], guesses: list[int]) -> list[float] | None:
    """All mass on what followed the latest earlier occurrence of at most three last tokens."""
    ends = [
        (n, end)
        for n in (1, 2, 3)
        for end in range(n, len(text))
        if text[end - n : end] == text[-n:]
    ]
    if not ends:
        return None
    follows = text[max(ends)[1] :][len(guesses) :]
    return [float(token == follows[0]) for token in range(31)] if follows else None


def _inverse(law: Sequence[float], u: float) -> int:
    """The token at which the sums of the law first exceed u of the whole."""
    below, whole = 0.0, sum(law)
    for token, share in enumerate(law):
        below += share
        if share and below > u * whole:
            return token
    return max(token for token, share in enumerate(law) if share)


def rounds_by_hand(
    lib: ModuleType, model, guess, gamma, prompt, budget, sampler, generator, stop
) -> Iterator[tuple[list[int], int, list[int]]]:
    """Guess and verify for one row, without cache, batch or tensors; the naive reference.

    Of each round: the guesses, how many were accepted, the tokens committed.
    """
    law, text, accepted, judged = _by_model(model, sampler), list(prompt), 0, 0
    limit = min(len(prompt) + budget, model.config.max_position_embeddings)
    while True:
        n = min(gamma(accepted, judged), limit - len(text) - 1)
        u = [0.0] * (2 * n + 1)
        if sampler.temperature > 0:
            u = torch.rand(2 * n + 1, generator=generator, dtype=torch.float64).tolist()
        guesses: list[int] = []
        claims: list[list[float]] = []
        while len(guesses) < n and (q := guess(text, guesses)):
            guesses.append(_inverse(q, u[len(guesses)]))
            claims.append(q)
        new: list[int] = []
        for x, q in zip(guesses, claims, strict=True):
            p = law(text, new)
            if u[n + len(new)] * q[x] >= p[x]:
                rest = [max(a - b, 0) for a, b in zip(p, q, strict=True)]
                new.append(_inverse(rest, u[n + len(guesses)]))
                break
            new.append(x)
        else:
            new.append(_inverse(law(text, new), u[n + len(guesses)]))
        accepted, judged = accepted + len(new) - 1, judged + min(len(new), len(guesses))
        ends = [i for i, x in enumerate(new, 1) if x in stop or len(text) + i == limit]
        yield guesses, len(new) - 1, new[: min(ends, default=len(new))]
        text += new
        if ends:
            return


def speculates_by_hand(lib: ModuleType, seed: int = 0) -> None:
    """Rounds of ragged rows == those of the naive reference, row by row, and their randomness."""
    choose = random.Random(seed).choice
    target, draft = tiny_pair(lib, seed)
    sampler = choose(
        [lib.GREEDY, lib.Sampler(), lib.Sampler(0.7, top_p=0.8), lib.Sampler(1.5, top_k=4)]
    )
    drafter, guess = choose(
        [
            (lib.speculative.drafters.DraftModel(draft), _by_model(draft, sampler)),
            (lib.speculative.drafters.DraftModel(draft), _by_model(draft, sampler)),
            (lib.speculative.prompt_lookup.PromptLookup(), _by_lookup),
            _early_exit(lib, target, sampler),
        ]
    )
    gamma = choose([*range(1, 9), AdaptiveGamma(0.1, (1.0, *[1 + 0.02 * n for n in range(1, 7)]))])
    rule = gamma.choose if isinstance(gamma, AdaptiveGamma) else lambda accepted, judged: gamma
    context = target.config.max_position_embeddings
    lengths = [1, choose(range(1, 20)), choose(range(context - 9, context)), context - 1]
    prompts = [
        (choose([1, 3]) * tokens_of(seed + i, n).tolist())[-n:] for i, n in enumerate(lengths)
    ]
    random.Random(seed).shuffle(prompts)
    budget, stop = choose([1, 2, 5, 12, 30, 100]), choose([(), (3,), (3, 11, 17)])
    together, apart = lib.generators(seed, 4), lib.generators(seed, 4)
    steps = list(
        lib.speculative.decode.decode_speculative(
            target,
            prompts,
            drafter=drafter,
            gamma=gamma,
            max_new_tokens=budget,
            sampler=sampler,
            generators=together,
            stop=stop,
        )
    )
    for b, prompt in enumerate(prompts):
        found = [step.rows[b] for step in steps]
        wanted = list(
            rounds_by_hand(lib, target, guess, rule, prompt, budget, sampler, apart[b], stop)
        )
        live = [(list(r.guesses), r.accepted, list(r.tokens)) for r in found if r.tokens]
        assert live == wanted
        assert [row.ended for row in found] == [i + 1 >= len(wanted) for i in range(len(found))]
        assert torch.equal(together[b].get_state(), apart[b].get_state())


def _early_exit(lib: ModuleType, target, sampler):
    draft = lib.speculative.drafters.early_exit(target, 1)
    return lib.speculative.drafters.DraftModel(draft), _by_model(draft, sampler)


def speculates_greedily(lib: ModuleType, seed: int = 0, gammas: Sequence[int] = (3,)) -> None:
    """Temperature 0: the tokens of `decode_cached`, with each drafter, ragged rows, stops."""
    target, draft = tiny_pair(lib, seed)
    early = lib.speculative.drafters.early_exit(target, 1)
    drafters = [lib.speculative.drafters.DraftModel(m) for m in (draft, early)] + [
        lib.speculative.prompt_lookup.PromptLookup()
    ]
    for budget, stop in ((1, ()), (2, (3, 11)), (12, (3, 11, 17))):
        for prompts in (ragged_prompts(seed), ragged_prompts(seed)[1:2]):
            options = {"max_new_tokens": budget, "stop": stop}
            plain = lib.collect(lib.decode_cached(target, prompts, **options))
            for gamma, drafter in product(gammas, drafters):
                found = lib.collect(
                    lib.speculative.decode.decode_speculative(
                        target, prompts, drafter=drafter, gamma=gamma, **options
                    )
                )
                assert found == plain


def caches_of_rounds(lib: ModuleType, seed: int = 0, temperature: float = 1.0) -> None:
    """After every round both caches hold what a fresh prefill of the text would."""
    target, draft = map(Watching, tiny_pair(lib, seed))
    texts = [list(prompt) for prompt in ragged_prompts(seed)]
    steps = lib.speculative.decode.decode_speculative(
        target,
        texts,
        drafter=lib.speculative.drafters.DraftModel(draft),
        gamma=3,
        max_new_tokens=24,
        sampler=lib.Sampler(temperature),
        generators=lib.generators(seed, len(texts)),
        stop=(3, 11),
    )
    fates: set[int] = set()
    for step in steps:
        held = list(target.cache.lengths), list(draft.cache.lengths)
        for b, (text, row) in enumerate(zip(texts, step.rows, strict=True)):
            text += row.tokens
            assert held[0][b] == step.cached[b] == len(text) - 1
            if row.guesses and not row.ended:
                fates.add(row.accepted)
                whole = row.accepted == len(row.guesses)
                assert held[1][b] == len(text) - (2 if whole else 1)  # the last guess is unread
            for model, lengths in zip((target, draft), held, strict=True):
                n = lengths[b]
                if n:
                    fresh, _ = prefilled(lib, model.model, [text[:n]])
                    for part in ("keys", "values"):
                        cached = getattr(model.cache, part)[:, b, :, :n]
                        assert close(cached, getattr(fresh, part)[:, 0, :, :n])
    assert len(fates) > 2


def ends_in_blocks(lib: ModuleType) -> None:
    """A stop token or the budget ends a row at any place of a block, guessed or added.

    A stop token that is guessed and rejected ends nothing.
    """
    prompts = [[STOP, 5, 6], [STOP]]
    for gamma in (1, 2, 4):
        for right, end, wrong in product(range(gamma + 1), range(9), (29, STOP)):
            answers = [list(range(1, 10)), list(range(11, 20))]
            budget, stopped = (9, STOP) if wrong == 29 else (end + 1, 7)
            answers[0][end] = stopped
            for stop in [(STOP,)] if wrong == STOP else [(), (STOP,)]:
                model = Scripted(lib, prompts, answers)
                steps = list(
                    lib.speculative.decode.decode_speculative(
                        model,
                        prompts,
                        drafter=Guessing(lib, prompts, answers, right, wrong),
                        gamma=gamma,
                        max_new_tokens=budget,
                        stop=stop,
                    )
                )
                expected = [answer[:budget] for answer in answers]
                if stop and stopped == STOP:
                    expected[0] = answers[0][: end + 1]
                assert lib.collect(iter(steps)) == expected
                for step in steps:
                    for row in step.rows:
                        assert row.accepted == min(right, len(row.guesses))
                        assert row.judged == min(right + 1, len(row.guesses))
                        assert len(row.tokens) == len(row.logits) <= row.accepted + 1
                        assert (len(row.tokens) == row.accepted + 1) or row.ended
                assert [step.rows[0].ended for step in steps][-1]


def a_perfect_draft(lib: ModuleType, seed: int = 0) -> None:
    """The target as its own draft: all guesses accepted, ceil(n / (gamma + 1)) passes."""
    for gamma, n, temperature in product((1, 2, 4), (1, 2, 5, 13), (0, 1.0)):
        target = Watching(tiny(lib, seed=seed))
        steps = list(
            lib.speculative.decode.decode_speculative(
                target,
                [[1, 2, 3]],
                drafter=lib.speculative.drafters.DraftModel(target.model),
                gamma=gamma,
                max_new_tokens=n,
                sampler=lib.Sampler(temperature),
                generators=lib.generators(seed, 1),
            )
        )
        assert target.passes == len(steps) == steps[-1].forwards == ceil(n / (gamma + 1))
        assert all(row.accepted == len(row.guesses) for step in steps for row in step.rows)
        assert sum(len(step.rows[0].tokens) for step in steps) == n


def lookups(lib: ModuleType) -> None:
    """What followed the latest earlier occurrence of the longest repeated end of a text."""
    for text, follows in (
        ([1, 2, 3, 9, 2, 3], [9, 2, 3]),
        ([1, 2, 3], []),
        ([5], []),
        ([5, 5], [5]),
        ([5, 5, 5], [5]),
        ([7, 1, 8, 1, 9, 1], [9, 1]),  # the latest of two
        ([1, 2, 3, 7, 3, 8, 1, 2, 3], [7, 3, 8, 1, 2, 3]),  # the longest of two
        ([0, 1, 2, 3, 4, 9, 1, 2, 3, 8, 0, 1, 2, 3], [8, 0, 1, 2, 3]),  # of three at most
    ):
        assert list(lib.speculative.prompt_lookup.lookup(text, 3)) == follows
