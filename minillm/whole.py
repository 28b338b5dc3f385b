"""Whole numbers at the public edges: 3, or a tensor or NumPy number that holds it; never True."""

from operator import index
from typing import Any

__all__ = ["whole", "wholes"]


def whole(name: str, value: Any, least: int = 0, most: int | None = None) -> int:
    """The value as an int, for the argument `name`.

    Raises:
        ValueError: no whole number, or one outside `least` to `most`.

    >>> whole("layers", 3, least=1, most=5)
    3
    """
    try:
        number = index(value)
    except TypeError as error:
        raise ValueError(f"{name} must be a whole number, got {value!r}") from error
    if isinstance(value, bool):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    if number < least or (most is not None and number > most):
        span = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be {span}, got {number}")
    return number


def wholes(name: str, values: Any, least: int = 0, most: int | None = None) -> list[int]:
    """All values as ints; see `whole`.

    Raises:
        ValueError: as `whole`; or values that are none.
    """
    try:
        return [whole(name, value, least, most) for value in values]
    except TypeError as error:
        raise ValueError(f"{name} must be whole numbers, got {values!r}") from error
