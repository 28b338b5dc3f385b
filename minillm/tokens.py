"""Text to tokens and back, by the rules that the shipped models were trained with."""

from collections.abc import Sequence

from tokenizers import Tokenizer

__all__ = ["END_OF_TEXT", "encode", "pieces"]

END_OF_TEXT = "<|endoftext|>"  # ends a text in training, and starts the next


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """The tokens of a text, led by end-of-text where the vocabulary has it."""
    start = tokenizer.token_to_id(END_OF_TEXT)
    return [*([] if start is None else [start]), *tokenizer.encode(text).ids]


def pieces(tokenizer: Tokenizer, tokens: Sequence[int]) -> list[str]:
    """The text of each token on its own; bytes that are no character alone show as U+FFFD."""
    return [tokenizer.decode([token], skip_special_tokens=False) for token in tokens]
