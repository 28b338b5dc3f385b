"""Everything that decides what training yields: the text, the shape, the optimizers, the length.

One frozen dataclass is at once the command's options, the record beside the weights, and what a
checkpoint must agree with to be resumed. The defaults are the shape and the rates of the shipped
`stories`, without its penalty on the gates.
"""

import argparse
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from minillm.config import ModelConfig

__all__ = ["Recipe"]


def _option(default: Any, text: str, kind: type | None = None, **more: Any) -> Any:
    """A field with what the command says about it."""
    return field(default=default, metadata={"help": text, "type": kind or type(default), **more})


@dataclass(frozen=True)
class Recipe:
    """The options of a training run.

    Raises:
        ValueError: a number outside its range, or more than one of steps, epochs and minutes.
    """

    texts: tuple[str, ...]
    validation: str | None = _option(None, "held-out text file; default: a tail of the text", str)
    validation_share: float = _option(0.01, "size of that tail")
    tokenizer: str | None = _option(None, "reuse the tokenizer of this model or folder", str)
    vocabulary: int = _option(2048, "tokens of a new tokenizer")

    layers: int = _option(8, "transformer blocks")
    width: int = _option(320, "size of the residual stream")
    heads: int = _option(4, "query heads")
    kv_heads: int = _option(2, "key/value heads")
    head_dim: int = _option(64, "size of a head")
    mlp: int = _option(1024, "width of the MLP")
    context: int = _option(512, "tokens of a row")
    activation: str = _option("relu", "of the gate", choices=("relu", "silu", "gelu"))
    untied: bool = _option(False, "give the head a matrix of its own")

    steps: int | None = _option(None, "length of the run in steps", int)
    epochs: float | None = _option(None, "or in passes over the text (default: 1)", float)
    minutes: float | None = _option(None, "or in time; such a run does not repeat exactly", float)
    batch: int = _option(8, "rows of a step")
    seed: int = _option(0, "of the first weights and the order of the rows")
    muon_lr: float = _option(0.02, "learning rate of the matrices in the layers")
    muon_momentum: float = _option(0.95, "their momentum")
    muon_decay: float = _option(0.1, "their weight decay")
    adam_lr: float = _option(6e-3, "learning rate of embeddings, head and norms (AdamW)")
    adam_decay: float = _option(0.01, "their weight decay")
    warmup: int = _option(40, "steps until the learning rates are reached")
    decay_fraction: float = _option(0.5, "share of the run, its last, that lowers them to zero")
    clip: float = _option(1.0, "largest norm of the gradient")
    init_std: float = _option(0.02, "standard deviation of the first weights")
    dtype: str = _option(
        "float32", "of products; bfloat16 is for cards", choices=("float32", "bfloat16")
    )

    teacher: str | None = _option(None, "model or folder to distil from", str)
    cross_entropy_weight: float = _option(0.1, "beside the distance to the teacher")
    gate_l1: float = _option(0.0, "weight of the L1 penalty on the gates' outputs")

    def __post_init__(self) -> None:
        counts = ("layers", "width", "heads", "kv_heads", "head_dim", "mlp", "context", "batch")
        rates = ("muon_lr", "adam_lr", "clip", "init_std")
        weights = ("muon_decay", "adam_decay", "warmup", "cross_entropy_weight", "gate_l1", "seed")
        lengths = ("steps", "epochs", "minutes")
        given = [name for name in lengths if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"give one length of the run, not {' and '.join(given)}")
        ranges: tuple[tuple[tuple[str, ...], Callable[[float], bool], str], ...] = (
            (counts, lambda x: x >= 1, "at least 1"),
            ((*rates, *given), lambda x: 0 < x < float("inf"), "above 0"),
            (weights, lambda x: 0 <= x < float("inf"), "at least 0"),
            (("muon_momentum",), lambda x: 0 <= x < 1, "from 0 to below 1"),
            (("decay_fraction",), lambda x: 0 <= x <= 1, "from 0 to 1"),
            (("validation_share",), lambda x: 0 < x <= 0.5, "above 0 and at most 0.5"),
        )
        for names, good, wanted in ranges:
            for name in names:
                if not good(getattr(self, name)):
                    raise ValueError(f"{name} must be {wanted}, got {getattr(self, name)}")

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """An option for each field; one that is not given leaves no trace in the namespace."""
        parser.add_argument(
            "texts",
            nargs="*",
            default=argparse.SUPPRESS,
            metavar="TEXT",
            help="UTF-8 files; <|endoftext|> separates texts, wherever it stands",
        )
        for option in fields(cls)[1:]:
            kind, choices = option.metadata["type"], option.metadata.get("choices")
            text = option.metadata["help"]
            if option.default not in (None, False):
                text += f" (default: {option.default})"
            how: dict[str, Any] = {"type": kind, "choices": choices}
            if choices is None:
                how["metavar"] = kind.__name__.upper()
            if kind is bool:
                how = {"action": "store_true"}
            name = "--" + option.name.replace("_", "-")
            parser.add_argument(name, default=argparse.SUPPRESS, help=text, **how)

    def command(self, out: str) -> str:
        """The command line that this recipe came from, options at their default left out.

        >>> print(Recipe(("a.txt", "my text.txt"), layers=2, untied=True).command("small"))
        minillm train a.txt 'my text.txt' --out small --layers 2 --untied
        """
        words = ["minillm", "train", *self.texts, "--out", out]
        for option in fields(self)[1:]:
            value = getattr(self, option.name)
            if value != option.default:
                words.append("--" + option.name.replace("_", "-"))
                words += [] if value is True else [str(value)]
        return shlex.join(words)

    def model_config(self, vocabulary: int) -> ModelConfig:
        """The shape of the model for a tokenizer of `vocabulary` tokens."""
        return ModelConfig(
            vocab_size=vocabulary,
            hidden_size=self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            head_dim=self.head_dim,
            intermediate_size=self.mlp,
            max_position_embeddings=self.context,
            hidden_act=self.activation,  # type: ignore[arg-type]
            tie_word_embeddings=not self.untied,
        )

    def rate(self, step: int, done: float) -> float:
        """What the learning rates are multiplied with: a ramp, a plateau, a ramp.

        Args:
            step: steps taken before this one.
            done: share of the run that lies behind, 0 to 1.

        >>> recipe = Recipe(("text",), warmup=4)
        >>> [recipe.rate(step, step / 16) for step in (0, 1, 3, 8, 12, 15)]
        [0.25, 0.5, 1.0, 1.0, 0.5, 0.125]
        """
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        fall = min(1.0, (1 - done) / self.decay_fraction) if self.decay_fraction else 1.0
        return rise * max(fall, 0.0)
