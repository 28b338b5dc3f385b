"""What a card does: `minillm bench --device cuda` writes one record of it, which the lessons show.

Four parts, each a lesson's question. In the shape of an 8B model (`large`), tokens: how long do m
tokens take (lesson 03)? matrices: does a product in few bits take less time (10)? With the shipped
models (`texts`), guesses: does speculation pay when many texts are written at once (05)? batches:
is a text the same whatever is beside it (01)?
"""

from typing import Any

import torch
from tqdm import tqdm

from minillm.bench.card.large import matrices, tokens
from minillm.bench.card.texts import batches, guesses
from minillm.config import ModelConfig

__all__ = ["card", "measure_card"]


def card(name: str) -> torch.device:
    """The device of that name, such as cuda.

    Raises:
        ValueError: it is no card, or this torch does not see it.
    """
    if name.partition(":")[0] in ("cpu", "meta"):
        raise ValueError(f"{name} is no card; without --device the rows are measured on the CPU")
    try:
        return torch.empty(1, device=name).device
    except (RuntimeError, AssertionError) as error:  # torch built without, or no card in it
        raise ValueError(f"this torch sees no device {name}") from error


def measure_card(device: torch.device, shape: ModelConfig) -> dict[str, Any]:
    """Measure all parts, in some minutes.

    Args:
        device: the card.
        shape: of the large model, see `minillm.bench.card.large.fitting`.

    Returns:
        What `minillm.measure.card.recorded_card` reads.
    """
    parts = {
        "tokens": lambda: tokens(device, shape),
        "guesses": lambda: guesses(device),
        "matrices": lambda: matrices(device, shape),
        "batches": lambda: batches(device),
    }
    bar = tqdm(parts.items(), unit="part", leave=False, disable=None)
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "torch": torch.__version__,
        "dtype": "bfloat16",
        "layers": shape.num_hidden_layers,
        "parts": {name: list(measure()) for name, measure in bar},
    }
