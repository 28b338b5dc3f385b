"""Jacobi decoding: the plain text from any guess, in no more passes; each pass as it should be."""

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import oracles
import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

import minillm
import minillm.lookahead.decode
from minillm import GREEDY, Sampler, Transformer
from minillm.jacobi import GUESSES, decode_jacobi, initial_guess

Tiny = Callable[..., Transformer]
SEEDS = range(6)
STOP = oracles.STOP
SAMPLERS = [GREEDY, Sampler(), Sampler(0.7, top_k=6), Sampler(1.5, top_p=0.8)]


# Tiny random models


def _texts(
    decode: Callable[..., Iterator[Any]], sampler: Sampler, **setting: Any
) -> tuple[list[list[int]], int]:
    """Of ragged rows, one of which the context ends; and the passes that they took."""
    model = oracles.tiny(minillm, num_hidden_layers=1)
    prompts = [[5], [1, 2, 3, 1, 2], [3] * 50]
    options: dict[str, Any] = {"max_new_tokens": 34, "sampler": sampler, **setting}
    steps = list(decode(model, prompts, generators=minillm.generators(0, 3), **options))
    return minillm.collect(iter(steps)), len(steps)


@pytest.fixture(scope="module")
def plain() -> dict[Sampler, list[list[int]]]:
    """The plain texts, by the sampler."""
    return {sampler: _texts(minillm.decode_cached, sampler)[0] for sampler in SAMPLERS}


@pytest.mark.parametrize("guess", GUESSES)
@pytest.mark.parametrize("block", range(1, 33))
def test_the_text_is_the_plain_one(
    plain: dict[Sampler, list[list[int]]], block: int, guess: str
) -> None:
    """Whatever the block and the guess, greedy and sampled."""
    sampled = SAMPLERS[1 + block % 3]
    for sampler in (GREEDY, sampled) if block % 4 == 1 else (GREEDY,):
        text, passes = _texts(decode_jacobi, sampler, block=block, guess=GUESSES[guess])
        assert text == plain[sampler]
        assert passes <= 34


def _jacobi(**setting: Any) -> Callable[..., Iterator[Any]]:
    return lambda *args, **options: decode_jacobi(*args, **setting, **options)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
@pytest.mark.parametrize("block", [1, 3, 8, 40])
def test_tokens_logits_and_passes(block: int, sampler: Sampler) -> None:
    seed = (block + SAMPLERS.index(sampler)) % 4
    guess = list(GUESSES.values())[seed]
    oracles.parallel_agrees(minillm, seed, _jacobi(block=block, guess=guess), sampler)


@pytest.mark.parametrize("seed", SEEDS)
def test_each_pass_is_that_of_the_naive_reference(seed: int) -> None:
    settings = [(1 + (7 * seed + i) % 12, i) for i in (seed % 4, (seed + 1) % 4)]
    oracles.parallel_by_hand(minillm, seed, jacobi=settings, look=())


@pytest.mark.parametrize("guess", ["random", "beginning"])
@pytest.mark.parametrize("sampler", SAMPLERS[:2], ids=str)
def test_a_row_of_a_batch_equals_the_row_alone(tiny: Tiny, guess: str, sampler: Sampler) -> None:
    prompts = [oracles.tokens_of(i, n).tolist() for i, n in enumerate((7, 1, 12, 4))]
    options: dict[str, Any] = {"block": 5, "max_new_tokens": 30, "stop": [3, 11]}
    options |= {"guess": GUESSES[guess], "sampler": sampler}
    together, apart = minillm.generators(1, 4), minillm.generators(1, 4)
    steps = list(decode_jacobi(tiny(), prompts, generators=together, **options))
    for b, prompt in enumerate(prompts):
        alone = list(decode_jacobi(tiny(), [prompt], generators=[apart[b]], **options))
        rows = [step.rows[b] for step in steps if step.rows[b].tokens]
        assert [(r.before, r.after, r.tokens, r.ended) for r in rows] == [
            (s.rows[0].before, s.rows[0].after, s.rows[0].tokens, s.rows[0].ended) for s in alone
        ]
        assert torch.equal(together[b].get_state(), apart[b].get_state())
    assert len({len(text) for text in minillm.collect(iter(steps))}) > 1


def test_a_block_of_one_is_plain_decoding_pass_by_pass(tiny: Tiny) -> None:
    model, plain = oracles.Overhearing(tiny()), oracles.Overhearing(tiny())
    prompts = [[1, 2, 3], [4, 5, 6]]
    list(decode_jacobi(model, prompts, block=1, max_new_tokens=20))
    list(minillm.decode_cached(plain, prompts, max_new_tokens=20))
    assert len(model.heard) == 20
    for (held, tokens), (plain_held, plain_tokens) in zip(model.heard, plain.heard, strict=True):
        assert held == plain_held
        assert torch.equal(tokens, plain_tokens)


@pytest.mark.parametrize("guess", GUESSES)
@pytest.mark.parametrize("block", [1, 2, 7])
def test_caches_hold_what_a_prefill_would(block: int, guess: str) -> None:
    oracles.parallel_caches(minillm, block, _jacobi(block=block, guess=GUESSES[guess]))


@pytest.mark.parametrize("guess", GUESSES)
@pytest.mark.parametrize("block", [2, 3, 9])
def test_the_law_is_the_targets(block: int, guess: str) -> None:
    oracles.parallel_law(minillm, decode=_jacobi(block=block, guess=GUESSES[guess]))


# Known models


class Successor:
    """After a token comes the next one, whatever stood before: an injective function."""

    def __init__(self, config: minillm.ModelConfig):
        self.config, self.device, self.dtype = config, torch.device("cpu"), torch.float64

    def hidden(self, tokens: Tensor, cache: Any = None, *, positions: Any = None) -> Tensor:
        cache.advance(tokens.shape[1])
        return tokens[..., None].double()

    def head(self, hidden: Tensor) -> Tensor:
        return one_hot((hidden[..., 0].long() + 1) % 31, 31).double()


@pytest.mark.parametrize("block", range(1, 17))
def test_a_guess_wrong_everywhere_gives_one_token_a_pass(tiny_config: Any, block: int) -> None:
    """If each token is an injective function of the one before, errors never heal by luck."""

    def wrong(text: Any, size: int, vocabulary: int) -> list[int]:
        return [(text[-1] + 5 + 2 * i) % vocabulary for i in range(size)]

    model = Successor(tiny_config())
    steps = list(decode_jacobi(model, [[7]], block=block, guess=wrong, max_new_tokens=22))
    assert minillm.collect(iter(steps)) == [[(8 + i) % 31 for i in range(22)]]
    assert [len(step.rows[0].tokens) for step in steps] == [1] * 22


@pytest.mark.parametrize("block", range(1, 17))
def test_a_right_guess_gives_a_block_a_pass(tiny_config: Any, block: int) -> None:
    def right(text: Any, size: int, vocabulary: int) -> list[int]:
        return [(text[-1] + 1 + i) % vocabulary for i in range(size)]

    model = Successor(tiny_config())
    steps = list(decode_jacobi(model, [[7]], block=block, guess=right, max_new_tokens=22))
    sizes = [len(step.rows[0].tokens) for step in steps]
    assert sizes == [block] * (22 // block) + [22 % block] * (22 % block > 0)
    assert all(step.rows[0].before == step.rows[0].after for step in steps)


@pytest.mark.parametrize("guess", GUESSES)
def test_a_block_takes_no_more_passes_than_it_has_tokens(tiny: Tiny, guess: str) -> None:
    """And what has settled is never touched again: blocks shrink by what each pass settles."""
    for block in (2, 5, 9):
        steps = decode_jacobi(
            tiny(), [[1, 2]], block=block, guess=GUESSES[guess], max_new_tokens=45
        )
        passes, left = 0, 0
        for step in steps:
            [row] = step.rows
            passes = 1 if left == 0 else passes + 1
            assert left in (0, len(row.before))
            assert passes <= block
            assert 1 <= len(row.tokens) <= len(row.after) == len(row.before) <= block
            assert row.after[: len(row.tokens)] == row.tokens
            left = len(row.after) - len(row.tokens)


@pytest.mark.parametrize("right", range(7))
@pytest.mark.parametrize("end", range(9))
@pytest.mark.parametrize("stop", [(), (STOP,)], ids=["no stop", "stop"])
def test_a_stop_token_ends_a_row_at_any_place_of_a_block(
    right: int, end: int, stop: tuple[int, ...]
) -> None:
    """Chosen or guessed; and one that is guessed wrongly ends nothing."""
    prompts, answers = [[STOP, 5, 6], [STOP]], [list(range(1, 10)), list(range(11, 20))]
    answers[0][end] = STOP

    def guess(text: Any, size: int, vocabulary: int) -> list[int]:
        b = 0 if STOP in text[:1] and text[1:3] == [5, 6] else 1
        done = len(text) - len(prompts[b])
        return [*answers[b][done : done + right], *[STOP] * size][:size]

    model = oracles.Scripted(minillm, prompts, answers)
    steps = list(decode_jacobi(model, prompts, block=6, guess=guess, max_new_tokens=9, stop=stop))
    expected = [answers[0][: end + 1] if stop else answers[0], answers[1]]
    assert minillm.collect(iter(steps)) == expected
    for b in (0, 1):
        ended = [step.rows[b].ended for step in steps]
        assert ended == sorted(ended)
        assert ended[-1]
        assert ended.index(True) == max(i for i, s in enumerate(steps) if s.rows[b].tokens)


@pytest.mark.parametrize("block", [1, 7, 64])
@pytest.mark.parametrize("budget", [1, 2, 61, 62, 1000])
def test_budget_and_context_end_a_row(tiny: Tiny, block: int, budget: int) -> None:
    """The context of 64 holds prompt and new tokens; no pass reads beyond it."""
    prompts = [[1, 2], [3] * 63, [4] * 58]
    plain = minillm.collect(minillm.decode_cached(tiny(), prompts, max_new_tokens=budget))
    found = minillm.collect(
        decode_jacobi(tiny(), prompts, block=block, max_new_tokens=budget, guess=GUESSES["n-grams"])
    )
    assert found == plain
    assert [len(text) for text in found] == [min(budget, 64 - len(p)) for p in prompts]


def test_a_block_beyond_the_context_takes_no_memory_for_what_cannot_be(tiny: Tiny) -> None:
    model = oracles.Overhearing(tiny())
    next(decode_jacobi(model, [[1], [2, 3]], block=10**9, max_new_tokens=20))
    assert model.cache.capacity == 22 + 20


# Guesses


def test_guesses_of_a_text() -> None:
    text = [5, 6, 7, 8, 5, 6]
    assert GUESSES["last token"](text, 3, 31) == [6, 6, 6]
    assert GUESSES["beginning"](text, 8, 31) == [5, 6, 7, 8, 5, 6, 5, 6]
    assert GUESSES["n-grams"](text, 3, 31) == [7, 8, 5]
    assert GUESSES["n-grams"](text, 6, 31) == [7, 8, 5, 6, 6, 6]
    assert GUESSES["n-grams"]([1, 2], 2, 31) == [2, 2]


@pytest.mark.parametrize("guess", GUESSES)
def test_a_guess_is_of_the_size_asked_for_and_repeatable(guess: str) -> None:
    for text, size in product(([4], [1, 2, 1, 2, 1], list(range(31))), (0, 1, 5, 40)):
        tokens = initial_guess(GUESSES[guess], text, size, 31)
        assert len(tokens) == size
        assert tokens == GUESSES[guess](text, size, 31)


def test_random_guesses_differ_along_a_text() -> None:
    random = GUESSES["random"]
    assert len({tuple(random([0] * n, 8, 31)) for n in range(1, 20)}) == 19


@pytest.mark.parametrize("wrong", [[1, 2], [1, 2, 3, 4], [], [1, 2, 31], [-1, 0, 0]], ids=str)
def test_a_guess_of_other_tokens_is_refused(tiny: Tiny, wrong: list[int]) -> None:
    steps = decode_jacobi(
        tiny(), [[1]], block=3, guess=lambda text, size, vocabulary: wrong, max_new_tokens=9
    )
    with pytest.raises(ValueError, match=r"guess must be (3 tokens|from 0 to 30), got"):
        next(steps)


@pytest.mark.parametrize("wrong", [[0.0, 1.0, 2.0], None], ids=str)
def test_a_guess_of_no_whole_numbers_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="tokens of a guess must be"):
        initial_guess(lambda *_: wrong, [1], 3, 31)


def test_a_guess_may_change_its_text_and_be_a_tensor() -> None:
    text = [1, 2]

    def guess(text: Any, size: int, vocabulary: int) -> Any:
        text.append(9)
        return torch.tensor([text[-1]] * size)

    tokens = initial_guess(guess, text, 3, 31)
    assert (text, tokens) == ([1, 2], [9, 9, 9])
    assert {type(token) for token in tokens} == {int}


# Arguments


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"block": 0}, "block must be at least 1, got 0"),
        ({"block": -3}, "got -3"),
        ({"prompts": []}, "at least one prompt"),
        ({"prompts": [[1], []]}, "at least one token"),
        ({"prompts": [[1] * 64]}, "leaves no room in the context of 64"),
        ({"prompts": [[31]]}, "from 0 to 30"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
        ({"sampler": Sampler()}, "1 rows need a generator each, got 0"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused_at_the_call(
    tiny: Tiny, changed: dict[str, Any], named: str
) -> None:
    arguments: dict[str, Any] = {"prompts": [[1]], "max_new_tokens": 3} | changed
    with pytest.raises(ValueError, match=named):
        decode_jacobi(tiny(), **arguments)


def test_any_whole_number_is_a_block_and_nothing_else(tiny: Tiny) -> None:
    """Called without the check of annotations, as readers call it."""
    decode: Any = inspect.unwrap(decode_jacobi)
    first = next(decode(tiny(), [[1]], block=torch.tensor(3), max_new_tokens=9))
    assert len(first.rows[0].before) == 3
    with pytest.raises(ValueError, match="block must be a whole number"):
        decode(tiny(), [[1]], block=2.5, max_new_tokens=9)


@pytest.mark.parametrize("sampler", SAMPLERS[:2], ids=str)
def test_a_model_that_answers_nan_is_refused(tiny: Tiny, sampler: Sampler) -> None:
    model = tiny()
    model.norm.weight[0] = torch.nan
    seeds = minillm.generators(0, 1)
    with pytest.raises(ValueError, match="logits must be finite"):
        next(decode_jacobi(model, [[1]], max_new_tokens=3, sampler=sampler, generators=seeds))


# The shipped model


QUICK = [(2, "n-grams"), (3, "last token"), (5, "random")]  # short passes
THOROUGH = [(4, "n-grams"), (8, "last token"), (16, "random")]


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
        self, name: str, count: int, settings: list[tuple[int, str]]
    ) -> None:
        decoders = [
            partial(decode_jacobi, block=block, guess=GUESSES[guess]) for block, guess in settings
        ]
        oracles.same_texts_in_float64(minillm, name, decoders, count)

    def test_on_the_optimized_model_texts_are_equal_up_to_ties(self) -> None:
        oracles.same_texts_in_float32(minillm, partial(decode_jacobi, block=6))
