"""What a pass computes: sinks, massive activations, zeros of the gates, outliers among the keys.

Dimensions: L layers, B texts, T tokens, G key/value heads, D head dim, C width.

Sources: sinks, StreamingLLM (arXiv 2309.17453); massive activations (arXiv 2402.17762); keys by
channel and values by token, KIVI (arXiv 2402.02750).
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from minillm.attention import Attend
from minillm.modules import hooked
from minillm.public_model.subject import Subject
from minillm.quantization.rounding import dequantize, quantize
from minillm.quantization.spec import Spec
from minillm.sparsity.counting import observe, share_below

__all__ = [
    "FIRST",
    "key_outliers",
    "key_rounding",
    "massive",
    "massive_places",
    "rounding_error",
    "sinks",
    "value_rounding",
    "zeros",
]

FIRST = 16  # queries before this one see few keys, and the first of them has a large share anyway
_SMALL = 0.01  # of a token's largest gate
_INT4 = Spec("int4", 32, symmetric=False)


def sinks(subject: Subject) -> dict[int, float]:
    """By layer: the share of its attention that a query gives the text's first token."""
    weights = observe(subject.model, subject.texts).weights  # (L, B, H, T, S)
    return _by_layer(weights[:, :, :, FIRST:, 0].mean((1, 2, 3)))


def massive(subject: Subject) -> dict[int, float]:
    """By layer: the largest number behind it, in medians of the magnitude."""
    sizes = [hidden.abs() for hidden in _made(subject)]
    return _by_layer(torch.stack([size.amax() / size.median() for size in sizes]))


def massive_places(subject: Subject) -> dict[int, float]:
    """By layer: at which token of its text the largest number stands; 0 is the first."""
    largest = [hidden.abs().amax((0, 2)).argmax() for hidden in _made(subject)]
    return _by_layer(torch.stack(largest))


def _made(subject: Subject) -> list[Float[Tensor, "B T C"]]:
    """What each layer hands on."""
    made = list[Tensor]()
    with torch.no_grad(), hooked(subject.model.blocks, lambda _, given, x: made.append(x)):
        subject.model.hidden(subject.texts)
    return made


def zeros(subject: Subject) -> dict[str, float]:
    """Of the gates, the share that is 0, and the share within 1 % of the token's largest."""
    gates = observe(subject.model, subject.texts).gates
    small = share_below(gates, _SMALL, of_maximum=True).mean().item()
    return {"exactly 0": share_below(gates, 0).mean().item(), "below 1 %": small}


def key_rounding(subject: Subject) -> dict[str, float]:
    """The relative error of keys in 4 bits, if a scale is shared along a token or a channel."""
    return _rounding(subject, 1)


def value_rounding(subject: Subject) -> dict[str, float]:
    """As `key_rounding`, of the values."""
    return _rounding(subject, 2)


def key_outliers(subject: Subject) -> dict[int, float]:
    """By layer: of a head's keys, the largest channel in medians; the mean over its heads."""
    sizes = [keys.square().mean((0, 2)).sqrt() for keys in _attended(subject, 1)]  # (G, D)
    return _by_layer(
        torch.stack([(size.amax(-1) / size.median(-1).values).mean() for size in sizes])
    )


def _rounding(subject: Subject, which: int) -> dict[str, float]:
    layers = _attended(subject, which)
    along = {"token": layers, "channel": [x.transpose(-1, -2).contiguous() for x in layers]}
    return {name: sum(map(rounding_error, parts)) / len(parts) for name, parts in along.items()}


def rounding_error(x: Float[Tensor, "*rows n"]) -> float:
    """Of numbers in 4 bits, 32 neighbours of a row to a scale: the error's square in theirs.

    >>> flat, spiky = torch.linspace(1, 2, 32), torch.tensor([1.0] * 31 + [100.0])
    >>> rounding_error(flat[None]) < 1e-3
    True
    """
    rows = x.reshape(-1, x.shape[-1])
    error = dequantize(quantize(rows, _INT4)) - rows
    return (error.square().sum() / rows.square().sum()).item()


def _attended(subject: Subject, which: int) -> list[Float[Tensor, "B G T D"]]:
    """By layer, what attention was given: queries 0, keys 1, values 2."""
    given = list[Tensor]()

    def see(module: Attend, handed: Any, mixed: Tensor) -> None:
        given.append(handed[which])

    attends = [module for module in subject.model.modules() if isinstance(module, Attend)]
    with torch.no_grad(), hooked(attends, see):
        subject.model.hidden(subject.texts)
    return given


def _by_layer(values: Tensor) -> dict[int, float]:
    return dict(enumerate(values.tolist(), start=1))
