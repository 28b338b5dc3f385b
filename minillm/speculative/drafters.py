"""Where guesses come from: a small model, or the target's own first layers.

A drafter proposes tokens and the distributions it drew them from. It may be wrong at no cost but
time: `minillm.speculative.verification.verify` keeps what comes out exact. The text itself guesses
in `minillm.speculative.prompt_lookup`.

Dimensions: gamma guesses of a round, V vocabulary.

Sources: arXiv 2211.17192 (draft models); arXiv 2404.16710 (early exit).
"""

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from minillm.config import ModelConfig
from minillm.decoding import Model, contiguous
from minillm.ragged import forward_rows
from minillm.sampling import Sampler
from minillm.transformer import Transformer
from minillm.whole import whole

__all__ = ["DraftModel", "Drafter", "Drafting", "Proposal", "early_exit", "warn_not_finite"]


@dataclass(frozen=True)
class Proposal:
    """What a drafter guesses for one row.

    Attributes:
        guesses: tokens that may come next; may be fewer than asked for, or none.
        q: (gamma, V) in float64 on the host, what each of them was drawn from.
    """

    guesses: tuple[int, ...]
    q: Tensor

    def __post_init__(self) -> None:
        if len(self.guesses) != len(self.q):
            raise ValueError(f"{len(self.guesses)} guesses, but {len(self.q)} rows of q")


class Drafting(Protocol):
    """A drafter at work on the rows of one run."""

    def propose(
        self,
        texts: Sequence[Sequence[int]],
        counts: Sequence[int],
        sampler: Sampler,
        u: Sequence[Float[Tensor, " gamma"]],
    ) -> list[Proposal]:
        """At most counts[b] guesses behind each text b, drawn by the uniforms u[b] on the host."""
        ...

    def settle(self, texts: Sequence[Sequence[int]]) -> None:
        """Forget what the round's outcome, these texts, did not keep."""
        ...


class Drafter(Protocol):
    """What `decode_speculative` asks for guesses."""

    def start(self, target: ModelConfig, rows: int, capacity: int) -> Drafting:
        """Begin a run.

        Args:
            target: whose tokens are guessed.
            rows: of the batch.
            capacity: tokens of the longest text, guesses included.
        """
        ...


class DraftModel:
    """Guesses of a model with the target's tokens, on any device; it keeps a cache of its own."""

    def __init__(self, model: Model):
        self.model = model

    def start(self, target: ModelConfig, rows: int, capacity: int) -> Drafting:
        """Begin a run.

        Raises:
            ValueError: a model of another vocabulary, or of a shorter context.
        """
        ours = self.model.config
        if ours.vocab_size != target.vocab_size:
            raise ValueError(
                f"target and draft must share a vocabulary, they have {target.vocab_size} "
                f"and {ours.vocab_size} tokens"
            )
        if ours.max_position_embeddings < target.max_position_embeddings:
            raise ValueError(
                f"the draft's context of {ours.max_position_embeddings} tokens is shorter than "
                f"the target's of {target.max_position_embeddings}"
            )
        return self._begin(rows, capacity)

    def _begin(self, rows: int, capacity: int) -> Drafting:
        return _ModelDrafting(self.model, rows, capacity)


class _ModelDrafting:
    def __init__(self, model: Model, rows: int, capacity: int):
        self.model = model
        self.cache = contiguous(model)(rows, capacity)

    def propose(
        self,
        texts: Sequence[Sequence[int]],
        counts: Sequence[int],
        sampler: Sampler,
        u: Sequence[Tensor],
    ) -> list[Proposal]:
        rows = range(len(texts))
        drawn: list[list[tuple[int, Tensor]]] = [[] for _ in rows]  # of each row: token, q
        held = self.cache.lengths
        unread = [list(texts[b][held[b] :]) if counts[b] else [] for b in rows]
        while active := [b for b in rows if unread[b]]:
            hidden = forward_rows(self.model, unread, self.cache)
            last = torch.stack([hidden[b, len(unread[b]) - 1] for b in active])
            active, logits = _finite(active, self.model.head(last))  # (active rows, V)
            unread = [[] for _ in rows]
            if active:
                now = torch.stack([u[b][len(drawn[b])] for b in active])
                q, tokens = sampler.draw(logits, now)
                for b, token, row in zip(active, tokens.tolist(), q, strict=True):
                    drawn[b].append((token, row))
                    unread[b] = [token] if len(drawn[b]) < counts[b] else []
        return [self._proposal(pairs) for pairs in drawn]

    def _proposal(self, drawn: list[tuple[int, Tensor]]) -> Proposal:
        if not drawn:
            V = self.model.config.vocab_size
            return Proposal((), torch.zeros(0, V, dtype=torch.float64, device="cpu"))
        guesses, q = zip(*drawn, strict=True)
        return Proposal(guesses, torch.stack(q))

    def settle(self, texts: Sequence[Sequence[int]]) -> None:
        held = self.cache.lengths
        self.cache.truncate([min(n, len(text) - 1) for n, text in zip(held, texts, strict=True)])


def _finite(rows: list[int], logits: Tensor) -> tuple[list[int], Tensor]:
    """The rows whose logits are numbers; the others guess no further."""
    best = logits.amax(-1)  # a logit of -inf is a ban
    if best.mul(0).sum().item() == 0:  # NaN times 0, and infinity times 0, are NaN
        return rows, logits
    finite = best.isfinite()
    warn_not_finite()
    return [b for b, good in zip(rows, finite.tolist(), strict=True) if good], logits[finite]


def warn_not_finite() -> None:
    """Of a draft that guesses no further."""
    warnings.warn("the draft's logits are not finite: the target goes on alone", stacklevel=3)


def early_exit(model: Transformer, layers: int) -> Transformer:
    """The model's first layers with its own head: a draft without weights of its own.

    Args:
        model: readable or optimized; its modules are shared.
        layers: how many of them, fewer than it has.

    Raises:
        ValueError: no layer, or not fewer than the model's.
    """
    layers = whole("layers", layers, least=1, most=len(model.blocks) - 1)
    draft = copy.copy(model)
    draft._modules = dict(model._modules) | {"blocks": model.blocks[:layers]}
    draft.config = replace(model.config, num_hidden_layers=layers)
    return draft
