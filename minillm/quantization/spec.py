"""How weights are stored: a format, and what shares a scale.

Dimensions: N outputs (channels), K inputs, G groups of a row.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from minillm.quantization.formats import FORMATS, Format, format_named
from minillm.quantization.packing import packed_bytes

__all__ = ["Granularity", "Spec"]

Granularity = int | Literal["tensor", "channel"]  # what shares a scale; a number: so many in a row


@dataclass(frozen=True)
class Spec:
    """How weights are stored.

    Attributes:
        format: a name in `minillm.quantization.formats.FORMATS`.
        group: what shares a scale; by default the format's own block, or else the channel.
        symmetric: without it, integers get a zero point, and the grid reaches from the smallest
            weight to the largest.

    Raises:
        ValueError: an unknown format; a group that is not the format's block; a zero point for
            what is no integer.
    """

    format: str
    group: Granularity | None = None
    symmetric: bool = True

    def __post_init__(self) -> None:
        form = format_named(self.format)
        if self.group is None:
            object.__setattr__(self, "group", form.block or "channel")
        if isinstance(self.group, int) and self.group < 1:
            raise ValueError(f"a group holds at least one weight, got {self.group}")
        if isinstance(self.group, str) and self.group not in ("tensor", "channel"):
            raise ValueError(f"group must be a number, 'tensor' or 'channel', got {self.group!r}")
        if form.block and self.group != form.block:
            raise ValueError(f"{self.format} has blocks of {form.block}, not {self.group}")
        if not (self.symmetric or form.integer):
            raise ValueError(f"{self.format} has no zero point: it must be symmetric")

    @property
    def table(self) -> Format:
        """The format itself."""
        return FORMATS[self.format]

    def scale_shape(self, N: int, K: int) -> tuple[int, int]:
        """How many scales a matrix has, as (rows, G).

        Raises:
            ValueError: the group does not divide the row.
        """
        if self.group == "tensor":
            return 1, 1
        if self.group == "channel":
            return N, 1
        assert isinstance(self.group, int)
        if K % self.group:
            raise ValueError(f"groups of {self.group} do not divide rows of {K} weights")
        return N, K // self.group

    def buffers(self, N: int, K: int) -> dict[str, tuple[torch.Size, torch.dtype]]:
        """What is stored of an (N, K) matrix, as shape and dtype: codes, scales and zero points."""
        (rows, G), form = self.scale_shape(N, K), self.table
        scales = torch.float32 if form.scales == "float32" else torch.uint8
        stored = {
            "packed": (torch.Size((N, packed_bytes(K, form.bits))), torch.uint8),
            "scales": (torch.Size((rows, G)), scales),
        }
        if not self.symmetric:
            zeros = torch.Size((rows, packed_bytes(G, form.bits)))
            stored["zero_points"] = (zeros, torch.uint8)
        if form.scales == "e4m3":
            stored["global_scale"] = (torch.Size(()), torch.float32)
        return stored

    def nbytes(self, N: int, K: int) -> int:
        """Of an (N, K) matrix as it is stored."""
        return sum(size.numel() * dtype.itemsize for size, dtype in self.buffers(N, K).values())

    def __str__(self) -> str:
        shared = f"groups of {self.group}" if isinstance(self.group, int) else f"per {self.group}"
        return f"{self.format}, {shared}{'' if self.symmetric else ', asymmetric'}"
