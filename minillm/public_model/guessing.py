"""Tokens a pass: how far each way to guess gets, on each kind of text.

All of them write the text of plain greedy decoding, so only the number of passes differs.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import mean

from minillm.decoding import Step, collect, decode_cached
from minillm.jacobi import decode_jacobi
from minillm.lookahead import decode_lookahead
from minillm.measure.noise import Measured
from minillm.public_model.costs import times_as_long
from minillm.public_model.subject import Subject
from minillm.speculative import DraftModel, PromptLookup, decode_speculative
from minillm.speculative.decode import SpeculativeRow
from minillm.speculative.drafters import early_exit

__all__ = [
    "GAMMA",
    "NEW",
    "exit_early",
    "in_time",
    "jacobi",
    "lookahead",
    "matches",
    "prompt_lookup",
    "same_text",
    "tokens_a_pass",
]

NEW = 48  # tokens that are written
GAMMA = 4  # guesses of a round

Decode = Callable[..., Iterator[Step]]
_LOOKUP: Decode = partial(decode_speculative, drafter=PromptLookup(), gamma=GAMMA)


def prompt_lookup(subject: Subject) -> dict[str, float]:
    """Guesses are copied from the text so far."""
    return tokens_a_pass(subject, _LOOKUP)


def matches(subject: Subject) -> dict[str, float]:
    """By the kind of text: in which share of its passes prompt lookup finds something to guess."""
    return {
        kind: mean(
            bool(row.guesses)
            for step in _written(subject, prompt, _LOOKUP)
            for row in step.rows
            if isinstance(row, SpeculativeRow)
        )
        for kind, prompt in subject.prompts.items()
    }


def exit_early(subject: Subject) -> dict[str, float]:
    """Guesses are made by the first half of the layers, with the model's own head."""
    half = early_exit(subject.fast, subject.model.config.num_hidden_layers // 2)
    guess = partial(decode_speculative, drafter=DraftModel(half), gamma=GAMMA)
    return tokens_a_pass(subject, guess)


def jacobi(subject: Subject) -> dict[str, float]:
    """Blocks of 16 random tokens are iterated until they stay."""
    return tokens_a_pass(subject, decode_jacobi)


def lookahead(subject: Subject) -> dict[str, float]:
    """The n-grams of a window that is iterated beside the text are guesses: W = 5, N = 4, G = 5."""
    return tokens_a_pass(subject, decode_lookahead)


def tokens_a_pass(subject: Subject, decode: Decode) -> dict[str, float]:
    """By the kind of text: tokens that a pass of the whole model yields."""
    return {
        kind: _ratio(list(_written(subject, prompt, decode)))
        for kind, prompt in subject.prompts.items()
    }


def _ratio(steps: Sequence[Step]) -> float:
    return sum(len(step.rows[0].tokens) for step in steps) / steps[-1].forwards


def _written(subject: Subject, prompt: Sequence[int], decode: Decode) -> Iterator[Step]:
    return decode(subject.fast, [prompt], max_new_tokens=NEW, stop=subject.ends)


def same_text(subject: Subject) -> dict[str, float]:
    """By the kind of text: whether prompt lookup writes what the plain loop does; 1 is yes."""
    return {
        kind: float(
            collect(_written(subject, prompt, _LOOKUP))
            == collect(_written(subject, prompt, decode_cached))
        )
        for kind, prompt in subject.prompts.items()
    }


def in_time(subject: Subject) -> dict[str, Measured]:
    """By the kind of text: how many times as fast prompt lookup writes it as the plain loop."""
    return {kind: _in_time(subject, prompt) for kind, prompt in subject.prompts.items()}


def _in_time(subject: Subject, prompt: Sequence[int]) -> Measured:
    guessing, plain = (
        lambda decode=decode: collect(_written(subject, prompt, decode))
        for decode in (_LOOKUP, decode_cached)
    )
    return times_as_long(guessing, plain)
