"""Values that a JSON file gives, of the kind that is asked for."""

import math
from sys import float_info
from typing import Any

__all__ = ["checked"]

_KINDS = {
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    str: "a text",
    dict: "an object",
    list: "a list",
}


def checked(name: str, value: Any, kind: type) -> Any:
    """A field's value, if it is of a kind; a whole number is a number too, a bool is neither.

    Raises:
        ValueError: it is of another kind, or not finite.
    """
    if kind is float and type(value) is int and abs(value) <= float_info.max:
        value = float(value)
    if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"{name} must be {_KINDS[kind]}, got {value!r}")
    return value
