"""How far rounding takes a model from its original, and whether the texts suffice to say so.

The loss asks about one token at each place, the one that follows. Rounding raises it here and
lowers it there, and a mean over few texts may have either sign. KL(original || model) asks about
all tokens that could follow: it is zero only where both models say the same, never below, and far
less noisy.

Tokens of one text resemble each other, so what is drawn at random is a text. `interval` is a
*percentile bootstrap*: from n texts draw n with replacement, take the mean a token, and do so two
thousand times; the middle 95 % of these means is the interval. Two models are compared on the same
texts, by the interval of their *difference*: what makes a text hard is hard for both. Where it
holds 0, the texts do not decide which model is better.

    >>> harder = torch.tensor([3.0, 1.0, 2.0, 2.0])  # nats more than the other model, by text
    >>> found = interval(harder, torch.tensor([10, 10, 10, 10]))
    >>> found.mean, found.decided
    (0.2, True)

Source: B. Efron and R. Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from minillm.transformer import Transformer
from minillm.whole import whole

__all__ = ["ByText", "Interval", "divergences", "interval"]

_DRAWS = 2000
_CONTEXT = 1024  # tokens of a row
_NUMBERS = 1 << 26  # of probabilities that a model's pass may keep


@dataclass(frozen=True)
class Interval:
    """A mean a token, and the middle 95 % of what other texts could have made of it."""

    mean: float
    low: float
    high: float

    @property
    def decided(self) -> bool:
        """Whether the sign of the mean is that of the whole interval."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        """The mean, in brackets the interval, and whether it holds 0."""
        undecided = "" if self.decided else ", not decided"
        return f"{self.mean:+.4f} ({self.low:+.4f} to {self.high:+.4f}){undecided}"


@dataclass(frozen=True)
class ByText:
    """A model beside its original: sums over the tokens of each text, in nats.

    Attributes:
        tokens: how many were predicted: all of a text but its first.
        loss: surprise of the model.
        added: the loss less that of the original.
        kl: KL(original || model).
    """

    tokens: Int[Tensor, " texts"]
    loss: Float[Tensor, " texts"]
    added: Float[Tensor, " texts"]
    kl: Float[Tensor, " texts"]


def interval(
    sums: Float[Tensor, " texts"], tokens: Int[Tensor, " texts"], *, seed: int = 0
) -> Interval:
    """The mean a token of what was summed by text; with a dozen texts it is a little too narrow.

    Raises:
        ValueError: fewer than two texts.
    """
    if len(sums) < 2:
        raise ValueError(f"an interval over texts needs at least two of them, got {len(sums)}")
    source = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(sums), (_DRAWS, len(sums)), generator=source)
    means = sums.double()[drawn].sum(-1) / tokens[drawn].sum(-1)
    low, high = means.quantile(means.new_tensor([0.025, 0.975])).tolist()
    return Interval(float(sums.double().sum() / tokens.sum()), low, high)


@torch.no_grad()
def divergences(
    original: Transformer,
    models: Mapping[str, Transformer],
    texts: Sequence[Sequence[int]],
    batch: int = 8,
) -> dict[str, ByText]:
    """Of each model on each text, read from its first token in rows of the context or 1,024 tokens.

    Raises:
        ValueError: no text, or one of fewer than two tokens; or a batch of no row.
    """
    if not texts or min(map(len, texts)) < 2:
        raise ValueError("texts to compare models on need at least two tokens each")
    context = min(original.config.max_position_embeddings, _CONTEXT)
    rows = [
        (place, torch.tensor(text[start : start + context + 1]))
        for place, text in enumerate(texts)
        for start in range(0, len(text) - 1, context)
    ]
    longest = max(len(row) for _, row in rows)
    most = max(1, _NUMBERS // (longest * original.config.vocab_size))
    batch = min(whole("batch", batch, least=1), most)
    before = torch.zeros(len(texts), dtype=torch.float64)
    loss, kl = ({name: before.clone() for name in models} for _ in range(2))
    for first in range(0, len(rows), batch):
        places, cut = zip(*rows[first : first + batch], strict=True)
        padded = pad_sequence(list(cut), batch_first=True)  # on the right, where no token looks
        lengths = torch.tensor([len(row) - 1 for row in cut])
        real = torch.arange(padded.shape[1] - 1) < lengths[:, None]
        text = torch.tensor(places).repeat_interleave(lengths)
        read, follow = padded[:, :-1], padded[:, 1:][real][:, None]
        log_p = _log_probabilities(original, read, real)
        p = log_p.exp()
        before.index_add_(0, text, -log_p.gather(-1, follow)[:, 0])
        for name, model in models.items():
            log_q = _log_probabilities(model, read, real)
            loss[name].index_add_(0, text, -log_q.gather(-1, follow)[:, 0])
            kl[name].index_add_(0, text, (p * (log_p - log_q)).sum(-1))
    tokens = torch.tensor([len(text) - 1 for text in texts])
    return {name: ByText(tokens, loss[name], loss[name] - before, kl[name]) for name in models}


def _log_probabilities(
    model: Transformer, read: Int[Tensor, "B T"], real: Bool[Tensor, "B T"]
) -> Float[Tensor, "real V"]:
    return model(read.to(model.device)).cpu()[real].double().log_softmax(-1)
