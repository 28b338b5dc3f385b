"""A card and the shape of Llama-3-8B: m tokens together, and products in few bits.

The weights are random, which costs the same time.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from minillm.config import ModelConfig
from minillm.data.public_models import LLAMA_3_8B
from minillm.measure.machine import measure_tokens
from minillm.measure.timing import in_turn, seconds_of
from minillm.rotary import Rotary
from minillm.transformer import Transformer

__all__ = ["fitting", "matrices", "tokens"]

_DTYPE = torch.bfloat16
_CACHED = 512  # tokens after which m tokens are computed
_TOGETHER = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_ROWS = (32, 128, 512)  # of a product; torch's int8 takes more than 16
_ROUNDS = 9


def fitting(device: torch.device) -> ModelConfig:
    """Llama-3-8B, with as many layers as half of the card's free memory holds."""
    free, _ = torch.accelerator.get_memory_info(device)
    with torch.device("meta"):
        block = Transformer(replace(LLAMA_3_8B, num_hidden_layers=1)).blocks[0]
    fit = free // 2 // sum(p.numel() * _DTYPE.itemsize for p in block.parameters())
    return replace(LLAMA_3_8B, num_hidden_layers=min(max(fit, 1), LLAMA_3_8B.num_hidden_layers))


def tokens(device: torch.device, shape: ModelConfig) -> Iterator[dict[str, float]]:
    """Several tokens of one text together: milliseconds of a pass, and times those of one token."""
    model = _random(device, shape)
    seconds = measure_tokens(model, _TOGETHER, cached=_CACHED, repeats=_ROUNDS)
    for m, spent in seconds.items():
        yield {"tokens": m, "ms": 1000 * spent, "times": spent / seconds[1]}


def _random(device: torch.device, config: ModelConfig) -> Transformer:
    """A model of small random weights, made on the device."""
    with torch.device("meta"):
        model = Transformer(config)
    model = model.to(_DTYPE).to_empty(device=device).eval()
    model.rotary = Rotary(config).to(device, _DTYPE)
    generator = torch.Generator(device).manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02, generator=generator)
    return model


def matrices(device: torch.device, shape: ModelConfig) -> Iterator[dict[str, float | None]]:
    """The product of `down`: milliseconds in 16 bits, in int8, in fp8.

    The product alone: its rows are rounded beforehand.
    """
    N, K = shape.hidden_size, shape.intermediate_size
    draw = partial(torch.randn, generator=torch.Generator(device).manual_seed(0), device=device)
    one, fp8 = torch.ones((), device=device), torch.float8_e4m3fn
    for rows in _ROWS:
        x, W = draw(rows, K, dtype=_DTYPE), draw(N, K, dtype=_DTYPE)
        runs: dict[str, Callable[[], Tensor]] = {
            "bits16": partial(F.linear, x, W),
            "int8": partial(torch._int_mm, (16 * x).to(torch.int8), (16 * W).to(torch.int8).T),
            "fp8": partial(torch._scaled_mm, x.to(fp8), W.to(fp8).T, one, one, out_dtype=_DTYPE),
        }
        yield {"rows": rows} | _milliseconds(device, runs)


@torch.inference_mode()
def _milliseconds(
    device: torch.device, runs: dict[str, Callable[[], Tensor]]
) -> dict[str, float | None]:
    """The fastest of some rounds of each; None for what torch cannot do on the device."""
    able = {name: run for name, run in runs.items() if _can(run)}
    rounds = in_turn([[partial(seconds_of, run, device) for run in able.values()]] * _ROUNDS)
    fastest = map(min, zip(*rounds, strict=True))
    return dict.fromkeys(runs) | dict(zip(able, (1000 * s for s in fastest), strict=True))


def _can(run: Callable[[], Tensor]) -> bool:
    try:
        run()
    except (RuntimeError, ValueError):
        return False
    return True
