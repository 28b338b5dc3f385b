"""A model with some of its modules replaced, beside the model as it is."""

import copy
from collections.abc import Mapping
from typing import Any

from torch import nn

from minillm.transformer import Block, Transformer

__all__ = ["swapped"]


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
