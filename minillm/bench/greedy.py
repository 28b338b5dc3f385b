"""Greedy texts of two programs from the thirty prompts: equal, and how fast each is."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from tqdm import tqdm

from minillm.bench.rows import CheckFailedError, Measured, UnmeasuredError
from minillm.checkpoint import opened, save
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
    "transformers_greedy",
    "transformers_peer",
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


def transformers_peer(name: str) -> Any:
    """The model as transformers reads it, in float32, for generation that ends nowhere.

    Raises:
        UnmeasuredError: transformers is not installed, or does not read the model.
    """
    if find_spec("transformers") is None:
        raise UnmeasuredError("transformers is not installed: pip install 'minillm[bench]'")
    try:
        transformers: Any = import_module("transformers")
        logging = transformers.utils.logging
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        with _folder(name) as path:
            peer = transformers.AutoModelForCausalLM.from_pretrained(
                path, dtype=torch.float32, local_files_only=True
            ).eval()
    except Exception as error:  # whatever another version of it raises
        raise UnmeasuredError(f"transformers does not run: {error}") from error
    peer.generation_config.eos_token_id = None  # run on; min_new_tokens would ban the token
    peer.generation_config.pad_token_id = 0
    return peer


@contextmanager
def _folder(name: str) -> Iterator[Path]:
    """The model's folder; that of a model from one file is there for a while."""
    checkpoint = opened(name)
    if checkpoint.path.is_dir():
        yield checkpoint.path
        return
    with TemporaryDirectory(ignore_cleanup_errors=True) as made:
        save(Path(made), checkpoint.model(), checkpoint.tokenizer, torch.float32)
        yield Path(made)


def transformers_greedy(name: str) -> Callable[[list[int], int], list[int]]:
    """Greedy `generate` of `transformers_peer`, for `greedy_texts`."""
    peer = transformers_peer(name)

    @torch.inference_mode()
    def generate(prompt: list[int], count: int) -> list[int]:
        tokens = torch.tensor([prompt])
        text: Tensor = peer.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=count,
            do_sample=False,
        )
        return text[0, len(prompt) :].tolist()

    return generate
