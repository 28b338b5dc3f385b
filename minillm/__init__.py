"""minillm: a small Llama that shows how large language models are made fast."""

from minillm.checkpoint import load, shipped
from minillm.config import ModelConfig
from minillm.decoding import collect, decode_cached, decode_recomputed, generators
from minillm.kv_cache import KVCache, kv_bytes
from minillm.moved import tell_what_moved
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

tell_what_moved()
