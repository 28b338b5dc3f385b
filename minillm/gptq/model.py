"""A whole model by GPTQ: a calibration text runs through it once, and is rounded for as it passes.

When the text reaches a matrix, its inputs there make the matrix's Hessian; the matrix is rounded,
and the text goes on through the rounded one. So each matrix is calibrated on what the rounded ones
before it really put out ("true sequential" in the authors' code). The matrices of the blocks are
rounded so. The embedding, which looks rows up and has no inputs to sum over, and the head are
rounded to nearest (the paper leaves them in 16 bits); where they are a large share, as in small
models, their own rounding is most of what is lost at 4 bits, and `embed` gives them more. To
nearest is also rounded a matrix whose inputs are all zero, such as behind a relu that never opens;
that is said.

Source: GPTQ (arXiv 2210.17323), with the authors' code (IST-DASLab/gptq).
"""

import warnings
from functools import partial
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from minillm.gptq.columns import gptq
from minillm.gptq.hessian import Hessian
from minillm.quantization.layers import QuantLinear
from minillm.quantization.model import QuantizedTransformer, quantize_model
from minillm.quantization.rounding import Quantized
from minillm.quantization.spec import Spec
from minillm.transformer import Transformer

__all__ = ["gptq_model"]


@torch.no_grad()
def gptq_model(
    model: Transformer,
    tokens: Int[Tensor, "B T"],
    spec: Spec,
    *,
    embed: Spec | None = None,
    damping: float = 0.01,
    act_order: bool = False,
    static_groups: bool = False,
) -> QuantizedTransformer:
    """The matrices of blocks by GPTQ, others to nearest; the naive twin is `quantize_model`.

    Args:
        model: stays as it is.
        tokens: the calibration text, a few times as many tokens as the widest matrix has inputs;
            all of it is in memory at once. Text that the model wrote itself will do
            (`minillm sample`); text that a loss is to be measured on will not.
        spec: of every matrix.
        embed: of the embedding, as in `quantize_model`.
        damping: and what follows, as in `minillm.gptq.columns.gptq`.

    Raises:
        ValueError: an empty text; what `quantize_model` and `gptq` refuse, the matrix named.
    """
    if tokens.ndim != 2 or not tokens.numel():
        raise ValueError(f"a calibration text is (B, T) tokens, got {tuple(tokens.shape)}")
    rounded = quantize_model(model, spec, embed=embed)
    layers = {
        name: x
        for name, x in rounded.named_modules()
        if isinstance(x, QuantLinear) and name != "head"
    }
    widest = max(layer.inputs for layer in layers.values())
    if tokens.numel() < widest:
        warnings.warn(
            f"the calibration text has {tokens.numel()} tokens, fewer than the {widest} inputs of "
            "a matrix: only damping keeps its Hessian from being singular",
            stacklevel=3,
        )
    method = partial(
        gptq, spec=spec, damping=damping, act_order=act_order, static_groups=static_groups
    )

    def round_now(name: str, layer: QuantLinear, inputs: tuple[Tensor, ...]) -> None:
        if not inputs[0].any():
            warnings.warn(f"{name}: all inputs are zero, rounded to nearest", stacklevel=2)
            return
        plain: Any = model.get_submodule(name)
        try:
            _put(layer, method(plain.weight, _hessian(inputs[0])))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error

    handles = [x.register_forward_pre_hook(partial(round_now, name)) for name, x in layers.items()]
    try:
        rounded.hidden(tokens.to(rounded.device))
    finally:
        for handle in handles:
            handle.remove()
    return rounded


def _hessian(x: Tensor) -> Tensor:
    hessian = Hessian(x.shape[-1], x.device)
    for row in x:
        hessian.add(row)
    return hessian.matrix


def _put(layer: QuantLinear, quantized: Quantized) -> None:
    """Give a layer another matrix of the same shape."""
    for name, buffer in QuantLinear(quantized, layer.bias).named_buffers():
        layer.register_buffer(name, buffer)
