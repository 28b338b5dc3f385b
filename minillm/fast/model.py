"""The same model, faster: on a CPU in float32 a step becomes one compiled call.

`optimized(model)` shares the model's weights or lays out copies of them. There are two ways, and it
takes the one that wins a race on this machine: all layers as one call (`minillm.fast.layers`), or
the matrices in torch's fastest kernels (`minillm.fast.linear`) and a single call for what lies
between two of them (`minillm.fast.block`). Elsewhere nothing needs swapping, and it is the readable
model. The naive twin is the model itself: logits agree to 1e-4.
"""

from collections.abc import Callable
from statistics import median
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from minillm.attention import Cache
from minillm.fast.block import FusedBlock, FusedNorm
from minillm.fast.layers import Layers
from minillm.fast.linear import (
    BLOCK,
    FastLinear,
    KernelLinear,
    available,
    race,
    stock_kernel,
)
from minillm.kv_cache import KVCache
from minillm.measure.timing import interleave
from minillm.modules import copied
from minillm.norm import RMSNorm
from minillm.transformer import MLP, Block, Transformer

__all__ = [
    "ONE_CALL",
    "FastTransformer",
    "for_inference",
    "fuse_blocks",
    "kernel_names",
    "optimized",
    "stay",
    "weight_size",
]

ONE_CALL = "one call"
_CACHED = 64  # tokens behind which the two ways are raced
_ROUNDS = 7


class FastTransformer(Transformer):
    """A model whose steps are one compiled call; the readable modules, its naive twin, do the rest.

    The rest are passes without a `KVCache`, and those of a large tree of tokens (`MOST`).
    """

    def __init__(self, plain: Transformer, layers: Layers | None = None):
        nn.Module.__init__(self)
        self.name = plain.name
        self.config, self.rotary, self.norm = plain.config, plain.rotary, plain.norm
        self.embed, self.blocks = plain.embed, plain.blocks
        self.layers = layers or Layers(plain)
        self.set_submodule("head", _Head(plain.head, self.layers))

    def _apply(self, *args: Any, **kwargs: Any) -> NoReturn:
        """What would move the modules, and not the one call."""
        stay()

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    def hidden(
        self,
        tokens: Tensor,
        cache: Cache | None = None,
        *,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        depth = len(self.blocks)
        if not self.layers.takes(cache, depth, tokens, positions, mask):
            return super().hidden(tokens, cache, positions=positions, mask=mask)
        x = self.layers(self.embed(tokens), cache, depth, self.rotary, positions, mask)
        cache.advance(tokens.shape[1])
        return x


class _Head(nn.Module):
    """The head of a `FastTransformer`."""

    def __init__(self, plain: nn.Module, layers: Layers):
        super().__init__()
        self.plain, self._layers = plain, layers

    def forward(self, hidden: Tensor) -> Tensor:
        return (self._layers.head if self._layers.scores(hidden) else self.plain)(hidden)


def optimized(
    model: Transformer, kernel: str | None = None, *, compiled: bool = False
) -> Transformer:
    """A copy of `model` for inference, which shares its weights or lays out copies of them.

    Change weights and move the model before: the copy does not see it afterwards. Blocks with
    hooks, or with modules of one's own, stay as they are.

    Args:
        model: stays as it is. Move it to its device and dtype first.
        kernel: of all matrices (see `minillm.fast.linear.available`), or `ONE_CALL`; by default the
            fastest.
        compiled: norms and MLPs go through `torch.compile`, which fuses their small operations:
            meant for cards; it needs a compiler, and some seconds at the first tokens.

    Raises:
        ValueError: an unknown kernel, or one call for a model that is not the library's own.
    """
    kernels = [ONE_CALL, *available()]
    if kernel is not None and kernel not in kernels:
        raise ValueError(f"kernel must be one of {', '.join(kernels)}, got {kernel!r}")
    fast = for_inference(model)
    if compiled:
        for module in fast.modules():
            if isinstance(module, (RMSNorm, MLP)):
                module.compile(dynamic=True)
    elif fast.device.type == "cpu" and fast.dtype == torch.float32:
        return _fastest(fast) if kernel is None else _by(kernel, fast)
    return fast


def for_inference(model: Transformer) -> Transformer:
    """A copy that shares the weights, and learns nothing."""
    shared = {
        weight: nn.Parameter(weight.detach(), requires_grad=False) for weight in model.parameters()
    }
    return copied(model, shared).eval()


def _by(kernel: str | None, fast: Transformer) -> Transformer:
    if kernel == ONE_CALL:
        return FastTransformer(fast)
    _swap_linears(fast, kernel)
    fuse_blocks(fast)
    fast._apply = stay  # type: ignore[method-assign]
    return fast


def _fastest(fast: Transformer) -> Transformer:
    """The faster of the two ways for a step of one token and one of a block, taken together."""
    if not Layers.fits(fast):
        return _by(None, fast)
    shared = {weight: weight for weight in fast.parameters()}
    one_call, by_blocks = FastTransformer(fast), _by(None, copied(fast, shared))
    ours = theirs = 0.0
    for rows in (1, BLOCK):
        pairs = list(interleave([(_step(one_call, rows), _step(by_blocks, rows))] * _ROUNDS))
        ours += median(pair.our_seconds for pair in pairs)
        theirs += median(pair.their_seconds for pair in pairs)
    return one_call if ours <= theirs else by_blocks


def _step(model: Transformer, rows: int) -> Callable[[], None]:
    """Forward so many tokens behind cached ones."""
    cached = max(0, min(_CACHED, model.config.max_position_embeddings - rows))
    cache = KVCache(model.config, 1, cached + rows)
    tokens = torch.zeros(1, rows, dtype=torch.int64, device="cpu")
    cache.advance(cached)

    @torch.inference_mode()
    def run() -> None:
        model(tokens, cache)
        cache.truncate([cached])

    return run


def _swap_linears(fast: Transformer, kernel: str | None) -> None:
    """Matrices of one shape share a kernel, chosen on the first of them."""
    linears = {name: x for name, x in fast.named_modules() if _is_bare(x)}
    first = {linear.weight.shape: linear for linear in reversed(linears.values())}
    chosen = [kernel] * len(first) if kernel else race(list(first.values()))
    winners = dict(zip(first, chosen, strict=True))
    for name, linear in linears.items():
        fast.set_submodule(name, FastLinear(linear, winners[linear.weight.shape]))


def _is_bare(module: nn.Module) -> bool:
    return type(module) is nn.Linear and not (module._forward_hooks or module._forward_pre_hooks)


def stay(*args: Any, **kwargs: Any) -> NoReturn:
    raise ValueError("an optimized model stays where it is: move the model, then optimize it")


def fuse_blocks(fast: Transformer) -> None:
    """One call for what lies between two matrices, in blocks where a matrix is a call itself."""
    for index, block in enumerate(fast.blocks):
        if FusedBlock.fits(block):
            fast.blocks[index] = FusedBlock(block)
    if FusedNorm.fits(fast.norm):
        fast.set_submodule("norm", FusedNorm(fast.norm))


def kernel_names(model: Transformer) -> str:
    """What multiplies a model's matrices."""
    if (model.device.type, model.dtype) != ("cpu", torch.float32):
        return f"F.linear {_short(model.dtype)} on {model.device}"
    capability = torch.backends.cpu.get_cpu_capability()
    if isinstance(model, FastTransformer):
        return f"one call for all layers, weights in {_short(model.layers.dtype)} ({capability})"
    names = {x.name for x in model.modules() if isinstance(x, KernelLinear)}
    if not names:
        return stock_kernel()
    readable = sum(type(block) is Block for block in model.blocks)
    left = f" but for {readable} of {len(model.blocks)} layers" if readable else ""
    return f"{', '.join(sorted(names))} ({capability}), compiled loops between{left}"


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def weight_size(model: Transformer) -> int:
    """Bytes that a step reads for each number of a matrix, but for scales."""
    dtype = model.layers.dtype if isinstance(model, FastTransformer) else model.dtype
    return dtype.itemsize
