"""Numbers that print the same on every machine, and the watch that finds those that would not.

A lesson's outputs are compared with a run elsewhere, where sums round differently. So a lesson
prints a float through `digits`, and text whose numbers are constants (source code, citations)
through `verbatim`. While `minillm notebooks run` re-executes a lesson, a `Watch` notes how close
each printed float came to rounding the other way, and how close each argmax or topk came to
choosing differently. Without a watch nothing is kept.
"""

import json
import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, SupportsFloat

from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["FLOAT", "Watch", "digits", "verbatim", "watch"]

FLOAT = re.compile(
    r"\d[\d,]*\.\d+(?:e[+-]?\d+)?|(?!1e)\d+e[+-]?\d+", re.IGNORECASE
)  # 1e-6: a bound
_NOISE = 1e-12  # a smaller float may be all rounding error


def digits(x: SupportsFloat, n: int = 3) -> str:
    """The text of x to n significant digits, for outputs that are compared.

    Args:
        x: a number.
        n: 1 to 3.

    Raises:
        ValueError: n out of range.

    >>> digits(9.6637), digits(0.5, 1), digits(2359296.0), digits(0.0000123), digits(0)
    ('9.66', '0.5', '2.36e+06', '1.23e-05', '0')
    """
    if n not in (1, 2, 3):
        raise ValueError(f"n must be 1, 2 or 3, got {n}")
    x = float(x)
    text = f"{x:.{n - 1}e}"
    if not math.isfinite(x) or x == 0:
        text = f"{x:.0f}"
    elif -5 < (exponent := int(text.partition("e")[2])) < 6:
        text = f"{float(text):,.{max(n - 1 - exponent, 0)}f}"
    if _watch is not None:
        _watch.keep(text.removeprefix("-"), _to_boundary(x, n))
    return text


def verbatim(text: str) -> str:
    """The text itself; its numbers are constants, not results of this run."""
    if _watch is not None:
        for number in FLOAT.findall(text):
            _watch.keep(number, math.inf)
    return text


def _to_boundary(x: float, n: int) -> float:
    """How far x is, relative to x, from where its n-th digit would round the other way."""
    if not math.isfinite(x) or x == 0:
        return math.inf
    if abs(x) < _NOISE:
        return 0.0
    exact = abs(Decimal(x))
    scaled = exact.scaleb(n - 1 - exact.adjusted())  # n digits before the point
    return float(abs(scaled % 1 - Decimal("0.5")) / scaled)


class Watch(TorchFunctionMode):
    """Notes the floats that `digits` made and, while entered, the narrowest choice of torch.

    Attributes:
        floats: each text that `digits` returned, and how close it came to rounding differently.
        gap: the least distance of an argmax, or relative one of a topk, from choosing differently.
    """

    def __init__(self) -> None:
        super().__init__()
        self.floats: dict[str, float] = {}
        self.gap = math.inf

    def keep(self, text: str, distance: float) -> None:
        self.floats[text] = min(distance, self.floats.get(text, math.inf))

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        gap = _GAPS.get(getattr(func, "__name__", ""))
        if gap is not None:
            self.gap = min(self.gap, gap(*args, **(kwargs or {})))
        return func(*args, **(kwargs or {}))

    def report(self) -> str:
        """JSON of floats and gap, for the process that drives the kernel; the gap starts anew."""
        gap, self.gap = self.gap, math.inf
        return json.dumps({"floats": self.floats, "gap": gap})


def _argmax_gap(input: Tensor, dim: int | None = None, keepdim: bool = False) -> float:
    values, dim = (input.flatten(), 0) if dim is None else (input, dim)
    return _least_step(values, 1, dim)


def _max_gap(input: Tensor, dim: int | Tensor | None = None, keepdim: bool = False) -> float:
    return _least_step(input, 1, dim) if isinstance(dim, int) else math.inf


def _topk_gap(input: Tensor, k: int, dim: int = -1, *_: Any, **__: Any) -> float:
    return _least_step(input, k, dim, relative=True)


def _least_step(values: Tensor, k: int, dim: int, relative: bool = False) -> float:
    """The least difference between neighbours among the k + 1 largest values."""
    if not values.is_floating_point() or values.numel() == 0 or values.shape[dim] < 2:
        return math.inf
    top = values.topk(min(k + 1, values.shape[dim]), dim).values
    step = top.diff(dim=dim).abs()
    if relative:
        step = step / top.narrow(dim, 0, step.shape[dim]).abs()
    return float(step.nan_to_num(nan=0.0).min())  # nan: two that are zero or infinite


_GAPS: dict[str, Callable[..., float]] = {
    "argmax": _argmax_gap,
    "max": _max_gap,
    "topk": _topk_gap,
}
_watch: Watch | None = None


def watch() -> Watch:
    """The watch of this process, started at the first call."""
    global _watch
    _watch = _watch or Watch()
    return _watch
