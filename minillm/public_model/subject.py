"""What is measured: a model, its fast twin, texts that it reads and prompts that it continues."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from minillm.checkpoint import Checkpoint
from minillm.data.heldout import bench_prompts, stories
from minillm.tokens import encode
from minillm.transformer import Transformer

__all__ = ["ROWS", "TOKENS", "Subject", "subject"]

ROWS, TOKENS = 4, 128  # of the texts that are read
_CODE = "Write a Python class Stack with the methods push, pop, peek, is_empty and size."
_SUMMARY = "Summarize this text in three sentences:\n\n"


@dataclass(frozen=True)
class Subject:
    """A model, and what it is asked.

    Attributes:
        model: the readable one.
        fast: what decodes; the same weights.
        texts: (ROWS, TOKENS), the beginnings of held-out stories.
        prompts: one by the kind of text that follows: "story", and of a model that chats also
            "summary" and "code".
        ends: the tokens that end an answer.
    """

    model: Transformer
    fast: Transformer
    texts: Int[Tensor, "B T"]
    prompts: Mapping[str, Sequence[int]]
    ends: Sequence[int]


def subject(checkpoint: Checkpoint, model: Transformer, fast: Transformer) -> Subject:
    """A model of a checkpoint, and the course's texts in its own tokens."""
    tokenizer = checkpoint.tokenizer
    texts = [encode(tokenizer, text)[:TOKENS] for text in stories()[:ROWS]]
    prompts = {"story": encode(tokenizer, bench_prompts()[0])}
    if checkpoint.template is not None:
        prompts["summary"] = checkpoint.chat(_SUMMARY + stories()[0])
        prompts["code"] = checkpoint.chat(_CODE)
    return Subject(model, fast, torch.tensor(texts), prompts, checkpoint.ends)
