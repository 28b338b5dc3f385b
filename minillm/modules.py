"""A model's modules: what goes through them while it runs, and a copy with some replaced."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from jaxtyping import Float
from torch import Tensor, nn

from minillm.transformer import Block, Transformer

__all__ = ["copied", "gate_outputs", "hooked", "swapped"]

_Model = TypeVar("_Model", bound=nn.Module)


@contextmanager
def hooked(modules: Iterable[nn.Module], see: Callable[[Any, Any, Tensor], None]) -> Iterator[None]:
    """Within the block, `see(module, given, made)` follows every call of one of the modules."""
    handles = [module.register_forward_hook(see) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def gate_outputs(model: nn.Module) -> Iterator[list[Float[Tensor, "B T F"]]]:
    """Within the block, what each layer's gate lets through, in the order of the forward passes."""
    seen: list[Tensor] = []
    acts = [module.act for name, module in model.named_modules() if name.endswith(".mlp")]
    with hooked(acts, lambda module, given, made: seen.append(made)):
        yield seen


def copied(model: _Model, replaced: Mapping[Any, Any] | None = None) -> _Model:
    """A copy with tensors of its own; `model` stays as it is.

    Args:
        replaced: tensors and modules of `model`, with what stands in their places in the copy; a
            tensor with itself is shared.
    """
    return copy.deepcopy(model, {id(old): new for old, new in (replaced or {}).items()})


def swapped(model: Transformer, replacements: Mapping[nn.Module, nn.Module]) -> Transformer:
    """A twin of `model` that shares its weights and has other modules in some places.

    Args:
        model: stays as it is.
        replacements: by the modules of `model` in whose places they stand.
    """
    own_pass = type(model).hidden is not Transformer.hidden
    if own_pass or any(type(block) is not Block for block in model.blocks):
        raise ValueError("swap modules of the plain model, then optimize it")
    return copied(model, {weight: weight for weight in model.parameters()} | dict(replacements))
