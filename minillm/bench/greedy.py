"""Greedy texts of two programs from the thirty prompts: equal, and how fast each is."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tokenizers import Tokenizer
from torch import Tensor
from tqdm import tqdm

from minillm.bench.rows import CheckFailedError, Measured
from minillm.data.heldout import bench_prompts
from minillm.decoding import Step, decode_cached
from minillm.fast.model import kernel_names
from minillm.measure.timing import interleave
from minillm.tokens import encode
from minillm.transformer import Transformer

__all__ = [
    "BAR",
    "CLOSE",
    "equal_tokens",
    "greedy_texts",
    "scored",
]

CLOSE = 1e-4  # logits of two float32 paths, and the margin of a tie
BAR: dict[str, Any] = {"unit": "pair", "leave": False, "disable": None}  # on a terminal only
_NEW_TOKENS = 48


def greedy_texts(
    model: Transformer, tokenizer: Tokenizer, theirs: Callable[[list[int], int], list[int]]
) -> Measured:
    """`decode_cached` of the model against another program.

    Args:
        model: ours.
        tokenizer: of both.
        theirs: gives the new tokens for a prompt and their number; it does not stop at an end.
    """
    prompts = [encode(tokenizer, prompt) for prompt in bench_prompts()]

    def pair(prompt: list[int]) -> tuple[Callable[[], list[Step]], Callable[[], list[int]]]:
        return (
            lambda: list(decode_cached(model, [prompt], max_new_tokens=_NEW_TOKENS)),
            lambda: theirs(prompt, _NEW_TOKENS),
        )

    runs = interleave([pair(prompt) for prompt in prompts])
    pairs = list(tqdm(runs, total=len(prompts), desc="texts", **BAR))
    check = equal_tokens([scored(p.ours) for p in pairs], [p.theirs for p in pairs])
    seconds = [(p.our_seconds / _NEW_TOKENS, p.their_seconds / _NEW_TOKENS) for p in pairs]
    return Measured(seconds, check, kernel_names(model))


def scored(steps: Iterable[Step]) -> list[tuple[int, Tensor]]:
    """The tokens of a text, each with the logits (V,) it was picked from."""
    rows = [step.rows[0] for step in steps]
    return [pair for row in rows for pair in zip(row.tokens, row.logits, strict=True)]


def equal_tokens(
    ours: Sequence[Sequence[tuple[int, Tensor]]], theirs: Sequence[Sequence[int]]
) -> str:
    """Say that the texts are equal, or differ only behind a tie of the two best logits.

    Args:
        ours: texts of (token, logits it was picked from).
        theirs: the same texts by another program.

    Raises:
        CheckFailedError: texts of different lengths, or one where the best logit at the first
            difference leads by 1e-4 or more.
    """
    margins = []
    for index, (text, other) in enumerate(zip(ours, theirs, strict=True)):
        if len(text) != len(other):
            raise CheckFailedError(f"text {index} has {len(text)} and {len(other)} tokens")
        for place, ((token, logits), expected) in enumerate(zip(text, other, strict=True)):
            if token != expected:
                best, second = logits.topk(2).values.tolist()
                margins.append(best - second)
                if best - second >= CLOSE:
                    raise CheckFailedError(
                        f"token {place} of text {index} is {token}, theirs "
                        f"{expected}, at a margin of {best - second:.1e}"
                    )
                break
    if not margins:
        return f"equal tokens in {len(ours)} of {len(ours)} texts"
    return (
        f"equal tokens in {len(ours) - len(margins)} of {len(ours)} texts, "
        f"the others up to a tie of {max(margins):.1e} at most"
    )
