"""How well a model predicts a text, and how much of its MLPs stays silent meanwhile.

Loss is in nats a token, which depends on the vocabulary: longer tokens are harder. Bits a byte
divide the surprise of the whole text by its length in bytes and compare across vocabularies.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from minillm.modules import gate_outputs
from minillm.transformer import Transformer
from minillm.whole import whole

__all__ = ["Evaluation", "evaluate"]

_CONTEXT = 1024  # tokens of a row
_NUMBERS = 1 << 26  # of gates and logits that a pass may keep


@dataclass(frozen=True)
class Evaluation:
    """A model's figures on one text.

    Attributes:
        loss: mean surprise, in nats a token; end-of-text tokens count, the first token does not.
        tokens: how many tokens were predicted.
        gate_zeros: by layer, the share of the gate's outputs that are exactly zero.
    """

    loss: float
    tokens: int
    gate_zeros: tuple[float, ...]

    def bits_per_byte(self, nbytes: int) -> float:
        """The surprise of the whole text over its `nbytes` bytes of UTF-8.

        >>> Evaluation(loss=2 * math.log(2), tokens=10, gate_zeros=()).bits_per_byte(20)
        1.0
        """
        return self.loss * self.tokens / math.log(2) / nbytes


@torch.no_grad()
def evaluate(model: Transformer, tokens: Int[Tensor, " N"], batch: int = 8) -> Evaluation:
    """Predict each token from those before it in its row, of the context or 1,024 tokens.

    Raises:
        ValueError: fewer than two tokens, or one outside the vocabulary; or a batch of no row.
    """
    config = model.config
    context = min(config.max_position_embeddings, _CONTEXT)
    kept = config.num_hidden_layers * config.intermediate_size + config.vocab_size  # by a token
    count, batch = len(tokens) - 1, whole("batch", batch, least=1)
    batch = max(1, min(batch, _NUMBERS // (context * kept)))
    if count < 1:
        raise ValueError(f"a text to evaluate on needs at least two tokens, got {len(tokens)}")
    largest, vocabulary = int(tokens.max()), config.vocab_size
    if not 0 <= int(tokens.min()) <= largest < vocabulary:
        raise ValueError(f"tokens must be from 0 to {vocabulary - 1}, got {largest}")
    full = count // context * context  # the rest is one shorter row
    read = [*_rows(tokens[:full], context, batch), tokens[None, full:count]]
    follow = [*_rows(tokens[1 : full + 1], context, batch), tokens[None, full + 1 :]]
    surprise, zeros = 0.0, torch.zeros(config.num_hidden_layers, dtype=torch.float64)
    for rows, targets in zip(read, follow, strict=True):
        if not rows.numel():
            continue
        with gate_outputs(model) as gates:
            logits = model(rows.to(model.device)).flatten(0, 1).float()
        surprise += F.cross_entropy(
            logits, targets.flatten().to(model.device), reduction="sum"
        ).item()
        for layer, gate in enumerate(gates):
            zeros[layer] += rows.numel() * (gate == 0).float().mean().item()
    return Evaluation(surprise / count, count, tuple((zeros / count).tolist()))


def _rows(tokens: Tensor, context: int, batch: int) -> list[Tensor]:
    size = context * batch
    return [tokens[i : i + size].view(-1, context) for i in range(0, len(tokens), size)]
