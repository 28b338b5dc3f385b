"""Bench rows of lessons 01 and 02: what the cache saves, and the plain loop against a peer."""

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from minillm.bench.rows import CheckFailedError, Measured, UnmeasuredError, row, stock_kernel
from minillm.checkpoint import folder, load
from minillm.decoding import Step, decode_cached
from minillm.heldout import bench_prompts, stories
from minillm.kv_cache import KVCache
from minillm.timing import interleave
from minillm.tokens import encode

__all__ = ["equal_tokens"]

_MODEL = "stories"
_CACHED = 500
_STEPS = 8  # in one run: a step follows steps, as it does in decoding
_NEW_TOKENS = 48
_CLOSE = 1e-4  # logits of two float32 paths, and the margin of a tie
_BAR: dict[str, Any] = {"unit": "pair", "leave": False, "disable": None}  # on a terminal only


@row(f"kv_cache/step@{_CACHED}", against=f"recomputing {_CACHED + 1} tokens")
def cached_step() -> Measured:
    """One more token with 500 cached, against a pass over all 501; both score the next one."""
    model, tokenizer = load(_MODEL)
    text = torch.tensor([encode(tokenizer, "\n\n".join(stories()))[: _CACHED + 1]])
    cache = KVCache(model.config, 1, _CACHED + 1)

    def step() -> Tensor:
        for _ in range(_STEPS):
            cache.truncate([_CACHED])
            logits = model.head(model.hidden(text[:, _CACHED:], cache)[:, -1])
        return logits

    def recompute() -> Tensor:
        return model.head(model.hidden(text)[:, -1])

    with torch.inference_mode():
        model.hidden(text, cache)
        pairs = list(tqdm(interleave([(step, recompute)] * 31), total=31, desc="step", **_BAR))
    error = max(float((pair.ours - pair.theirs).abs().max()) for pair in pairs)
    if error >= _CLOSE or any(not pair.ours.argmax().equal(pair.theirs.argmax()) for pair in pairs):
        raise CheckFailedError(f"logits differ by {error:.1e}")
    return Measured(
        [(pair.our_seconds / _STEPS, pair.their_seconds) for pair in pairs],
        check=f"same next token, logits within {_CLOSE:.0e}",
        kernel=stock_kernel(),
    )


@row("decoding/transformers", against="transformers' generate")
def against_transformers() -> Measured:
    """Greedy tokens of `decode_cached` against those of `generate`; neither stops at an end."""
    model, tokenizer = load(_MODEL)
    generate = _transformers_generate(_MODEL)
    prompts = [encode(tokenizer, prompt) for prompt in bench_prompts()]

    def pair(prompt: list[int]) -> tuple[Callable[[], list[Step]], Callable[[], Tensor]]:
        tokens = torch.tensor([prompt])
        return (
            lambda: list(decode_cached(model, [prompt], max_new_tokens=_NEW_TOKENS)),
            lambda: generate(tokens),
        )

    runs = interleave([pair(prompt) for prompt in prompts])
    pairs = list(tqdm(runs, total=len(prompts), desc="generate", **_BAR))
    check = equal_tokens(
        [[(row.tokens[0], row.logits[0]) for step in p.ours for row in step.rows] for p in pairs],
        [p.theirs[0, len(prompt) :].tolist() for p, prompt in zip(pairs, prompts, strict=False)],
    )
    seconds = [(p.our_seconds / _NEW_TOKENS, p.their_seconds / _NEW_TOKENS) for p in pairs]
    return Measured(seconds, check, stock_kernel())


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
                if best - second >= _CLOSE:
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


def _transformers_generate(name: str) -> Callable[[Tensor], Tensor]:
    """Greedy `generate` of transformers on the same folder, in float32, quiet, ends ignored."""
    if find_spec("transformers") is None:
        raise UnmeasuredError("transformers is not installed: pip install 'minillm[bench]'")
    transformers: Any = import_module("transformers")
    logging = transformers.utils.logging
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    peer = transformers.AutoModelForCausalLM.from_pretrained(
        folder(name), dtype=torch.float32, local_files_only=True
    ).eval()
    peer.generation_config.eos_token_id = None  # run on; min_new_tokens would ban the token
    peer.generation_config.pad_token_id = 0

    @torch.inference_mode()
    def generate(tokens: Tensor) -> Tensor:
        return peer.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=_NEW_TOKENS,
            do_sample=False,
        )

    return generate
