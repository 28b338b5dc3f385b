"""From text files to rows of tokens: read, cut into tokens, shuffle.

Texts stand behind one another in a file, separated by <|endoftext|>, wherever that stands; a file
without separators is one text. Each becomes its tokens, led by end-of-text, and all of them
together are one ring of tokens. A pass over the ring cuts it into rows of T tokens, at other places
in every pass, and takes the rows in random order. Which rows a step sees follows from the seed and
the number of the step alone, so an interrupted run needs to remember nothing but that number.

Dimensions: B rows of a batch, T tokens of a row, N tokens of all texts.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Int
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from minillm import checkpoint
from minillm.checkpoint import folder, shipped
from minillm.tokens import END_OF_TEXT, lead_with_end_of_text

__all__ = ["batch_rows", "read_texts", "split_tail", "tokenizer_named", "train_tokenizer"]

_LONG_WORD = re.compile(r"(\S{1000})")


def read_texts(paths: Iterable[str | Path]) -> list[str]:
    """All texts of some UTF-8 files, without the separators and the blanks around them.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is not UTF-8 or holds NUL, or no text at all.
    """
    texts: list[str] = []
    for path in map(Path, paths):
        if not path.is_file():
            raise FileNotFoundError(f"no text file {path}")
        try:
            content = path.read_text(encoding="utf-8-sig")  # without Windows' byte-order mark
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8: byte {error.start} is wrong") from error
        if "\0" in content:
            raise ValueError(f"{path} holds NUL, so it is no text in UTF-8: is it UTF-16?")
        texts += [text.strip() for text in content.split(END_OF_TEXT) if text.strip()]
    if not texts:
        raise ValueError(f"there is no text in {', '.join(map(str, paths))}")
    return texts


def split_tail(texts: Sequence[str], share: float) -> tuple[list[str], list[str]]:
    """Hold out about the last `share` of the characters: whole texts, or the end of a long one.

    >>> split_tail(["a b c d"] * 4, 0.25)
    (['a b c d', 'a b c d', 'a b c d'], ['a b c d'])
    >>> split_tail(["once upon a time"], 0.25)
    (['once upon a'], ['time'])
    """
    head, tail = list(texts), list[str]()
    wanted = int(share * sum(map(len, texts)))
    while head and len(head[-1]) <= wanted:
        tail.insert(0, head.pop())
        wanted -= len(tail[0])
    if not tail:
        long = head.pop()
        cut = len(long) - max(wanted, 1)
        near = long[max(cut - 1000, 0) : cut]  # a word's border, where one is near
        borders = [i for i, character in enumerate(near) if character.isspace()]
        cut -= len(near) - borders[-1] if borders else 0
        head, tail = [*head, long[:cut]], [long[cut:].strip()]
    return head, tail


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> Tokenizer:
    """A byte-level BPE whose token 0, end-of-text, leads every text; the others are bytes or more.

    Training takes time quadratic in the length of a word, so longer ones are cut.

    Raises:
        ValueError: a vocabulary without room for the 256 bytes and end-of-text, or a text too
            small for that many tokens.
    """
    if vocabulary < 257:
        raise ValueError(f"a vocabulary needs at least 257 tokens, got {vocabulary}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    cut = (piece for text in texts for piece in _LONG_WORD.split(text) if piece)
    tokenizer.train_from_iterator(cut, trainer)
    if tokenizer.get_vocab_size() != vocabulary:
        raise ValueError(
            f"the training text is too small for {vocabulary} tokens: it gave "
            f"{tokenizer.get_vocab_size()}; ask for a smaller vocabulary"
        )
    return lead_with_end_of_text(tokenizer)


def tokenizer_named(name: str) -> Tokenizer:
    """The tokenizer of a shipped model or of a folder, made to lead every text with end-of-text.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it cannot be read, or does not know end-of-text.
    """
    path = (folder(name) if name in shipped() else Path(name)) / "tokenizer.json"
    tokenizer = checkpoint.read_tokenizer(path)
    if tokenizer.token_to_id(END_OF_TEXT) is None:
        raise ValueError(f"{path} has no token {END_OF_TEXT}, which starts every text")
    return lead_with_end_of_text(tokenizer)


def batch_rows(
    tokens: Int[Tensor, " N"], context: int, batch: int, seed: int, step: int
) -> Int[Tensor, "B T1"]:
    """The rows of one training step, T + 1 tokens each: T to read, and what follows each of them.

    Raises:
        ValueError: fewer tokens than one row.

    >>> tokens = torch.arange(9)
    >>> sorted(batch_rows(tokens, context=3, batch=3, seed=0, step=0)[:, :-1].flatten().tolist())
    [0, 1, 2, 3, 4, 5, 6, 7, 8]
    """
    count = len(tokens) // context
    if len(tokens) <= context:
        raise ValueError(
            f"the training text has {len(tokens)} tokens, fewer than one row of {context + 1}"
        )
    places = (divmod(step * batch + i, count) for i in range(batch))
    starts = torch.tensor([_starts(count, context, seed, turn)[place] for turn, place in places])
    return tokens[(starts[:, None] + torch.arange(context + 1)) % len(tokens)]


@lru_cache(maxsize=2)
def _starts(count: int, context: int, seed: int, turn: int) -> list[int]:
    """Where the rows of pass `turn` start, in their order."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + turn)
    offset = torch.randint(context, (), generator=generator)
    return (offset + context * torch.randperm(count, generator=generator)).tolist()
