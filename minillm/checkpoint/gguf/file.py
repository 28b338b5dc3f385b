"""A GGUF file: metadata by name, and tensors that stay on disk until they are read.

What a file says of itself is checked against its size before anything is made from it: a length
that reaches beyond the end, or tensors that share bytes, are refused.

Source: ggml's `docs/gguf.md`, versions 2 and 3.
"""

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from minillm.checkpoint.gguf.blocks import Format, dequantize, format_of
from minillm.checkpoint.tensors import Stored

__all__ = ["GGUF", "read_gguf"]

_HEADER = 1 << 26  # bytes before the tensors: metadata of a large vocabulary take some 10 MB
_NAME = 64  # bytes of a tensor's name, in ggml as well
_DIMENSIONS = 4
_ALIGNMENT = 32
_TEXT, _ARRAY, _BOOL = 8, 9, 7
_NUMBERS = {
    **{0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4"},
    **{_BOOL: "<u1", 10: "<u8", 11: "<i8", 12: "<f8"},
}


@dataclass(frozen=True)
class GGUF:
    """What a file holds.

    Attributes:
        metadata: numbers, texts, and arrays of either: of texts a list, of numbers NumPy's.
        tensors: under the names and in the order of the file; shapes as torch has them.
    """

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, Stored]


def read_gguf(path: Path) -> GGUF:
    """Read the metadata of a GGUF file, and where its tensors are.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no GGUF file, one of another version, one that is truncated or contradicts
            itself, a tensor in a format that is not supported.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ValueError(f"{path} is not a GGUF file")
        mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)  # of which torch can read
    try:
        return _parsed(path, mapped)
    except (ValueError, struct.error) as error:
        raise ValueError(f"{path} is corrupted, truncated or not supported: {error}") from error


def _parsed(path: Path, mapped: mmap.mmap) -> GGUF:
    header = _Header(mapped)
    version, tensor_count, field_count = header.numbers("<IQQ")
    if version not in (2, 3):
        raise ValueError(f"version {version}, not 2 or 3")
    header.room_for(field_count, 8 + 4 + 1, "fields")
    metadata: dict[str, Any] = {}
    for _ in range(field_count):
        name = header.text()
        if name in metadata:
            raise ValueError(f"the field {_short(name)} stands twice")
        metadata[name] = header.value()
    header.room_for(tensor_count, 8 + 4 + 8 + 4 + 8, "tensors")
    listed = [_Listed.read(header) for _ in range(tensor_count)]
    alignment = metadata.get("general.alignment", _ALIGNMENT)
    if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
        raise ValueError(f"an alignment of {_short(alignment)}, not a power of 2")
    start = -(-header.at // alignment) * alignment
    _refuse_overlap(listed, len(mapped) - start, alignment)
    tensors = {x.name: x.stored(mapped, start) for x in listed}
    if len(tensors) < len(listed):
        raise ValueError("two tensors have the same name")
    return GGUF(path, metadata, tensors)


class _Header:
    """The beginning of a file, read from front to back."""

    def __init__(self, mapped: mmap.mmap):
        self._bytes = memoryview(mapped)[:_HEADER]
        self.at = 4

    def room_for(self, count: int, least: int, what: str) -> None:
        left = len(self._bytes) - self.at
        if count * least > left:
            raise ValueError(f"{count} {what} do not fit into {left} bytes")

    def take(self, count: int) -> memoryview:
        self.room_for(count, 1, "bytes")
        self.at += count
        return self._bytes[self.at - count : self.at]

    def numbers(self, code: str) -> tuple[Any, ...]:
        return struct.unpack(code, self.take(struct.calcsize(code)))

    def text(self) -> str:
        [length] = self.numbers("<Q")
        return str(self.take(length), "utf-8")

    def value(self) -> Any:
        [kind] = self.numbers("<I")
        if kind == _TEXT:
            return self.text()
        if kind == _ARRAY:
            return self._array()
        return self._array_of(kind, 1)[0].item()

    def _array(self) -> Any:
        kind, count = self.numbers("<IQ")
        if kind != _TEXT:
            return self._array_of(kind, count)
        self.room_for(count, 8, "texts")
        return [self.text() for _ in range(count)]

    def _array_of(self, kind: int, count: int) -> Any:
        if kind not in _NUMBERS:
            raise ValueError(f"values of type {kind}")
        dtype = np.dtype(_NUMBERS[kind])
        array = np.frombuffer(self.take(count * dtype.itemsize), dtype)
        return array != 0 if kind == _BOOL else array


@dataclass(frozen=True)
class _Listed:
    """A tensor as the header lists it; `offset` counts from where tensors start."""

    name: str
    shape: tuple[int, ...]
    form: Format
    offset: int

    @classmethod
    def read(cls, header: _Header) -> "_Listed":
        name = header.text()
        if not 0 < len(name.encode()) < _NAME:
            raise ValueError(f"a tensor's name of {len(name)} characters: {_short(name)}")
        [count] = header.numbers("<I")
        if not 0 < count <= _DIMENSIONS:
            raise ValueError(f"tensor {_short(name)} has {count} dimensions")
        shape = header.numbers(f"<{count}Q")[::-1]  # ggml's first dimension is torch's last
        kind, offset = header.numbers("<IQ")
        try:
            form = format_of(kind)
        except ValueError as error:
            raise ValueError(f"tensor {_short(name)}: {error}") from error
        if not math.prod(shape) or shape[-1] % form.numbers:
            raise ValueError(f"tensor {_short(name)} of {form.name} has the shape {shape}")
        return cls(name, shape, form, offset)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) // self.form.numbers * self.form.nbytes

    def stored(self, mapped: mmap.mmap, start: int) -> Stored:
        def read() -> torch.Tensor:
            raw = torch.frombuffer(
                mapped, dtype=torch.uint8, offset=start + self.offset, count=self.nbytes
            )
            return dequantize(raw, self.form).view(self.shape)

        return Stored(self.shape, read)


def _refuse_overlap(listed: list[_Listed], size: int, alignment: int) -> None:
    """See that tensors lie one behind the other within so many bytes."""
    end = 0
    for tensor in sorted(listed, key=lambda x: x.offset):
        if tensor.offset % alignment:
            raise ValueError(f"tensor {_short(tensor.name)} is not aligned to {alignment} bytes")
        if tensor.offset < end:
            raise ValueError(f"tensor {_short(tensor.name)} lies in another")
        end = tensor.offset + tensor.nbytes
        if end > size:
            raise ValueError(f"tensor {_short(tensor.name)} ends {end - size} bytes after the file")


def _short(text: object) -> str:
    """How an error names what may be of any length."""
    shown = repr(text)
    return shown if len(shown) <= _NAME + 2 else shown[:_NAME] + "..."
