"""The same model, faster: modules swapped for others that fit the machine.

`optimized(model)` shares the model's weights and its one forward pass. On a CPU in float32 the
matrices get the kernels that win a race on this machine (`minillm.fast.linear`), and what lies
between two of them in a block becomes a single call (`minillm.fast.block`). Elsewhere nothing needs
swapping, and it is the readable model. The naive twin is the model itself: logits agree to 1e-4.
"""

from typing import Any, NoReturn

import torch
from torch import nn

from minillm.fast.block import FusedBlock, FusedNorm
from minillm.fast.linear import FastLinear, available, race
from minillm.modules import copied
from minillm.norm import RMSNorm
from minillm.transformer import MLP, Transformer

__all__ = ["optimized"]


def optimized(
    model: Transformer, kernel: str | None = None, *, compiled: bool = False
) -> Transformer:
    """A copy of `model` for inference, which shares its weights or lays out copies of them.

    Change weights and move the model before: the copy does not see it afterwards. Blocks with
    hooks, or with modules of one's own, stay as they are.

    Args:
        model: stays as it is. Move it to its device and dtype first.
        kernel: of all matrices (see `minillm.fast.linear.available`); by default the fastest of
            each.
        compiled: norms and MLPs go through `torch.compile`, which fuses their small operations:
            meant for cards; it needs a compiler, and some seconds at the first tokens.

    Raises:
        ValueError: an unknown kernel.
    """
    if kernel is not None and kernel not in available():
        raise ValueError(f"kernel must be one of {', '.join(available())}, got {kernel!r}")
    shared = {
        weight: nn.Parameter(weight.detach(), requires_grad=False) for weight in model.parameters()
    }
    fast = copied(model, shared).eval()
    if compiled:
        for module in fast.modules():
            if isinstance(module, (RMSNorm, MLP)):
                module.compile(dynamic=True)
    elif fast.device.type == "cpu" and fast.dtype == torch.float32:
        _swap_linears(fast, kernel)
        _fuse_blocks(fast)
        fast._apply = stay  # type: ignore[method-assign]
    return fast


def _swap_linears(fast: Transformer, kernel: str | None) -> None:
    """Matrices of one shape share a kernel, chosen on the first of them."""
    linears = {name: x for name, x in fast.named_modules() if _is_bare(x)}
    first = {linear.weight.shape: linear for linear in reversed(linears.values())}
    chosen = [kernel] * len(first) if kernel else race(list(first.values()))
    winners = dict(zip(first, chosen, strict=True))
    for name, linear in linears.items():
        fast.set_submodule(name, FastLinear(linear, winners[linear.weight.shape]))


def _is_bare(module: nn.Module) -> bool:
    return type(module) is nn.Linear and not (module._forward_hooks or module._forward_pre_hooks)


def stay(*args: Any, **kwargs: Any) -> NoReturn:
    raise ValueError("an optimized model stays where it is: move the model, then optimize it")


def _fuse_blocks(fast: Transformer) -> None:
    for index, block in enumerate(fast.blocks):
        if FusedBlock.fits(block):
            fast.blocks[index] = FusedBlock(block)
    if FusedNorm.fits(fast.norm):
        fast.set_submodule("norm", FusedNorm(fast.norm))
