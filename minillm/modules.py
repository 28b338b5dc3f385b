"""A model's modules: what goes through them while it runs, and a copy with some replaced."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from minillm.transformer import Block, Transformer

__all__ = ["gate_outputs", "hooked", "swapped"]


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


def swapped(model: Transformer, replacements: Mapping[nn.Module, nn.Module]) -> Transformer:
    """A twin of `model` that shares its weights and has other modules in some places.

    Args:
        model: stays as it is.
        replacements: by the modules of `model` in whose places they stand.
    """
    if any(type(block) is not Block for block in model.blocks):
        raise ValueError("swap modules of the plain model, then optimize it")
    memo: dict[int, Any] = {id(weight): weight for weight in model.parameters()}
    memo |= {id(old): new for old, new in replacements.items()}
    return copy.deepcopy(model, memo)
