"""What a config says of the rotary embedding: its base, and how its frequencies are scaled."""

import math
from typing import Any

from minillm.config_fields.checked import checked
from minillm.rope_scaling import RopeScaling

__all__ = ["rope_scaling", "rope_theta"]

_SCALED = ("linear", "llama3", "yarn")


def _rope(fields: dict[str, Any]) -> dict[str, Any]:
    """The options of the rotary embedding.

    Transformers 5 writes `rope_parameters`; before that there was `rope_scaling`, which wins.
    """
    rope: dict[str, Any] = {}
    for name in ("rope_parameters", "rope_scaling"):
        if fields.get(name) is not None:
            rope = checked(name, fields[name], dict) or rope
    if nested := [name for name, value in rope.items() if isinstance(value, dict)]:
        raise ValueError(f"rope options by layer type are not supported, got {nested[0]!r}")
    part = rope.get("partial_rotary_factor", fields.get("partial_rotary_factor"))
    if part is not None and checked("partial_rotary_factor", part, float) != 1:
        raise ValueError(f"partial_rotary_factor={part} is not supported, only 1")
    return rope


def rope_theta(fields: dict[str, Any]) -> Any:
    """The base of the rotation."""
    return _rope(fields).get("rope_theta", fields["rope_theta"])


def rope_scaling(fields: dict[str, Any]) -> RopeScaling | None:
    """How the frequencies change; a factor of 1 changes nothing.

    Raises:
        ValueError: a kind or an option that is not supported, or no number.
    """
    rope = _rope(fields)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind in ("default", "dynamic"):  # which only scales beyond the context
        return None
    if kind not in _SCALED:
        raise ValueError(f"rope type {kind!r} is not supported, only {', '.join(_SCALED)}")

    def number(name: str, default: float | None = None, of: type = float) -> Any:
        given = rope.get(name, default)
        return checked(f"the {name} of rope type {kind!r}", default if given is None else given, of)

    factor, context = number("factor"), fields["max_position_embeddings"]
    context = number("original_max_position_embeddings", context, int)
    if factor == 1 and rope.get("attention_factor") in (None, 1):
        return None
    if kind == "linear":
        return RopeScaling(kind, factor, context)
    if kind == "llama3":
        turns = number("low_freq_factor"), number("high_freq_factor")
        return RopeScaling(kind, factor, context, *turns)
    if refused := [name for name in ("mscale", "mscale_all_dim") if rope.get(name)]:
        raise ValueError(f"rope type 'yarn' with {refused[0]} is not supported")
    attention = number("attention_factor", 0.1 * math.log(factor) + 1 if factor > 1 else 1.0)
    turns, whole = (number("beta_slow", 1.0), number("beta_fast", 32.0)), rope.get("truncate", True)
    return RopeScaling(kind, factor, context, *turns, attention, checked("truncate", whole, bool))
