"""A look at what goes through modules while a model runs."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["gate_outputs", "hooked"]


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
