"""The tokens of a training run: what is learnt from, what is held out, and where they come from."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer
from torch import Tensor

from minillm.tokens import encode_all, lead_with_end_of_text
from minillm.training.recipe import Recipe
from minillm.training.text_data import read_texts, split_tail, tokenizer_named, train_tokenizer
from minillm.transformer import Transformer

__all__ = ["TrainingData", "describe"]


@dataclass(frozen=True)
class TrainingData:
    """A recipe's text as tokens.

    Attributes:
        tokenizer: made for the training text, or the recipe's.
        tokens: (N,) of the training text.
        validation: (M,) of the held-out text.
        validation_bytes: of its UTF-8, separators not counted.
    """

    tokenizer: Tokenizer
    tokens: Tensor
    validation: Tensor
    validation_bytes: int

    @classmethod
    def read(cls, recipe: Recipe, tokenizer_json: str | None = None) -> "TrainingData":
        """Read the recipe's files; `tokenizer_json` is one to take instead of the recipe's.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is not UTF-8, or the text is too small; a tokenizer without
                end-of-text.
        """
        texts = read_texts(recipe.texts)
        if recipe.validation is None:
            texts, held_out = split_tail(texts, recipe.validation_share)
        else:
            held_out = read_texts([recipe.validation])
        if tokenizer_json is not None:
            tokenizer = lead_with_end_of_text(Tokenizer.from_str(tokenizer_json))
        elif source := recipe.tokenizer or recipe.teacher:
            tokenizer = tokenizer_named(source)
        else:
            tokenizer = train_tokenizer(texts, recipe.vocabulary)
        nbytes = sum(len(text.encode()) for text in held_out)
        return cls(tokenizer, encode_all(tokenizer, texts), encode_all(tokenizer, held_out), nbytes)

    def fingerprints(self, teacher: Transformer | None = None) -> dict[str, str]:
        """Of all that a resumed run must share with its beginning, wherever the files lie now."""
        vocabulary = sorted(self.tokenizer.get_vocab().items())
        parts = {
            "training text": self.tokens.numpy().tobytes(),
            "held-out text": self.validation.numpy().tobytes(),
            "tokenizer": json.dumps(vocabulary).encode(),
            "teacher": b"" if teacher is None else _content(teacher),
        }
        return {name: hashlib.sha256(part).hexdigest() for name, part in parts.items()}


def _content(model: Transformer) -> bytes:
    weights = [weight.detach().float().cpu().numpy().tobytes() for weight in model.parameters()]
    return b"".join([repr(model.config).encode(), *weights])


def describe(path: str) -> dict[str, str | int]:
    """Name, size and fingerprint of a text file, without the place where it lies."""
    content = Path(path).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return {"name": Path(path).name, "bytes": len(content), "sha256": digest}
