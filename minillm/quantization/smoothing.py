"""Outliers among activations, moved into the weights: SmoothQuant.

Some channels of a large model's activations are a hundred times larger than the rest. They set the
step of every token's row, and the rest is rounded to nothing; weights have no such channels. Since
y = (x / s)(W s), a channel may be divided by s if the weights that read it are multiplied by s;
behind a norm the division costs nothing, the norm's own weight takes it. The output stays what it
was, to rounding, and both sides become easy to quantize.

The shipped models are too small to have such channels. `plant_outliers` puts them there by the
same identity the other way round, so that the model in float32 still computes the same.

Dimensions: K inputs of a matrix, C width.

Sources: SmoothQuant (arXiv 2211.10438); the outliers (arXiv 2208.07339).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from minillm.modules import copied, hooked
from minillm.transformer import Transformer
from minillm.whole import wholes

__all__ = ["fold", "input_peaks", "plant_outliers", "smooth", "smoothing_scales"]

_SMALLEST = 1e-5  # of a scale, as in the reference implementation


def _behind_norms(model: Transformer) -> dict[str, str]:
    """The matrices that read a norm's output, with that norm, by their names."""
    pairs = (("attention.qkv", "attention_norm"), ("mlp.gate_up", "mlp_norm"))
    return {
        f"blocks.{i}.{matrix}": f"blocks.{i}.{norm}"
        for i in range(model.config.num_hidden_layers)
        for matrix, norm in pairs
    }


def fold(model: Transformer, scales: Mapping[str, Float[Tensor, " K"]]) -> Transformer:
    """A model whose activations are divided by scales, and its weights multiplied.

    Args:
        model: stays as it is.
        scales: by the names of matrices behind a norm.

    Raises:
        ValueError: a matrix that is not behind a norm; a scale that is not above zero.
    """
    twin, norms = copied(model), _behind_norms(model)
    for name, s in scales.items():
        if name not in norms:
            raise ValueError(f"{name} is not behind a norm: the known ones are {', '.join(norms)}")
        if not (s > 0).all():
            raise ValueError(
                f"{name}: a scale must be above zero, the smallest is {float(s.min())}"
            )
        matrix, norm = twin.get_submodule(name), twin.get_submodule(norms[name])
        weights: Any = matrix.weight, norm.weight
        with torch.no_grad():
            weights[0].mul_(s)
            weights[1].div_(s)
    return twin


def plant_outliers(
    model: Transformer, channels: Sequence[int], factor: float = 50.0
) -> Transformer:
    """A model that computes the same, some channels of its activations `factor` times as large.

    Raises:
        ValueError: a channel that the model does not have.
    """
    C = model.config.hidden_size
    channels = wholes("channels", channels, most=C - 1)
    s = torch.ones(C, device=model.device, dtype=model.dtype)
    s[channels] = 1 / factor
    return fold(model, dict.fromkeys(_behind_norms(model), s))


@torch.no_grad()
def input_peaks(model: Transformer, tokens: Int[Tensor, "B T"]) -> dict[str, Float[Tensor, " K"]]:
    """The largest magnitude in each channel that the matrices behind norms read."""
    names: dict[Any, str] = {model.get_submodule(name): name for name in _behind_norms(model)}
    peaks: dict[str, Tensor] = {}

    def see(module: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        peaks[names[module]] = given[0].abs().amax((0, 1))

    with hooked(names, see):
        model(tokens)
    return peaks


def smoothing_scales(
    peaks: Float[Tensor, " K"], weight: Float[Tensor, "N K"], alpha: float = 0.5
) -> Float[Tensor, " K"]:
    """max|x|^alpha / max|w|^(1 - alpha) of each channel: what activations hand to the weights.

    >>> smoothing_scales(torch.tensor([64.0, 1.0]), torch.tensor([[1.0, 1.0]])).tolist()
    [8.0, 1.0]
    """
    largest = weight.abs().amax(0).clamp_min(_SMALLEST)
    return (peaks.clamp_min(_SMALLEST) ** alpha / largest ** (1 - alpha)).clamp_min(_SMALLEST)


def smooth(
    model: Transformer, peaks: Mapping[str, Float[Tensor, " K"]], alpha: float = 0.5
) -> Transformer:
    """The same function with outliers shared between activations and weights.

    Args:
        model: stays as it is.
        peaks: of a calibration text, from `input_peaks`.
        alpha: 0 leaves most in the activations, 1 moves all into the weights.
    """
    weights: Any = {name: model.get_submodule(name).weight for name in peaks}
    return fold(
        model, {name: smoothing_scales(peaks[name], weights[name], alpha) for name in peaks}
    )
