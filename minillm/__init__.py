"""minillm: a small Llama that shows how large language models are made fast.

What it offers is imported at its first use, so that a command may set what torch reads as it loads.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from minillm.moved import tell_what_moved

if TYPE_CHECKING:
    from minillm.checkpoint import load, shipped
    from minillm.config import ModelConfig
    from minillm.decoding import collect, decode_cached, decode_recomputed, generators
    from minillm.kv_cache import KVCache, kv_bytes
    from minillm.sampling import GREEDY, Sampler
    from minillm.transformer import Transformer

__all__ = [
    "GREEDY",
    "KVCache",
    "ModelConfig",
    "Sampler",
    "Transformer",
    "collect",
    "decode_cached",
    "decode_recomputed",
    "generators",
    "kv_bytes",
    "load",
    "shipped",
]

_HOMES = ("checkpoint", "config", "decoding", "kv_cache", "sampling", "transformer")

tell_what_moved()


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return import_module(f"minillm.{name}")
    if name in __all__:
        for home in map(import_module, (f"minillm.{home}" for home in _HOMES)):
            if name in home.__all__:
                globals()[name] = getattr(home, name)
                return globals()[name]
    raise AttributeError(f"module 'minillm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
