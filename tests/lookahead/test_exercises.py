"""The exercises of lesson 08: right answers, and what is said of typical mistakes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from minillm.checkpoint import load
from widgets.common.exercises import judge
from widgets.lookahead import (
    exercises,
)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((150, 5, 3), "chosen, not read"),
        ((60, 5, 3), "read in the same pass"),
        ((900, 5, 3), "add up"),
        ((30, 5, 3), "N - 1 tokens"),
        ((7, 5, 3), "Count the window's tokens"),
        ((120, 4, 3), "lost in the authors' program"),
        ((120, 6, 3), "One too many"),
        ((120, 60, 3), "only one of them"),
        ((120, 9, 3), "what comes after it"),
        ((120, 5, 1), "as short as one token's"),
        ((120, 5, 120), "no token were free"),
        ((120, 5, 1 / 3), "Upside down"),
        ((120, 5, 40), "how many tokens are free"),
        ((120, 5, 2), "How many times as long"),
        ((120, 5), "Expected three numbers"),
    ],
)
def test_the_price_of_a_pass_mistaken(answer: Any, told: str) -> None:
    verdict = judge("08.1", answer)
    assert verdict.grade == "wrong"
    assert told in verdict.says + verdict.look


def test_the_price_of_a_pass() -> None:
    assert judge("08.1", (120, 5, 3)).grade == "right"
    assert judge("08.1", ...).grade == "open"


Guesses = list[list[int]]
Merged = tuple[list[int], list[list[bool]]]


def _beginnings(guesses: Guesses) -> list[list[int]]:
    return [guess[: n + 1] for guess in guesses for n in range(len(guess))]


def _of(texts: list[list[int]]) -> Merged:
    tokens = [text[-1] for text in texts]
    return tokens, [[me[: len(other)] == other for other in texts] for me in texts]


def merged(guesses: Guesses) -> Merged:
    return _of(sorted(map(list, {*map(tuple, _beginnings(guesses))})))


def with_tensors(guesses: Guesses) -> tuple[torch.Tensor, torch.Tensor]:
    """Longest beginnings first."""
    texts = {tuple(text) for text in _beginnings(guesses)}
    tokens, sees = _of([[*text] for text in sorted(texts, key=len, reverse=True)])
    return torch.tensor(tokens), torch.tensor(sees)


def _same_token_at_a_place(guesses: Guesses) -> Merged:
    places = sorted({(n, token) for guess in guesses for n, token in enumerate(guess)})
    return [t for _, t in places], [[n >= m for m, _ in places] for n, _ in places]


def _each_token_once(guesses: Guesses) -> Merged:
    tokens = sorted({token for guess in guesses for token in guess})
    return tokens, [[True] * len(tokens)] * len(tokens)


def _first_token_again(guesses: Guesses) -> Merged:
    """As many tokens as there are beginnings, all of them of one."""
    around = range(len(merged(guesses)[0]))
    return [guesses[0][0] for _ in around], [[r == c for c in around] for r in around]


def _apart(guesses: Guesses) -> Merged:
    return _of(_beginnings(guesses))


def _changed(change: Callable[[int, int, list[list[bool]]], bool]) -> Callable[[Guesses], Merged]:
    def answer(guesses: Guesses) -> Merged:
        tokens, sees = merged(guesses)
        around = range(len(tokens))
        return tokens, [[change(r, c, sees) for c in around] for r in around]

    return answer


def _rows_exchanged(guesses: Guesses) -> Merged:
    """Where all tokens are equal, what the rows see looks right."""
    tokens, sees = merged(guesses)
    return tokens, sees[::-1] if len({*tokens}) == 1 else sees


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (_rows_exchanged, "does not see its own token 7"),
        (_same_token_at_a_place, "Equal tokens that see different ones are not the same"),
        (_each_token_once, "Equal tokens that see different ones are not the same"),
        (_apart, "6 tokens for 4 different beginnings"),
        (_apart, "is to be read once"),
        (_first_token_again, "[1] is read twice."),
        (_changed(lambda r, c, sees: sees[c][r]), "The row looks"),
        (_changed(lambda r, c, sees: c <= r), "another guess is a rival"),
        (_changed(lambda r, c, sees: True), "another guess is a rival"),
        (_changed(lambda r, c, sees: r == c), "as if the guess stood alone"),
        (_changed(lambda r, c, sees: sees[r][c] and r != c), "A token sees itself"),
        (lambda guesses: merged(guesses)[0], "Expected two things"),
        (lambda guesses: (merged(guesses)[0], merged(guesses)[1][1:]), "so wide and so high"),
        (lambda guesses: guesses.clear(), "Expected two things"),
    ],
)
def test_guesses_that_begin_alike_mistaken(answer: Callable[..., Any], says: str) -> None:
    verdict = judge("08.2", answer)
    assert verdict.grade == "wrong"
    assert says in f"{verdict.says} {verdict.look}"


@pytest.mark.parametrize("answer", [merged, with_tensors])
def test_guesses_that_begin_alike(answer: Callable[..., Any]) -> None:
    verdict = judge("08.2", answer)
    assert verdict.grade == "right"
    assert "19,392 tokens, merged 18,363" in verdict.says


def test_merged_guesses_have_the_logits_of_their_texts() -> None:
    model, _ = load("stories-draft", dtype=torch.float64)
    newest, guesses = 9, [[1, 2, 3], [1, 4, 3], [1, 2, 5], [6, 2, 3]]
    tokens, sees = map(torch.tensor, merged(guesses))
    mask = torch.ones(len(tokens) + 1, len(tokens) + 1, dtype=torch.bool).tril()
    mask[1:, 1:] = sees
    read = torch.cat([torch.tensor([newest]), tokens])[None]
    with torch.inference_mode():
        logits = model(read, positions=mask.sum(1) - 1, mask=mask)[0]
        for row, seen in enumerate(mask):
            text = read[0][seen].tolist()
            plainly = model(torch.tensor([text]))[0, -1]
            assert (logits[row] - plainly).abs().max() < 1e-10


def ten(text: list[int]) -> int:
    return (text[-1] + 1) % 10


def endless(text: list[int]) -> int:
    return (text[-1] + 1) % 1000


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((endless, endless), "does the text come back"),
        ((ten, ten), "The text still comes back"),
        ((lambda text: len(text), endless), "It is to settle one"),
        ((ten,), "Expected two functions"),
        ((ten, lambda text: 1000), "from 0 to 999"),
        ((ten, lambda text: 0.5), "not float"),
        ((ten, 7), "A function is asked for"),
        ((ten, lambda text, seen=[0]: seen.append(1) or len(seen)), "nothing else"),  # type: ignore[func-returns-value]
    ],
)
def test_what_it_lives_on_mistaken(answer: Any, told: str) -> None:
    verdict = judge("08.3", answer)
    assert verdict.grade == "wrong"
    assert told.lower() in (verdict.says + verdict.look).lower()


def test_what_it_lives_on() -> None:
    verdict = judge("08.3", (ten, endless))
    assert verdict.grade == "right"
    assert "Lookahead: 3.05 and 1.00" in verdict.says
    assert judge("08.3", (ten, ...)).grade == "open"
    assert exercises.tokens_a_pass(endless) == (1, 1)
