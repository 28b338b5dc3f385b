"""Lookahead decoding: the plain text from any pool, and each pass as the mask says."""

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from math import ceil
from typing import Any
from unittest.mock import patch

import oracles
import pytest
import torch

import minillm
from minillm import GREEDY, Sampler, Transformer
from minillm.bench import parallel
from minillm.bench.rows import measure
from minillm.data.heldout import bench_prompts
from minillm.jacobi import GUESSES, decode_jacobi
from minillm.lookahead import decode as lookahead
from minillm.lookahead.decode import decode_lookahead
from minillm.lookahead.mask import lookahead_layout
from minillm.lookahead.verification import agree
from minillm.lookahead.window import Window

Tiny = Callable[..., Transformer]
SEEDS = range(6)
STOP = oracles.STOP
SAMPLERS = [GREEDY, Sampler(), Sampler(0.7, top_k=6), Sampler(1.5, top_p=0.8)]


def _lookahead(**setting: Any) -> Callable[..., Iterator[Any]]:
    return lambda *args, **options: decode_lookahead(*args, **setting, **options)


# Tiny random models, any pool


POOLS = ["its own", "empty", "garbage", "adversarial", "perfect"]
PROMPTS = [[5], [1, 2, 3, 4, 1, 2], [3] * 56]
BUDGET = 14


def pool_like(kind: str, N: int, texts: list[list[int]]) -> Any:
    """A pool class: without guesses, of random ones, nearly right or right about these texts."""
    if kind == "its own":
        return minillm.lookahead.pool.NGramPool
    right = [text[i : i + N] for text in texts for i in range(len(text) - N + 1)]
    grams = {
        "empty": [],
        "garbage": oracles.tokens_of(N, 200, N).tolist(),
        "adversarial": [
            [*gram[:place], (gram[place] + 1) % 31, *gram[place + 1 :]]
            for gram in right
            for place in range(1, N)
        ],
        "perfect": right,
    }
    return oracles.pool_of(minillm, grams[kind], learns=kind == "perfect")


@pytest.fixture(scope="module")
def plain() -> dict[Sampler, list[list[int]]]:
    """The plain texts of `PROMPTS`, by the sampler."""
    model = oracles.tiny(minillm, num_hidden_layers=1)
    return {
        sampler: minillm.collect(
            minillm.decode_cached(
                model,
                PROMPTS,
                max_new_tokens=BUDGET,
                sampler=sampler,
                generators=minillm.generators(0, 3),
            )
        )
        for sampler in SAMPLERS
    }


def _grid() -> Iterator[Any]:
    """All of W up to 8, N up to 6, G up to 8, with all pools; quick, half of them with one."""
    for index, (W, N, G) in enumerate(product(range(1, 9), range(2, 7), range(1, 9))):
        for number, kind in enumerate(POOLS):
            quick = (W + G) % 2 == 0 and (index // 2 + W) % 5 == number
            marks = () if quick else pytest.mark.slow
            yield pytest.param(W, N, G, kind, id=f"{W}-{N}-{G}-{kind}", marks=marks)


@pytest.mark.parametrize(("W", "N", "G", "kind"), list(_grid()))
def test_the_text_is_the_plain_one(
    plain: dict[Sampler, list[list[int]]], W: int, N: int, G: int, kind: str
) -> None:
    """Greedy and sampled, ragged rows, budget and context."""
    model = oracles.tiny(minillm, num_hidden_layers=1)
    sampler = SAMPLERS[(W + N + G) % 4]
    whole = [prompt + text for prompt, text in zip(PROMPTS, plain[sampler], strict=True)]
    with patch.object(lookahead, "NGramPool", pool_like(kind, N, whole)):
        steps = list(
            decode_lookahead(
                model,
                PROMPTS,
                W=W,
                N=N,
                G=G,
                max_new_tokens=BUDGET,
                sampler=sampler,
                generators=minillm.generators(0, 3),
            )
        )
    assert minillm.collect(iter(steps)) == plain[sampler]
    rows = [row for step in steps for row in step.rows if row.tokens]
    assert all(len(row.guesses) <= G for row in rows)
    if kind == "empty":
        assert all(row.guesses == () for row in rows)
        assert len(steps) == BUDGET


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("sampled", [False, True])
def test_tokens_logits_and_passes(seed: int, sampled: bool) -> None:
    sampler = SAMPLERS[1 + seed % 3] if sampled else GREEDY
    W, N, G = ((5, 4, 5), (1, 2, 1), (2, 5, 3), (7, 3, 2), (1, 8, 1), (3, 6, 6))[seed]
    guess = list(GUESSES.values())[seed % 4]
    oracles.parallel_agrees(minillm, seed, _lookahead(W=W, N=N, G=G, guess=guess), sampler)


@pytest.mark.parametrize("seed", SEEDS)
def test_each_pass_is_that_of_the_naive_reference(seed: int) -> None:
    settings = [(1 + seed, 2 + seed % 5, 1 + seed % 3)]
    oracles.parallel_by_hand(minillm, seed, jacobi=(), look=settings)


@pytest.mark.parametrize("sampler", SAMPLERS[:2], ids=str)
def test_a_row_of_a_batch_equals_the_row_alone(tiny: Tiny, sampler: Sampler) -> None:
    prompts = [oracles.tokens_of(i, n).tolist() for i, n in enumerate((7, 1, 12, 4))]
    options: dict[str, Any] = {"max_new_tokens": 30, "stop": [3, 11], "sampler": sampler}
    together, apart = minillm.generators(1, 4), minillm.generators(1, 4)
    steps = list(decode_lookahead(tiny(), prompts, generators=together, **options))
    for b, prompt in enumerate(prompts):
        alone = list(decode_lookahead(tiny(), [prompt], generators=[apart[b]], **options))
        rows = [step.rows[b] for step in steps if step.rows[b].tokens]
        for row, step in zip(rows, alone, strict=True):
            [single] = step.rows
            for field in ("tokens", "ended", "window", "chosen", "guesses", "best", "accepted"):
                assert getattr(row, field) == getattr(single, field)
        assert torch.equal(together[b].get_state(), apart[b].get_state())
    assert len({len(text) for text in minillm.collect(iter(steps))}) > 1


@pytest.mark.parametrize(
    "setting", [(1, 2, 1), (3, 2, 4), (2, 3, 2), (5, 4, 5), (1, 6, 3)], ids=str
)
def test_caches_hold_what_a_prefill_would(setting: tuple[int, int, int]) -> None:
    W, N, G = setting
    for seed in (1, 2):
        oracles.parallel_caches(minillm, seed, _lookahead(W=W, N=N, G=G))


@pytest.mark.parametrize("seed", SEEDS[:2])
def test_a_perfect_pool_gives_n_tokens_a_pass(seed: int) -> None:
    oracles.a_perfect_pool(minillm, seed)


# Who sees whom


def test_the_mask_cell_by_cell() -> None:
    oracles.lookahead_mask(minillm)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_token_of_a_pass_is_the_last_of_a_plain_text(seed: int) -> None:
    oracles.paths_of_a_pass(minillm, seed)


def test_a_pass_of_one_column_and_one_of_only_guesses() -> None:
    layout = lookahead_layout((1,), 2, 2)
    assert layout.mask.int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 0, 0, 1, 0],
        [1, 0, 0, 1, 1],
    ]
    assert layout.offset.tolist() == [0, 1, 2, 1, 2]


# Window


@pytest.mark.parametrize("W", range(1, 7))
@pytest.mark.parametrize("N", range(2, 7))
def test_the_window_grows_to_its_size_and_keeps_it(W: int, N: int) -> None:
    window, finished = Window(list(range(W + N - 3)), N), list[int]()
    sizes = list[list[int]]()
    for _ in range(N + 2):
        lines = window.read(99)
        sizes.append(list(map(len, lines)))
        finished.append(len(window.advance(lines, [7] * len(lines[-1]))))
    assert finished == [0] * (N - 2) + [W] * 4
    assert [len(lines) for lines in sizes] == [*range(1, N), *[N - 1] * 3]
    assert all(len(set(lines)) == 1 for lines in sizes)
    assert sizes[N - 2] == [W] * (N - 1)
    assert max(map(sum, sizes)) == Window.most(W, N)


def test_the_newest_token_takes_the_place_of_what_was_foreseen() -> None:
    window = Window([2, 3, 4], N=3)
    assert window.read(1) == [[1, 2, 3, 4]]
    assert window.advance(window.read(1), [12, 13, 14, 15]) == []
    assert window.read(50) == [[50, 3, 4], [13, 14, 15]]
    assert window.advance(window.read(50), [24, 25, 26]) == [
        [50, 13, 24],
        [3, 14, 25],
        [4, 15, 26],
    ]


@pytest.mark.parametrize("W", [2, 5, 9])
@pytest.mark.parametrize("guess", GUESSES)
def test_with_n_2_the_window_iterates_as_jacobi_does(tiny: Tiny, W: int, guess: str) -> None:
    """Place by place of the text, as far as a block of W reaches."""
    model, prompt, start = tiny(), [1, 2, 3, 1, 2], GUESSES[guess]

    def same(text: Any, size: int, vocabulary: int) -> list[int]:
        return start(text, W, vocabulary)[:size]  # however long the line is

    block = list(decode_jacobi(model, [prompt], block=W, guess=same, max_new_tokens=W))
    options: dict[str, Any] = {"W": W, "N": 2, "G": 1, "guess": same, "max_new_tokens": 30}
    with patch.object(lookahead, "NGramPool", oracles.pool_of(minillm, [], learns=False)):
        window = list(decode_lookahead(model, [prompt], **options))
    settled = list[int]()
    for number, (step, other) in enumerate(zip(block, window, strict=False)):
        [row], [looked] = step.rows, other.rows
        before, after = [*settled, *row.before], [*settled, *row.after]  # behind the prompt
        settled += row.tokens
        assert list(looked.window[0][1 : W - number]) == before[number : W - 1]
        assert list(looked.chosen[: W - number]) == after[number:]


# Guesses of every kind


def knowing(answers: list[list[int]], right: int) -> Any:
    """A pool class that foresees `right` tokens of texts whose tokens are all different."""

    class Pool(minillm.lookahead.pool.NGramPool):
        def guesses(self, token: int) -> list[tuple[int, ...]]:
            [answer] = [answer for answer in answers if token in answer]
            follows = answer[answer.index(token) + 1 :][:right]
            known = [*follows, *[29] * self.n][: self.n - 1]
            return [(29,) * (self.n - 1), tuple(known), (28,) * (self.n - 1)]

    return Pool


@pytest.mark.parametrize("N", range(2, 6))
@pytest.mark.parametrize("stop", [(), (STOP,)], ids=["no stop", "stop"])
def test_a_stop_token_ends_a_row_at_any_place_of_a_guess(N: int, stop: tuple[int, ...]) -> None:
    """And so does the budget; whatever part of the guess is right."""
    prompts = [[20, 5, 25], [10]]
    for right, end, budget in product(range(N), range(9), (9, 4)):
        answers = [list(range(1, 10)), list(range(11, 20))]
        answers[0][end] = STOP
        known = [[prompts[b][-1], *answers[b]] for b in (0, 1)]
        model = oracles.Placed(minillm, prompts, answers)
        with patch.object(lookahead, "NGramPool", knowing(known, right)):
            steps = list(
                decode_lookahead(model, prompts, W=3, N=N, G=3, max_new_tokens=budget, stop=stop)
            )
        expected = [answer[:budget] for answer in answers]
        expected[0] = expected[0][: end + 1] if stop else expected[0]
        assert minillm.collect(iter(steps)) == expected
        for row in (row for step in steps for row in step.rows):
            assert len(row.tokens) <= right + 1
            assert row.ended or len(row.tokens) == row.accepted + 1
        assert len(steps) == ceil(budget / (right + 1))


def test_the_guess_that_goes_furthest_is_taken_and_the_first_of_equals() -> None:
    guesses = [(5, 6, 7), (5, 6, 8), (5, 9, 9)]
    #          behind the newest: 5; then behind each token of each guess
    assert agree(guesses, [5, 6, 7, 1, 6, 7, 2, 6, 7, 3]) == (0, [5, 6, 7, 1], [0, 1, 2, 3])
    assert agree(guesses, [5, 6, 8, 1, 6, 8, 2, 6, 8, 3]) == (1, [5, 6, 8, 2], [0, 4, 5, 6])
    assert agree(guesses, [5, 6, 9, 1, 6, 9, 2, 6, 9, 3]) == (0, [5, 6, 9], [0, 1, 2])
    assert agree(guesses, [5, 1, 6, 7, 1, 6, 7, 1, 6, 7]) == (0, [5, 1], [0, 1])
    assert agree(guesses, [4, 6, 7, 1, 6, 8, 2, 9, 9, 3]) == (None, [4], [0])
    assert agree([], [4]) == (None, [4], [0])


def test_a_choice_behind_a_wrong_token_counts_for_nothing() -> None:
    assert agree([(1, 2, 3)], [1, 9, 3, 4]) == (0, [1, 9], [0, 1])
    assert agree([(1, 2, 3)], [9, 2, 3, 4]) == (None, [9], [0])


# Sampling


@pytest.mark.parametrize("known", ["its own", "nothing", "everything", "one n-gram"])
@pytest.mark.parametrize(("W", "N", "G"), [(1, 2, 3), (3, 3, 9), (2, 4, 27)])
def test_the_law_is_the_targets(W: int, N: int, G: int, known: str) -> None:
    grams = {
        "nothing": [],
        "everything": list(product(range(3), repeat=N)),
        "one n-gram": [(0, 1, 2, 0)[:N]],
    }
    pool = minillm.lookahead.pool.NGramPool
    if known in grams:
        pool = oracles.pool_of(minillm, grams[known], learns=False)
    with patch.object(lookahead, "NGramPool", pool):
        oracles.parallel_law(minillm, decode=_lookahead(W=W, N=N, G=G))


# Ends and arguments


@pytest.mark.parametrize(("W", "N", "G"), [(5, 4, 5), (1, 8, 1), (8, 2, 1)])
@pytest.mark.parametrize("budget", [1, 2, 61, 1000])
def test_budget_and_context_end_a_row(tiny: Tiny, W: int, N: int, G: int, budget: int) -> None:
    """The window may look beyond the context of 64; nothing of that is ever committed."""
    prompts = [[1, 2], [3] * 63, [4] * 58]
    plain = minillm.collect(minillm.decode_cached(tiny(), prompts, max_new_tokens=budget))
    found = minillm.collect(decode_lookahead(tiny(), prompts, W=W, N=N, G=G, max_new_tokens=budget))
    assert found == plain
    assert [len(text) for text in found] == [min(budget, 64 - len(p)) for p in prompts]


def test_a_narrow_window_has_room_while_it_grows(tiny: Tiny) -> None:
    """With W = 1 the window is largest half way: more than (W + G)(N - 1) tokens."""
    prompts = [[1] * 63, [2, 3]]
    plain = minillm.collect(minillm.decode_cached(tiny(), prompts, max_new_tokens=30))
    for N in (8, 12, 20):
        steps = list(decode_lookahead(tiny(), prompts, W=1, N=N, G=1, max_new_tokens=30))
        assert minillm.collect(iter(steps)) == plain
        assert max(step.computed for step in steps[1:]) // 2 > 2 * (N - 1)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"W": 0}, "W must be at least 1, got 0"),
        ({"G": 0}, "G must be at least 1, got 0"),
        ({"N": 1}, "N must be at least 2, got 1"),
        ({"guess": lambda text, size, vocabulary: [1]}, "a guess must be 6 tokens, got"),
        ({"prompts": []}, "at least one prompt"),
        ({"prompts": [[1], []]}, "at least one token"),
        ({"prompts": [[1] * 64]}, "leaves no room in the context of 64"),
        ({"prompts": [[31]]}, "from 0 to 30"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
        ({"sampler": Sampler()}, "1 rows need a generator each, got 0"),
    ],
    ids=lambda value: value if isinstance(value, str) else ", ".join(value),
)
def test_bad_arguments_are_refused_at_the_call(
    tiny: Tiny, changed: dict[str, Any], named: str
) -> None:
    arguments: dict[str, Any] = {"prompts": [[1]], "max_new_tokens": 3} | changed
    with pytest.raises(ValueError, match=named):
        decode_lookahead(tiny(), **arguments)


@pytest.mark.parametrize("name", ["W", "N", "G"])
def test_any_whole_number_is_a_setting_and_nothing_else(tiny: Tiny, name: str) -> None:
    """Called without the check of annotations, as readers call it."""
    decode: Any = partial(inspect.unwrap(decode_lookahead), tiny(), [[1]], max_new_tokens=9)
    assert minillm.collect(decode(**{name: torch.tensor(3)})) == minillm.collect(decode())
    with pytest.raises(ValueError, match=f"{name} must be a whole number, got 2.5"):
        decode(**{name: 2.5})


@pytest.mark.parametrize("sampler", SAMPLERS[:2], ids=str)
def test_a_model_that_answers_nan_is_refused(tiny: Tiny, sampler: Sampler) -> None:
    model = tiny()
    model.norm.weight[0] = torch.nan
    seeds = minillm.generators(0, 1)
    with pytest.raises(ValueError, match="logits must be finite"):
        next(decode_lookahead(model, [[1]], max_new_tokens=3, sampler=sampler, generators=seeds))


# The shipped model


QUICK = [(1, 2, 2), (2, 3, 2), (1, 4, 3)]  # short passes
THOROUGH = [(3, 3, 3), (5, 4, 5), (7, 5, 7)]


@pytest.mark.slow
class TestShipped:
    """On held-out openings; exact in float64, in float32 up to near ties."""

    @pytest.mark.parametrize(
        ("name", "count", "settings"),
        [
            ("stories-draft", 5, QUICK),
            ("stories", 20, THOROUGH),
        ],
    )
    def test_the_text_is_the_plain_one(
        self, name: str, count: int, settings: list[tuple[int, int, int]]
    ) -> None:
        decoders = [partial(decode_lookahead, W=W, N=N, G=G) for W, N, G in settings]
        oracles.same_texts_in_float64(minillm, name, decoders, count)

    def test_on_the_optimized_model_texts_are_equal_up_to_ties(self) -> None:
        oracles.same_texts_in_float32(minillm, partial(decode_lookahead, W=3, N=3, G=3))


# The bench


@pytest.mark.parametrize("name", ["jacobi/greedy", "lookahead/greedy", "lookahead/compression"])
def test_the_rows_of_the_bench_check_their_texts(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """On a few short texts, whose times are not judged."""
    monkeypatch.setattr(parallel, "bench_prompts", lambda: bench_prompts()[:4])
    monkeypatch.setattr(parallel, "_NEW_TOKENS", 6)
    monkeypatch.setattr(parallel, "_FIRST", 5)
    monkeypatch.setattr(parallel, "_REPEATS", 1)
    found = measure(name)
    assert "of 2 texts" in found.check
    assert "tokens a pass; " in found.check
    assert "distinct 4-grams; " in found.check
    assert found.pairs == 6  # two in a run, which are too few: measured three times
    if name == "lookahead/compression":
        assert found.their_ms == 1
        assert found.our_ms <= 1
        assert found.unit == "tokens a forward pass; the times count a pass as 1 ms"
