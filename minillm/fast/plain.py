"""What a compiled loop may rely on: the library's own modules, and plain memory."""

import torch
from torch import Tensor, nn

from minillm.norm import RMSNorm
from minillm.transformer import Transformer

__all__ = ["is_plain", "plain_numbers"]


def plain_numbers(tensor: Tensor) -> bool:
    """Whether a loop may walk over its memory."""
    return tensor.dtype == torch.float32 and tensor.is_cpu and tensor.is_contiguous()


def is_plain(model: Transformer) -> bool:
    """Whether a model is the library's own, part by part, without hooks, in float32 on a CPU."""
    with torch.device("meta"):  # where nothing is drawn
        own = Transformer(model.config)
    parts = {name: _kind(module) for name, module in model.named_modules()}
    return (
        parts == {name: _kind(module) for name, module in own.named_modules()}
        and all(plain_numbers(x) for x in model.state_dict().values())
        and all(
            module.eps == model.config.rms_norm_eps
            for module in model.modules()
            if isinstance(module, RMSNorm)
        )
        and not any(x._forward_hooks or x._forward_pre_hooks for x in model.modules())
    )


def _kind(module: nn.Module) -> tuple[type, list[tuple[str, torch.Size]]]:
    """The type of a module, and the shapes of what it holds itself."""
    held = *module.named_parameters(recurse=False), *module.named_buffers(recurse=False)
    return type(module), [(name, tensor.shape) for name, tensor in held]
