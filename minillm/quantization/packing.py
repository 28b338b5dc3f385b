"""Codes of few bits side by side in bytes: what is claimed is what is stored.

A row of codes is one stream of bits, the most significant first, and ends at a byte's border: two
codes of four bits share a byte, the first in its upper half; eight codes of three bits are three
bytes.

>>> pack(torch.tensor([[1, 2, 3]], dtype=torch.uint8), bits=4).tolist()
[[18, 48]]
>>> unpack(torch.tensor([[18, 48]], dtype=torch.uint8), bits=4, count=3).tolist()
[[1, 2, 3]]
"""

import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

__all__ = ["pack", "packed_bytes", "unpack"]


def packed_bytes(count: int, bits: int) -> int:
    """Of a row of `count` codes."""
    return -(-count * bits // 8)


def pack(codes: UInt8[Tensor, "*rows K"], bits: int) -> UInt8[Tensor, "*rows bytes"]:
    """Codes below 2^bits, in as few bytes as hold a row of them.

    Raises:
        ValueError: a code that needs more bits.
    """
    if codes.numel() and int(codes.max()) >> bits:
        raise ValueError(f"a code of {int(codes.max())} does not fit {bits} bits")
    if bits == 8:
        return codes
    stream = _bits(codes, bits).flatten(-2)  # (..., K x bits)
    stream = F.pad(stream, (0, -stream.shape[-1] % 8)).unflatten(-1, (-1, 8))
    return (stream << _places(8, codes.device)).sum(-1, dtype=torch.uint8)


def unpack(packed: UInt8[Tensor, "*rows bytes"], bits: int, count: int) -> UInt8[Tensor, "*rows K"]:
    """The first `count` codes of each row, which `pack` took.

    Raises:
        ValueError: rows of another length.
    """
    if packed.shape[-1] != packed_bytes(count, bits):
        raise ValueError(
            f"{count} codes of {bits} bits are {packed_bytes(count, bits)} bytes, "
            f"got {packed.shape[-1]}"
        )
    if bits == 8:
        return packed
    stream = _bits(packed, 8).flatten(-2)[..., : count * bits].unflatten(-1, (count, bits))
    return (stream << _places(bits, packed.device)).sum(-1, dtype=torch.uint8)


def _bits(numbers: Tensor, count: int) -> Tensor:
    """(...) to (..., count): the last `count` bits of each number, the highest first."""
    return numbers.unsqueeze(-1) >> _places(count, numbers.device) & 1


def _places(count: int, device: torch.device) -> Tensor:
    return torch.arange(count - 1, -1, -1, dtype=torch.uint8, device=device)
