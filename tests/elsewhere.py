"""Apple's device without one: tensors that say "mps", hold their numbers on the CPU, and obey.

Nothing is in float64 there, no operation mixes its tensors with the CPU's, and attention has no
groups of heads. Underneath they are tensors of the meta device, which torch has everywhere.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

__all__ = ["MPS", "elsewhere", "moved"]

MPS, _META = torch.device("mps"), torch.device("meta")
_COPIES = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}


class _There(Tensor):
    """A tensor on the device; `numbers` are its values."""

    numbers: Tensor

    @staticmethod
    def __new__(cls, numbers: Tensor) -> "_There":
        assert numbers.dtype != torch.float64, "there is no float64 on MPS"
        there = Tensor._make_wrapper_subclass(
            cls, numbers.shape, numbers.stride(), dtype=numbers.dtype, device=_META
        )
        there.numbers = numbers
        return there

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), more: Any = None) -> Any:
        return _run(function, args, more or {})


class _Dispatched(TorchDispatchMode):
    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), more: Any = None
    ) -> Any:
        return _run(function, args, more or {})


class _Called(TorchFunctionMode):
    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), more: Any = None
    ) -> Any:
        args, more = tree_map(lambda x: _META if _says_mps(x) else x, (args, more or {}))
        assert not (more.get("enable_gqa") and isinstance(args[0], _There)), "no groups on MPS"
        if function is torch.tensor and more.get("device") == _META:
            return _There(torch.tensor(*args, **more | {"device": "cpu"}))
        if function is Tensor.tolist and isinstance(args[0], _There):
            return args[0].numbers.tolist()
        made = function(*args, **more)
        return MPS if isinstance(made, torch.device) and made == _META else made


def _says_mps(x: Any) -> bool:
    return isinstance(x, torch.device | str) and str(x) == "mps"


@contextmanager
def elsewhere() -> Iterator[None]:
    """What is made on the device meanwhile, is one of its tensors."""
    with patch("torch.inference_mode", torch.no_grad), _Called(), _Dispatched():
        yield  # in inference mode no tensor can be wrapped


def moved(model: Any) -> Any:
    """The model, with its weights there."""
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensors[name] = _There(tensor.detach())
    return model


def _run(function: Any, args: Any, more: dict[str, Any]) -> Any:
    tensors = [x for x in tree_leaves((args, more)) if isinstance(x, Tensor)]
    there = any(isinstance(x, _There) for x in tensors)
    here = any(x.ndim and not isinstance(x, _There) for x in tensors)  # numbers go anywhere
    assert function in _COPIES or not (there and here), f"{function} mixes devices"
    if (device := more.get("device")) is not None:
        there, more = torch.device(device) == _META, more | {"device": "cpu"}
    args_here, more_here = tree_map(
        lambda x: x.numbers if isinstance(x, _There) else x, (args, more)
    )
    made = function(*args_here, **more_here)
    if function._schema.is_mutable:
        return args[0]
    return tree_map(lambda x: _There(x) if there and isinstance(x, Tensor) else x, made)
