"""What each format costs a model, recorded, since measuring all of them takes a lesson too long.

`minillm formats` records it (`minillm.commands.formats`): losses and KL by text, as
`minillm.measure.divergence` sums them, and the core-seconds of a decode step.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from minillm.data import recorded
from minillm.kv_cache import KVCache
from minillm.measure.divergence import ByText
from minillm.measure.noise import Measured
from minillm.quantization.spec import Spec
from minillm.transformer import Transformer

__all__ = ["BOTH", "SPECS", "Recorded", "read", "stepper"]

SPECS = {
    name: Spec(name, 64 if name in ("nf4", "int4", "int3", "int2") else None)
    for name in ("int8", "fp8_e4m3", "nf4", "int4", "mxfp4", "nvfp4", "int3", "int2")
}
BOTH = "int8, both"  # the entry that rounds weights and activations, and has a kernel

_CACHED = 32  # tokens before a step that is timed


@dataclass(frozen=True)
class Recorded:
    """A model in one format.

    Attributes:
        nbytes: as stored, scales and norms included.
        judged: on each text, beside the original.
        seconds: of a processor, for a decode step in one thread; of all formats in the same rounds.
        kernel: what multiplied.
    """

    nbytes: int
    judged: ByText
    seconds: Measured
    kernel: str


def read() -> dict[str, Recorded]:
    """What the package holds of `stories`, by format: float32, `SPECS`, and `BOTH`."""
    return {
        point["format"]: Recorded(
            point["nbytes"],
            ByText(
                torch.tensor(point["tokens"]), *torch.tensor(point["sums"], dtype=torch.float64)
            ),
            Measured.of(point["seconds"]),
            point["kernel"],
        )
        for point in recorded.read("formats")["points"]
    }


def stepper(model: Transformer) -> Callable[[], float]:
    """A decode step behind 32 tokens: each call tells its seconds and leaves the cache as it was.

    These are seconds of the processor: others on the machine change them little.
    """
    cache = KVCache(model.config, 1, 2 * _CACHED)
    cache.advance(_CACHED)
    step = torch.inference_mode()(partial(model, torch.tensor([[1]]), cache))

    def timed() -> float:
        start = time.process_time()
        step()
        spent = time.process_time() - start
        cache.truncate([_CACHED])
        return spent

    return timed
