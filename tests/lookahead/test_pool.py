"""The n-gram pool: what was met last is guessed first, and what was not met for long is forgotten.

The reference keeps everything in one list, in the order of the last meeting.
"""

import random

import pytest

from minillm.lookahead.pool import NGramPool


@pytest.mark.parametrize("bound", [1, 2, 5])
@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_last_met_continuations_of_each_token(n: int, bound: int) -> None:
    choose = random.Random(n * bound)
    pool, met = NGramPool(n, bound), list[tuple[int, ...]]()
    for _ in range(300):
        gram = tuple(choose.choice(range(3)) for _ in range(n))
        pool.add(gram)
        met = [*(other for other in met if other != gram), gram]
        for token in range(4):
            behind = [other[1:] for other in reversed(met) if other[0] == token]
            assert pool.guesses(token) == behind[:bound]


def test_a_text_is_met_from_its_beginning_to_its_end() -> None:
    pool, other = NGramPool(3, 2), NGramPool(3, 2)
    text = [1, 2, 1, 3, 1, 4, 1, 2, 1]
    pool.add_text(text)
    for start in range(len(text) - 2):
        other.add(text[start : start + 3])
    assert [pool.guesses(token) for token in range(5)] == [other.guesses(t) for t in range(5)]
    assert pool.guesses(1) == [(2, 1), (4, 1)]
    assert pool.guesses(2) == [(1, 3)]


@pytest.mark.parametrize("text", [[], [1], [1, 2]], ids=str)
def test_a_text_shorter_than_an_n_gram_teaches_nothing(text: list[int]) -> None:
    pool = NGramPool(3, 2)
    pool.add_text(text)
    assert [pool.guesses(token) for token in range(4)] == [[]] * 4


@pytest.mark.parametrize("gram", [[], [1, 2], [1, 2, 3, 4]], ids=str)
def test_other_n_grams_are_refused(gram: list[int]) -> None:
    with pytest.raises(ValueError, match=f"the pool holds 3-grams, got {len(gram)} tokens"):
        NGramPool(3, 2).add(gram)


@pytest.mark.parametrize(("n", "bound"), [(1, 2), (0, 2), (2, 0), (2, -1)])
def test_pools_of_nothing_are_refused(n: int, bound: int) -> None:
    with pytest.raises(ValueError, match=r"(n|bound) must be at least"):
        NGramPool(n, bound)


def test_what_a_caller_does_to_the_guesses_changes_no_pool() -> None:
    pool = NGramPool(2, 3)
    pool.add([1, 2])
    pool.guesses(1).clear()
    pool.guesses(9).append((1,))
    assert pool.guesses(1) == [(2,)]
    assert pool.guesses(9) == []
