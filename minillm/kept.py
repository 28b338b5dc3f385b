"""Tensors that are made once: whoever asks gets copies, so that nobody changes what others get."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar

import torch

__all__ = ["kept"]

Made = TypeVar("Made")


def kept(make: Callable[..., Made]) -> Callable[..., Made]:
    """Cache what a function makes, a tensor or a named tuple of tensors.

    It is made outside inference mode, whose tensors could not be used elsewhere.
    """

    @lru_cache(maxsize=256)
    def once(*given: Any, **named: Any) -> Any:
        with torch.inference_mode(False):
            return make(*given, **named)

    @wraps(make)
    def copied(*given: Any, **named: Any) -> Any:
        made = once(*given, **named)
        return type(made)(*map(torch.clone, made)) if isinstance(made, tuple) else made.clone()

    return copied
