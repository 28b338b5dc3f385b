"""The run-time type checker of the test run: beartype, for shapes and types of all signatures."""

import typing
from collections.abc import Callable

from beartype import BeartypeConf, beartype

__all__ = ["typecheck"]

_CONF = BeartypeConf(is_pep484_tower=True)  # an int is a float, as PEP 484 says


def typecheck(function: Callable[..., object]) -> Callable[..., object]:
    """Check calls of `function`; protocols in its signature become checkable at run time."""
    for hint in function.__annotations__.values():
        for part in (hint, *typing.get_args(hint)):
            if getattr(part, "_is_protocol", False):
                typing.runtime_checkable(part)
    return beartype(function, conf=_CONF)
