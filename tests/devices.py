"""Apple's device without one: tensors of the CPU that say they are on "mps", and obey its rules.

Nothing is in float64 there, no operation mixes its tensors with those of the CPU, and attention
has no groups of heads.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

__all__ = ["MPS", "elsewhere", "moved"]

MPS, CPU = torch.device("mps"), torch.device("cpu")


class _There(Tensor):
    """A tensor on the device."""


class _Elsewhere(TorchFunctionMode):
    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), more: Any = None
    ) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            return _run(function, args, more or {})


def _run(function: Any, args: Any, more: dict[str, Any]) -> Any:
    """Call a function of torch's, on the CPU; what it makes of the device's tensors is there."""
    leaves = tree_leaves((args, more))
    there = any(isinstance(x, _There) for x in leaves)
    here = any(isinstance(x, Tensor) and not isinstance(x, _There) and x.ndim for x in leaves)
    wanted = [x for x in leaves if isinstance(x, torch.device)]
    assert wanted or function is Tensor.cpu or not (there and here), f"{function} mixes devices"
    assert not (there and more.get("enable_gqa")), "no groups of heads on MPS"
    made = function(*tree_map(_bare, args), **tree_map(_bare, more))
    if function is Tensor.cpu or CPU in wanted:
        return made
    return tree_map(_wrapped, made) if there or wanted else made


def _bare(x: Any) -> Any:
    if isinstance(x, _There):
        return x.as_subclass(Tensor)
    return CPU if isinstance(x, torch.device) else x


def _wrapped(x: Any) -> Any:
    if not isinstance(x, Tensor):
        return MPS if isinstance(x, torch.device) else x
    assert x.dtype != torch.float64, "there is no float64 on MPS"
    return x.as_subclass(_There)


@contextmanager
def elsewhere(wait: Callable[[torch.device], None] = lambda device: None) -> Iterator[None]:
    """What is made on the device meanwhile is one of its tensors; `wait` is what waits for it."""
    with patch("torch.accelerator.synchronize", wait), _Elsewhere():
        yield


def moved(model: Any) -> Any:
    """The model, with its weights there."""
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensors[name] = _wrapped(tensor.detach())
    return model
