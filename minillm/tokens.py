"""Text to tokens and back, by the rules that each tokenizer carries.

What starts a text is the tokenizer's own matter: its post-processor leads the text with a token
(`<|endoftext|>` in the shipped models, `<s>` in Llama 2) or with none (Qwen2).
"""

import re
from collections.abc import Sequence

import torch
from jaxtyping import Int
from tokenizers import Tokenizer, processors
from torch import Tensor

__all__ = [
    "END_OF_TEXT",
    "TextStream",
    "encode",
    "encode_all",
    "for_family",
    "lead_with_end_of_text",
    "pieces",
    "same_tokens",
]

END_OF_TEXT = "<|endoftext|>"  # ends a text in training, and starts the next
_STARTLESS = ("qwen2", "qwen3")  # families that begin no text with end-of-text
_BYTE = re.compile("<0x[0-9A-F]{2}>")  # a token of byte fallback


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """The tokens of a text, with the start that the tokenizer gives it, if any."""
    return tokenizer.encode(text).ids


def encode_all(tokenizer: Tokenizer, texts: Sequence[str]) -> Int[Tensor, " N"]:
    """The tokens of all texts, each with the start that the tokenizer gives it, if any."""
    pieces = [
        torch.tensor(encoding.ids, dtype=torch.int64)
        for first in range(0, len(texts), 1000)
        for encoding in tokenizer.encode_batch(texts[first : first + 1000])
    ]
    return torch.cat(pieces)


def pieces(tokenizer: Tokenizer, tokens: Sequence[int]) -> list[str]:
    """The text of each token on its own; bytes that are no character alone show as U+FFFD."""
    return [tokenizer.decode([token], skip_special_tokens=False) for token in tokens]


def lead_with_end_of_text(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer itself, which from now on starts every text with end-of-text, and adds no more.

    Its vocabulary must have that token.
    """
    tokenizer.post_processor = processors.TemplateProcessing(
        f"{END_OF_TEXT} $A", special_tokens=[(END_OF_TEXT, tokenizer.token_to_id(END_OF_TEXT))]
    )
    return tokenizer


def for_family(tokenizer: Tokenizer, model_type: str) -> Tokenizer:
    """The tokenizer as a model of this type is saved with: Qwen gets no end-of-text to start."""
    if model_type not in _STARTLESS or pieces(tokenizer, encode(tokenizer, "")) != [END_OF_TEXT]:
        return tokenizer
    bare = Tokenizer.from_str(tokenizer.to_str())
    bare.post_processor = None
    return bare


def same_tokens(one: Tokenizer, other: Tokenizer) -> bool:
    """Whether the same numbers stand for the same tokens."""
    return one.get_vocab() == other.get_vocab()


class TextStream:
    """The text of tokens that come one by one: all parts together are `decode` of all tokens.

    Half a character waits for the rest of it, and a byte of byte fallback for the end of its run:
    only there does `decode` know whether the run is text. U+FFFD stands for bytes that are none.
    """

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._shown: list[int] = []  # the tokens of the last part, on which the next one depends
        self._waiting: list[int] = []

    def push(self, token: int) -> str:
        """What is certain with this token, and was not before."""
        self._waiting.append(token)
        byte = _BYTE.fullmatch(self._tokenizer.id_to_token(token) or "")
        if byte or not self._tokenizer.decode([token]):  # a special token ends no run of bytes
            return ""
        text = self.end()
        if text.endswith("\ufffd"):
            return ""
        self._shown, self._waiting = self._waiting, []
        return text

    def end(self) -> str:
        """What still waits, as `decode` shows it."""
        before = self._tokenizer.decode(self._shown)
        return self._tokenizer.decode(self._shown + self._waiting)[len(before) :]
