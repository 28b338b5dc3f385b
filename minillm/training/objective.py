"""What training makes small: the surprise at the next token, or the distance to a teacher.

Cross-entropy asks the model for the token that came. Distillation asks it for the teacher's whole
distribution, which says more per token: a draft that agrees with its target is accepted more
often. An L1 penalty on what the gates let through asks for zeros, so that a sparse MLP has rows to
skip.

Dimensions: B rows, T tokens of a row, V vocabulary, F MLP width.

Sources: distillation (arXiv 1503.02531); sparsity by an L1 penalty (arXiv 2402.13516).
"""

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from minillm.modules import gate_outputs
from minillm.transformer import Transformer

__all__ = ["distance_to", "training_loss"]


def training_loss(
    model: Transformer,
    rows: Int[Tensor, "B T1"],
    *,
    teacher: Transformer | None = None,
    cross_entropy_weight: float = 0.1,
    gate_l1: float = 0.0,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """What to minimise, and the plain cross-entropy in nats a token.

    Args:
        model: the student.
        rows: T + 1 tokens each, of which the first T are read.
        teacher: with one, its distance plus `cross_entropy_weight` of the cross-entropy counts.
        cross_entropy_weight: only used with a teacher.
        gate_l1: weight of the gates' mean absolute output.
    """
    tokens = rows[:, :-1]
    watch: AbstractContextManager[list[Tensor]] = nullcontext([])
    with gate_outputs(model) if gate_l1 else watch as gates:
        logits = model(tokens)  # (B, T, V)
    cross_entropy = F.cross_entropy(logits.flatten(0, 1).float(), rows[:, 1:].flatten())
    loss = cross_entropy
    if teacher is not None:
        with torch.no_grad():
            wanted = teacher(tokens)
        loss = distance_to(wanted, logits) + cross_entropy_weight * cross_entropy
    if gate_l1:
        loss = loss + gate_l1 * torch.stack([gate.abs().mean() for gate in gates]).mean()
    return loss, cross_entropy.detach()


def distance_to(
    wanted: Float[Tensor, "B T V"], logits: Float[Tensor, "B T V"]
) -> Float[Tensor, ""]:
    """KL(teacher || student) in nats a token, both given as logits.

    >>> same = torch.randn(1, 2, 3)
    >>> abs(distance_to(same, same + 1).item()) < 1e-6
    True
    """
    teacher, student = wanted.float().log_softmax(-1), logits.float().log_softmax(-1)
    return F.kl_div(
        student.flatten(0, 1), teacher.flatten(0, 1), log_target=True, reduction="batchmean"
    )
