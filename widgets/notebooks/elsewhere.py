"""Another machine, imitated: its sums round differently, and its clock shows that it is busy.

What a lesson states in compared cells must hold on any processor, and know no clock. A processor
differs in how it orders sums and in its approximations of e^x: each float result of a matrix
product, softmax, norm, reduction or elementary function changes by its rounding, and with it what
an argmax chooses. A busy machine differs in its times: any interval may last 50 times as long.
`minillm notebooks run` runs each lesson on several such machines and refuses one whose compared
outputs change.

One machine agrees with itself: the same operation on the same shapes is off by the same factors.
Exact results stay: whole numbers that the type counts one by one, and what leaves the last bits of
a number zero.
"""

import time
import zlib
from collections.abc import Callable
from itertools import cycle
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["BusyClock", "Rounding", "move"]

NOISE = {torch.float32: 3e-7, torch.float64: 1e-15}  # relative, of the size of rounding
SLOWER = 50

_CLOCKS = ("perf_counter", "perf_counter_ns", "process_time", "process_time_ns", "time", "time_ns")
_BANK = 1 << 16
_LOW_BITS = {torch.float32: (torch.int32, 2**8 - 1), torch.float64: (torch.int64, 2**21 - 1)}
_COUNTED = {torch.float32: 2**24, torch.float64: 2**53}  # whole numbers up to it are all there

_ROUNDED = {
    "matmul",
    "mm",
    "bmm",
    "mv",
    "dot",
    "inner",
    "vdot",
    "tensordot",
    "einsum",
    "linear",
    "addmm",
    "addmv",
    "addbmm",
    "baddbmm",
    "bilinear",
    "_linear_pointwise",
    "_weight_int8pack_mm",
    "conv1d",
    "conv2d",
    "scaled_dot_product_attention",
    "cosine_similarity",
    "cdist",
    "cov",
    "corrcoef",
    "softmax",
    "log_softmax",
    "logsumexp",
    "cross_entropy",
    "nll_loss",
    "kl_div",
    "mse_loss",
    "normalize",
    "layer_norm",
    "rms_norm",
    "norm",
    "linalg_norm",
    "linalg_vector_norm",
    "linalg_matrix_norm",
    "sum",
    "nansum",
    "mean",
    "nanmean",
    "var",
    "std",
    "prod",
    "cumsum",
    "cumprod",
    "logcumsumexp",
    "trace",
    "inverse",
    "linalg_inv",
    "linalg_pinv",
    "linalg_cholesky",
    "linalg_cholesky_ex",
    "cholesky",
    "cholesky_inverse",
    "cholesky_solve",
    "linalg_solve",
    "linalg_solve_triangular",
    "linalg_lstsq",
    "linalg_svdvals",
    "linalg_eigvalsh",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "sin",
    "cos",
    "tan",
    "tanh",
    "sigmoid",
    "logsigmoid",
    "silu",
    "gelu",
    "softplus",
    "erf",
    "rsqrt",
    "hypot",
}
_CHOICES = {"argmax", "argmin", "argsort"}  # of what a compiled loop computed, too


class Rounding(TorchFunctionMode):
    """While entered, torch's float results are off by their rounding, and so are its choices.

    Args:
        seed: of the factors.
    """

    def __init__(self, seed: int):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        bank = torch.rand(2 * _BANK, dtype=torch.float64, generator=generator, device="cpu")
        self._banks = {dtype: 1 + (2 * bank.to(dtype) - 1) * eps for dtype, eps in NOISE.items()}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").rstrip("_")
        if name in _CHOICES and args and isinstance(args[0], Tensor):
            return func(self._off(args[0], name), *args[1:], **kwargs)
        result = func(*args, **kwargs)
        if name not in _ROUNDED:
            return result
        if isinstance(result, tuple):  # such as a decomposition and its info
            return type(result)(self._off(part, name) for part in result)
        off = self._off(result, name)
        if (args and result is args[0]) or result is kwargs.get("out"):
            return result.copy_(off)
        return off

    def _off(self, x: Any, name: str) -> Any:
        """The tensor times factors near 1, which name and shape decide; what is exact stays."""
        if not isinstance(x, Tensor) or x.dtype not in NOISE or x.is_meta:
            return x
        start = zlib.crc32(f"{name}{tuple(x.shape)}".encode()) % _BANK
        factors = self._banks[x.dtype][start : start + min(x.numel(), _BANK)].to(x.device)
        if x.numel() > _BANK:
            factors = factors.repeat(-(-x.numel() // _BANK))[: x.numel()]
        integer, low = _LOW_BITS[x.dtype]
        short = x.detach().view(integer) & low == 0
        whole = (x == x.round()) & (x.abs() <= _COUNTED[x.dtype])
        return torch.where(short | whole, x, x * factors.view(x.shape))


class BusyClock:
    """A clock on which spans of time, chosen at random, last fifty times as long.

    Args:
        clock: the real one.
        seed: of the choices. Spans are an interval or, from other seeds, some 10 or 100 of them,
            so that a single measurement is slowed, or all of one kind.
    """

    def __init__(self, clock: Callable[[], Any], seed: int):
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.rand(4096, 2, dtype=torch.float64, generator=generator, device="cpu")
        self._clock, self._drawn = clock, cycle(drawn.tolist())
        self._ends = 0.1 ** (seed % 3)  # how often a span ends with an interval
        self._real = self._shown = clock()
        self._pace = 1

    def __call__(self) -> Any:
        ends, slower = next(self._drawn)
        if ends < self._ends:
            self._pace = SLOWER if slower < 0.5 else 1
        now = self._clock()
        self._shown += self._pace * (now - self._real)
        self._real = now
        return self._shown


def move(seed: int) -> None:
    """Take this process to another machine, before it imports what reads a clock."""
    for name in _CLOCKS:
        setattr(time, name, BusyClock(getattr(time, name), seed))
    Rounding(seed).__enter__()  # type: ignore[no-untyped-call]
