"""GGUF files written byte by byte, the right ones and the wrong ones."""

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["text", "value", "written"]

_TEXT, _ARRAY = 8, 9
_CODES = {"B": 0, "I": 4, "i": 5, "f": 6, "?": 7, "Q": 10}


def text(content: str | bytes) -> bytes:
    content = content.encode() if isinstance(content, str) else content
    return struct.pack("<Q", len(content)) + content


def value(content: Any) -> bytes:
    """A field's type and value: numbers are of 32 bits."""
    if isinstance(content, bytes):  # as it is
        return content
    if isinstance(content, str):
        return struct.pack("<I", _TEXT) + text(content)
    if isinstance(content, list) and content and isinstance(content[0], str):
        count = struct.pack("<IIQ", _ARRAY, _TEXT, len(content))
        return count + b"".join(map(text, content))
    if isinstance(content, list):
        code = "f" if any(isinstance(x, float) for x in content) else "i"
        head = struct.pack("<IIQ", _ARRAY, _CODES[code], len(content))
        return head + struct.pack(f"<{len(content)}{code}", *content)
    code = {bool: "?", int: "I", float: "f"}[type(content)]
    return struct.pack(f"<I{code}", _CODES[code], content)


def written(
    path: Path,
    fields: dict[str, Any],
    tensors: Iterable[tuple[str, tuple[int, ...], int, Any]],
    **wrong: Any,
) -> Path:
    """Write a file.

    Args:
        tensors: name, shape as torch has it, ggml's number of the format, the data.
        wrong: `version`, `field_count`, `tensor_count`; `offsets` by name; `more`, bytes that
            follow the fields.
    """
    tensors = list(tensors)
    data, infos = b"", b""
    for name, shape, kind, content in tensors:
        raw = np.ascontiguousarray(content).tobytes()
        offset = wrong.get("offsets", {}).get(name, len(data))
        dims = struct.pack(f"<I{len(shape)}Q", len(shape), *shape[::-1])
        infos += text(name) + dims + struct.pack("<IQ", kind, offset)
        data += raw + bytes(-len(raw) % 32)
    head = b"GGUF" + struct.pack(
        "<IQQ",
        wrong.get("version", 3),
        wrong.get("tensor_count", len(tensors)),
        wrong.get("field_count", len(fields)),
    )
    head += b"".join(text(name) + value(content) for name, content in fields.items())
    head += wrong.get("more", b"") + infos
    path.write_bytes(head + bytes(-len(head) % 32) + data)
    return path
