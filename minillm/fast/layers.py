"""All layers of a model as one compiled call, for the tokens of a step on a CPU.

A step of a small model on a CPU is a matter of reading weights, and torch, called a dozen times a
layer, spends longer on everything else. Here a step is one call (`minillm.fast.kernels.layers`)
that reads each matrix once for all its rows, and the head a second one. The weights are laid out
anew, in the narrowest format that loses nothing: those of a checkpoint of 16 bits are read as 16
bits and computed with as float32. Matrices of 8 bits are multiplied with rows that are rounded to 8
bits as well.

The naive twin is the readable model; logits agree to 1e-4.

Dimensions: B batch, T new tokens, R rows (B x T), N outputs, K inputs, C width, F MLP width,
V vocabulary.
"""

import copy
import os
import threading
from collections.abc import Sequence
from functools import lru_cache
from struct import Struct, pack_into
from typing import Any, TypeGuard
from weakref import WeakSet

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from minillm.attention import Cache, causal_mask
from minillm.fast.kernels.call import CALL, EACH, MOST
from minillm.fast.kernels.panels import PANEL
from minillm.fast.kernels.team import LINE
from minillm.fast.layout import is_int8, lay_out
from minillm.fast.plain import is_plain, plain_numbers
from minillm.fast.team import MOST_THREADS, TEAM
from minillm.kv_cache import KVCache
from minillm.rotary import Rotary, Rotation
from minillm.serving.paged_cache import PagedCache
from minillm.sparsity.skipping import Reading
from minillm.transformer import Transformer
from minillm.whole import whole

__all__ = ["MOST", "Layers"]

_BYTES = 4  # of a float32
_WORD = 8  # bytes of an address
_WIDTHS = {torch.float32: 32, torch.float16: 16, torch.bfloat16: -16, torch.int8: 8}
_SMALL = 4 << 20  # bytes of matrices, which one thread reads before another has waked
_ALL: WeakSet["Layers"] = WeakSet()
_EIGHTH = 8  # attention weights that are added up at a time
_EACH = Struct(f"{len(EACH)}q")
_FIELDS: Any = CALL.fields
_AT = {name: field[1] for name, field in _FIELDS.items()}  # bytes from a call's beginning


class Layers:
    """The layers and the head of a model, in float32 on a CPU.

    Args:
        model: of which `fits` is true.
        readings: a counter for each layer; of up and down, those neurons alone are then read that
            a token opens, which is exact for relu.

    Attributes:
        dtype: in which the matrices are kept.
        nbytes: of the matrices, the head included.

    Raises:
        ValueError: a model of another kind.
    """

    def __init__(self, model: Transformer, readings: Sequence[Reading] = ()):
        if not Layers.fits(model):
            raise ValueError(
                "one call is made for the library's own model with a relu or silu gate and no "
                f"biases or hooks, with heads of a multiple of {PANEL}, in float32 on a CPU"
            )
        self._config = model.config
        laid_out = lay_out(model, by_neurons=bool(readings))
        self._matrices, self._sizes, self._scales = laid_out
        self.dtype, self.nbytes = laid_out.dtype, laid_out.matrices.nbytes
        self._readings = list(readings)
        for reading in readings:
            reading.neuron_bytes = 2 * model.config.hidden_size * self.dtype.itemsize
            reading.gate_bytes = reading.width * reading.neuron_bytes // 2
        blocks: Any = model.blocks
        norms = [x for b in blocks for x in (b.attention_norm, b.mlp_norm)]
        self._norms = torch.stack([norm.weight.detach() for norm in (*norms, model.norm)])
        self._embedding = _embedding(model)
        self._rotation = model.rotary.cos.clone(), model.rotary.sin.clone()
        self._get_ready()

    @staticmethod
    def skips(model: Transformer) -> bool:
        """Whether the call can also leave out of this model what shut gates multiply."""
        config = model.config
        whole = config.hidden_size % PANEL == 0
        return is_plain(model) and Layers.fits(model) and config.hidden_act == "relu" and whole

    @staticmethod
    def fits(model: Transformer) -> bool:
        """Whether the call computes what this model does: the library's own, part by part."""
        config = model.config
        return (
            (is_plain(model) or is_int8(model))
            and config.hidden_act in ("relu", "silu")
            and not (config.qk_norm or config.qkv_bias or config.layers_without_rope)
            and config.head_dim % PANEL == 0
        )

    def __deepcopy__(self, memo: Any) -> "Layers":
        """Another caller of the same weights, which never change."""
        twin = copy.copy(self)
        twin._readings = copy.deepcopy(self._readings, memo)
        twin._get_ready()
        return twin

    def _get_ready(self) -> None:
        """Describe what is the same for all calls, and make room for what lies between."""
        self._lock = threading.Lock()
        _ALL.add(self)
        self._calls = np.zeros(1 + MOST_THREADS, CALL)
        self._call = self._calls[1]
        self._memory = self._calls[1:].view(np.uint8).data
        config, call = self._config, self._call
        L, H, G = config.num_hidden_layers, config.num_attention_heads, config.num_key_value_heads
        D, C, F = config.head_dim, config.hidden_size, config.intermediate_size
        self._L, self._G, self._D, self._V = L, G, D, config.vocab_size
        qkv, of_C, of_F, of_V = (-(-n // PANEL) for n in ((H + 2 * G) * D, C, F, self._V))
        self._parts = qkv, G, of_C, of_F, of_C, of_V
        for name, size in zip("LHGDC", (L, H, G, D, C), strict=True):
            call[name] = size
        widths = {"qkv": qkv * PANEL, "read": H * D, "gated": of_F * PANEL}
        self._between = {
            name: torch.zeros(MOST, width, dtype=torch.float32, device="cpu")
            for name, width in widths.items()
        }
        for name, buffer in self._between.items():
            call[name] = buffer.data_ptr()
        self._x = torch.zeros(C, dtype=torch.float32, device="cpu")
        self._phases = torch.zeros((5 * L + 1) * LINE, dtype=torch.uint8, device="cpu")
        call["phases"], call["norms"] = self._phases.data_ptr(), self._norms.data_ptr()
        call["eps"], call["silu"] = config.rms_norm_eps, config.hidden_act == "silu"
        call["width"], call["skips"] = _WIDTHS[self.dtype], bool(self._readings)
        self._opened = torch.zeros(L, dtype=torch.int64, device="cpu")
        call["opened"] = self._opened.data_ptr()
        call["parts"] = self._parts
        first, sizes = self._matrices.data_ptr(), self._sizes
        of_layer = [first + sum(sizes[:i]) for i in range(4)]
        call["matrices"] = of_layer[0], 0, *of_layer[1:], first + sum(sizes[:-1])
        call["layer_bytes"] = sum(sizes[:4])
        rows = [qkv, of_C, 2 * of_F, of_C]  # of panels
        at = [self._scales.data_ptr() + sum(rows[:i]) * PANEL * _BYTES for i in range(4)]
        call["scale_bytes"] = sum(rows) * PANEL * _BYTES
        call["scales"] = at[0], 0, *at[1:], at[0] + L * call["scale_bytes"]
        self._make_room(config.max_position_embeddings)

    def _make_room(self, slots: int) -> None:
        """What a thread needs of its own: norms, two panels' outputs, weights of `slots` keys."""
        config, call = self._config, self._call
        shared = config.num_attention_heads // config.num_key_value_heads
        parts = {
            "normed": MOST * (config.hidden_size + 2 * PANEL) * _BYTES,
            "room": shared * (slots + _EIGHTH) * _BYTES,
            "places": slots * _WORD,
            "steps": MOST * _BYTES,
            "codes": self._bytes_of_codes(),
        }
        own = 0
        for name, size in parts.items():
            if name != "normed":
                call[name] = own
            own += -(-size // LINE) * LINE  # whole lines
        self._own = torch.zeros(own * MOST_THREADS, dtype=torch.uint8, device="cpu")
        self._slots, call["own"], call["own_bytes"] = slots, self._own.data_ptr(), own

    def _bytes_of_codes(self) -> int:
        """Rows as integers, of two bytes and of one; or the open neurons' places and numbers."""
        widest = max(
            self._config.hidden_size, *(buffer.shape[1] for buffer in self._between.values())
        )
        if self._readings:
            return widest * (8 + MOST * _BYTES)
        return 3 * MOST * widest if self.dtype == torch.int8 else 0

    def takes(
        self,
        cache: Cache | None,
        depth: int,
        tokens: Tensor,
        positions: Tensor | None,
        mask: Tensor | None,
    ) -> TypeGuard[KVCache | PagedCache]:
        """Whether calls can do a pass: with a cache in float32, and few rows if there is a mask.

        Raises:
            ValueError: the cache is of another model.
        """
        B, T = tokens.shape
        if not (type(cache) is KVCache or type(cache) is PagedCache) or not 0 < B <= MOST:
            return False
        if cache.keys.dtype != torch.float32 or len(cache.lengths) != B:  # which the twin refuses
            return False
        self._require(cache, depth, B)
        return (
            T > 0
            and (mask is None or (mask.dtype == torch.bool and mask.shape in ((T, T), (B, T, T))))
            and (mask is None or (B * T <= MOST and mask.is_cpu))
            and (positions is None or positions.shape in ((T,), (B, T)))
            and not torch.is_autocast_enabled("cpu")
        )

    def _require(self, cache: KVCache | PagedCache, depth: int, B: int) -> None:
        _, N, _, P, _ = cache.keys.shape
        if type(cache) is KVCache:
            N = B
        shape, buffers = (depth, N, self._G, P, self._D), (cache.keys, cache.values)
        if not all(buffer.shape == shape and plain_numbers(buffer) for buffer in buffers):
            raise ValueError(f"the cache is not made for this model: {tuple(cache.keys.shape)}")

    def __call__(
        self,
        x: Float[Tensor, "B T C"],
        cache: KVCache | PagedCache,
        depth: int,
        rotary: Rotary,
        positions: Tensor | None,
        mask: Tensor | None,
    ) -> Float[Tensor, "B T C"]:
        """What the last norm makes of embedded tokens; their keys and values go to the cache.

        Args:
            x: may be overwritten.
            depth: of how many of the first layers.
        """
        B, T, _ = x.shape
        starts, turns, rotation = cache.starts(T), cache.lengths, (rotary.cos, rotary.sin)
        if positions is not None or max(starts) + T > len(rotary.cos):  # which are refused
            rotation = rotary(list(starts), T, positions)
            turns = tuple(T * b if rotation[0].ndim == 4 else 0 for b in range(B))
        tables = _tables(cache, max(starts) + T)
        if B * T <= MOST:
            return self._block(x, cache, tables, depth, starts, rotation, turns, mask)
        parts, behind = [], 0
        for part in x.split(MOST // B, dim=1):
            places = [[place + behind for place in row] for row in (starts, turns)]
            part = part.contiguous()
            parts.append(
                self._block(part, cache, tables, depth, places[0], rotation, places[1], None)
            )
            behind += part.shape[1]
        return torch.cat(parts, dim=1)

    def _block(
        self,
        x: Tensor,
        cache: KVCache | PagedCache,
        tables: Tensor,
        depth: int,
        starts: Sequence[int],
        rotation: Rotation,
        turns: Sequence[int],
        mask: Tensor | None,
    ) -> Tensor:
        """One call: tokens go to slots from `starts` on, and rotate as the rows from `turns` on."""
        B, T, _ = x.shape
        visible = _causal(T) if mask is None else mask.contiguous()
        (_, blocks, _, slots, _), width = cache.keys.shape, tables.shape[1]
        with self._lock:
            if width * slots > self._slots:
                self._make_room(width * slots)
            pack_into(f"{B}q", self._memory, _AT["starts"], *starts)
            pack_into(f"{B}q", self._memory, _AT["turns"], *turns)
            addresses = (y.data_ptr() for y in (cache.keys, cache.values, *rotation, visible))
            turn = T * T if visible.ndim == 3 else 0
            self._make(
                *(0, 5 * depth, B, T, slots, x.data_ptr(), 0, *addresses, turn, 0),
                *(tables.data_ptr(), width, blocks),
            )
            if self._readings:
                for reading, neurons in zip(
                    self._readings[:depth], self._opened.tolist(), strict=False
                ):
                    reading.count(neurons)
        return x

    def scores(self, hidden: Tensor) -> bool:
        """Whether `head` can take these vectors."""
        C = self._config.hidden_size
        return (
            hidden.shape[-1:] == (C,)
            and hidden.dtype == torch.float32
            and hidden.is_cpu
            and 0 < hidden.numel() <= MOST * C
            and not torch.is_autocast_enabled("cpu")
        )

    def head(self, hidden: Float[Tensor, "*R C"]) -> Float[Tensor, "*R V"]:
        """The logits of up to `MOST` hidden vectors."""
        hidden, last = hidden.contiguous(), 5 * self._L
        *shape, C = hidden.shape
        logits = torch.empty(*shape, self._parts[-1] * PANEL, dtype=torch.float32, device="cpu")
        rows = hidden.numel() // C
        with self._lock:
            at, to = hidden.data_ptr(), logits.data_ptr()
            self._make(last, last + 1, 1, rows, 0, at, to, *[0] * 10)
        return logits if logits.shape[-1] == self._V else logits[..., : self._V]

    def step(self, token: int, cache: KVCache) -> Float[Tensor, " V"]:
        """The logits behind one token of one row, which the cache then holds: all in one call.

        Raises:
            ValueError: a token or position that the model does not know, or a cache of another
                model or batch, or one without room.
        """
        token, (cos, sin) = whole("token", token, most=self._V - 1), self._rotation
        self._require(cache, self._L, 1)
        [start] = cache.starts(1)
        if start >= len(cos):
            raise ValueError(f"position {start} is beyond the context of {len(cos)} tokens")
        logits = torch.empty(self._parts[-1] * PANEL, dtype=torch.float32, device="cpu")
        embedded = self._embedding.data_ptr() + _BYTES * token * self._embedding.shape[1]
        with self._lock:
            if cache.capacity > self._slots:
                self._make_room(cache.capacity)
            pack_into("q", self._memory, _AT["starts"], start)
            pack_into("q", self._memory, _AT["turns"], start)
            addresses = (y.data_ptr() for y in (cache.keys, cache.values, cos, sin, _causal(1)))
            self._make(
                *(0, 5 * self._L + 1, 1, 1, cache.capacity, self._x.data_ptr(), logits.data_ptr()),
                *(*addresses, 0, embedded, _own_blocks(1).data_ptr(), 1, 1),
            )
        cache.advance(1)
        return logits[: self._V]

    def _make(self, first: int, last: int, *rest: int) -> None:
        """The phases from first to before last of the next call; the rest as `EACH` has it."""
        team = 1 if self.nbytes < _SMALL else TEAM.threads()
        _EACH.pack_into(self._memory, _AT[EACH[0]], first, last, team, *rest)
        TEAM.call(self._calls, team, self)


def _unlock() -> None:
    """A lock that another thread held when the process forked is held for ever."""
    for layers in _ALL:
        layers._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


def _embedding(model: Transformer) -> Tensor:
    """(V, C) in float32; of a plain model no copy."""
    if is_plain(model):
        return model.embed.weight.detach()
    with torch.inference_mode():
        return model.embed(torch.arange(model.config.vocab_size, device="cpu"))


def _tables(cache: KVCache | PagedCache, S: int) -> Tensor:
    """The blocks of each row's S slots, (B, blocks); a contiguous row is a block of its own."""
    return cache.index(S) if isinstance(cache, PagedCache) else _own_blocks(len(cache.lengths))


@lru_cache(maxsize=MOST)
def _own_blocks(B: int) -> Tensor:
    with torch.inference_mode(False):  # whose tensors could not be used elsewhere
        return torch.arange(B, device="cpu")[:, None]


@lru_cache(maxsize=MOST)
def _causal(T: int) -> Tensor:
    with torch.inference_mode(False):  # whose tensors could not be used elsewhere
        return causal_mask(T, T, torch.device("cpu"))
