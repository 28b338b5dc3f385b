"""The tokenizer that a GGUF file describes: its vocabulary, its merges, and how it cuts a text.

How a text is cut before merges, a file tells by a name only; what it stands for is llama.cpp's
`llama-vocab.cpp`, and here the same in the words of `tokenizers`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from minillm.checkpoint.gguf.sentence_piece import sentence_piece

__all__ = ["read_tokenizer", "special_tokens"]

_CONTROL, _USER_DEFINED = 3, 4
_LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN_2 = _LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}")


def _split(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _gpt_2(*before: pre_tokenizers.PreTokenizer) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([*before, pre_tokenizers.ByteLevel(add_prefix_space=False)])


_CUTS = {
    "gpt-2": _gpt_2(),
    "smollm": _gpt_2(pre_tokenizers.Digits(individual_digits=True)),
    "llama-bpe": _split(_LLAMA_3),
    "qwen2": _split(_QWEN_2),
}


def read_tokenizer(metadata: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of the fields `tokenizer.ggml.*`.

    Raises:
        ValueError: a field is missing or contradicts another, or a kind that is not supported.
    """
    kind, cut = _field(metadata, "model", str), metadata.get("tokenizer.ggml.pre")
    tokens = _field(metadata, "tokens", list)
    if len(set(tokens)) < len(tokens):
        raise ValueError("a token stands twice")
    if kind == "llama":
        tokenizer = sentence_piece(
            tokens,
            _numbers(metadata, "scores"),
            _numbers(metadata, "token_type"),
            leading_space=metadata.get("tokenizer.ggml.add_space_prefix", True),
        )
    elif kind == "gpt2" and isinstance(cut, str) and cut in _CUTS:
        tokenizer = _byte_pairs(tokens, _field(metadata, "merges", list), cut)
    else:
        raise ValueError(
            f"a tokenizer of kind {kind!r} that cuts as {cut!r} is not supported, only 'llama', "
            f"and 'gpt2' with one of {', '.join(_CUTS)}"
        )
    _add_tokens(tokenizer, metadata, tokens)
    _begin(tokenizer, metadata, tokens, by_default=kind == "llama" or cut == "llama-bpe")
    return tokenizer


def _byte_pairs(tokens: list[str], merges: list[str], cut: str) -> Tokenizer:
    pairs = [merge.split(" ") for merge in merges]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError("a merge is not of two tokens")
    vocabulary = {token: number for number, token in enumerate(tokens)}
    try:
        bpe = models.BPE(vocabulary, [(a, b) for a, b in pairs], ignore_merges=cut == "llama-bpe")
    except Exception as error:  # tokenizers raises bare Exception
        raise ValueError(f"merges that do not fit the tokens: {error}") from error
    tokenizer = Tokenizer(bpe)
    tokenizer.pre_tokenizer, tokenizer.decoder = _CUTS[cut], decoders.ByteLevel()
    if cut == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def special_tokens(metadata: Mapping[str, Any]) -> dict[str, int]:
    """The numbers of the tokens that begin and end a text, as far as the file names them.

    Raises:
        ValueError: one that is not in the vocabulary.
    """
    names = {"bos_token": "bos_token_id", "eos_token": "eos_token_id"}
    given = {ours: metadata.get(f"tokenizer.ggml.{theirs}") for ours, theirs in names.items()}
    size = len(_field(metadata, "tokens", list))
    for name, number in given.items():
        if number is not None and not (type(number) is int and 0 <= number < size):
            raise ValueError(f"the {name} {number!r} is not in the vocabulary of {size}")
    return {name: number for name, number in given.items() if number is not None}


def _field(metadata: Mapping[str, Any], name: str, kind: type) -> Any:
    value = metadata.get(f"tokenizer.ggml.{name}")
    if not isinstance(value, kind):
        raise ValueError(f"tokenizer.ggml.{name} is missing or not a {kind.__name__}")
    return value


def _numbers(metadata: Mapping[str, Any], name: str) -> list[Any]:
    value = metadata.get(f"tokenizer.ggml.{name}")
    if not isinstance(value, np.ndarray):
        raise ValueError(f"tokenizer.ggml.{name} is missing or not a list of numbers")
    return value.tolist()


def _add_tokens(tokenizer: Tokenizer, metadata: Mapping[str, Any], tokens: list[str]) -> None:
    """Tokens that no merge makes: those of control, and those that users define."""
    kinds = metadata.get("tokenizer.ggml.token_type", ())
    if isinstance(kinds, int | float | str):
        raise ValueError(f"tokenizer.ggml.token_type must be a list, got {kinds!r}")
    for control in (True, False):
        wanted = _CONTROL if control else _USER_DEFINED
        texts = [token for token, kind in zip(tokens, kinds, strict=False) if kind == wanted]
        tokenizer.add_tokens(
            [AddedToken(text, normalized=False, special=control) for text in texts]
        )


def _begin(
    tokenizer: Tokenizer, metadata: Mapping[str, Any], tokens: list[str], *, by_default: bool
) -> None:
    """Start each text with the token of the beginning, where the file says so."""
    begin = special_tokens(metadata).get("bos_token")
    if begin is None or not metadata.get("tokenizer.ggml.add_bos_token", by_default):
        return
    tokenizer.post_processor = processors.TemplateProcessing(
        [tokens[begin], "$A"], special_tokens=[(tokens[begin], begin)]
    )
