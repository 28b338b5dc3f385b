"""A look at what goes through modules while a model runs."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

__all__ = ["hooked"]


@contextmanager
def hooked(modules: Iterable[nn.Module], see: Callable[[Any, Any, Tensor], None]) -> Iterator[None]:
    """Within the block, `see(module, given, made)` follows every call of one of the modules."""
    handles = [module.register_forward_hook(see) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
