"""What real accelerators compute and read a second, as their data sheets give it.

Nothing here is measured. FLOPs are those of dense matrices in `dtype`, summed in 32 bits: data
sheets often print the double, for matrices half of whose numbers are zeros, and consumer cards
another double, for sums in 16 bits. Programs reach a part of either figure. GB means 10^9 bytes.
"""

from dataclasses import dataclass

import torch

__all__ = ["ACCELERATORS", "Accelerator"]


@dataclass(frozen=True)
class Accelerator:
    """The rates of an accelerator.

    Attributes:
        flops: a second, of dense matrix products in `dtype`.
        bandwidth: bytes a second from and to its memory.
        memory: bytes; how much of it a program gets is less, because the driver, activations
            and fragmentation take their part.
        kind: of the memory.
        dtype: of the numbers that are multiplied.
        source: where the figures stand.
    """

    name: str
    flops: float
    bandwidth: float
    memory: float
    kind: str
    dtype: torch.dtype
    source: str


_A100_40 = "NVIDIA, A100 data sheet of 2020"
_A100_80 = "NVIDIA, A100 data sheet of 2021"
_H100 = "NVIDIA, H100 data sheet and H100 architecture white paper"
_ADA = "NVIDIA, Ada GPU architecture white paper"
_BLACKWELL = "NVIDIA, RTX Blackwell GPU architecture white paper"
_H200 = "NVIDIA, H200 data sheet"
_B200 = "NVIDIA, DGX B200 data sheet, an eighth of it; Blackwell architecture technical brief"
_MI300X = "AMD, Instinct MI300X data sheet"

ACCELERATORS: dict[str, Accelerator] = {
    accelerator.name: accelerator
    for accelerator in (
        Accelerator("A100 40 GB PCIe", 312e12, 1555e9, 40e9, "HBM2", torch.bfloat16, _A100_40),
        Accelerator("A100 40 GB SXM", 312e12, 1555e9, 40e9, "HBM2", torch.bfloat16, _A100_40),
        Accelerator("A100 80 GB PCIe", 312e12, 1935e9, 80e9, "HBM2e", torch.bfloat16, _A100_80),
        Accelerator("A100 80 GB SXM", 312e12, 2039e9, 80e9, "HBM2e", torch.bfloat16, _A100_80),
        Accelerator("H100 PCIe", 756e12, 2000e9, 80e9, "HBM2e", torch.bfloat16, _H100),
        Accelerator("H100 SXM", 989.4e12, 3350e9, 80e9, "HBM3", torch.bfloat16, _H100),
        Accelerator("H200", 989.5e12, 4800e9, 141e9, "HBM3e", torch.bfloat16, _H200),
        Accelerator("B200", 2250e12, 8000e9, 180e9, "HBM3e", torch.bfloat16, _B200),
        Accelerator("RTX 4090", 165.2e12, 1008e9, 24e9, "GDDR6X", torch.float16, _ADA),
        Accelerator("RTX 5090", 209.5e12, 1792e9, 32e9, "GDDR7", torch.float16, _BLACKWELL),
        Accelerator("MI300X", 1307.4e12, 5300e9, 192e9, "HBM3", torch.bfloat16, _MI300X),
    )
}
