"""Exact skipping at full speed: `minillm.sparsity.SkippingMLP` in loops that copy no weights.

Dimensions: R rows (tokens), C width, F MLP width.
"""

from typing import Any

from torch import Tensor, nn

from minillm.fast.block import FusedBlock
from minillm.fast.kernels.neurons import open_neurons
from minillm.fast.layers import Layers
from minillm.fast.linear import FastLinear
from minillm.fast.model import ONE_CALL, FastTransformer, for_inference, optimized
from minillm.fast.plain import plain_numbers
from minillm.modules import swapped
from minillm.sparsity.pruning import ThresholdedGate
from minillm.sparsity.skipping import SkippingMLP
from minillm.transformer import MLP, Transformer

__all__ = ["SkippingBlock", "skipping"]


class SkippingBlock(FusedBlock):
    """A fused block whose MLP reads open neurons only, in a loop that gathers nothing."""

    @staticmethod
    def _fits_mlp(mlp: nn.Module) -> bool:
        return (
            type(mlp) is SkippingMLP and type(mlp.gate) is FastLinear and plain_numbers(mlp.neurons)
        )

    def _take_mlp(self, mlp: Any) -> None:
        self._gate, self._act = mlp.gate.kernel, mlp.act.forward
        self._neurons, self._reading = mlp.neurons.detach(), mlp.reading

    def _feed_forward(self, normed: Tensor, y: Tensor) -> Tensor:
        R, C = normed.shape
        gate = self._act(self._gate(normed)).contiguous()
        addresses = (tensor.data_ptr() for tensor in (normed, gate, self._neurons, y))
        self._reading.count(open_neurons(*addresses, R, C, gate.shape[1]))
        return y


def skipping(model: Transformer, kernel: str | None = None) -> Transformer:
    """`minillm.fast.model.optimized(model)`, its naive twin, without what shut gates multiply.

    It lays the MLPs out anew. On a CPU in float32 compiled loops read them, as one call for all
    layers where the gate is a relu; elsewhere rows are gathered.

    Args:
        model: one whose gates leave exact zeros; it stays as it is.
        kernel: as for `optimized`.

    Raises:
        ValueError: gates without exact zeros, MLPs of one's own, or an unknown kernel.
    """
    mlps = [module for name, module in model.named_modules() if name.endswith(".mlp")]
    for mlp in mlps:
        if not (type(mlp) is MLP and type(mlp.gate_up) is type(mlp.down) is nn.Linear):
            got = type(mlp).__name__
            raise ValueError(f"only the library's own MLP, of plain matrices, can skip, got {got}")
        if not isinstance(mlp.act, nn.ReLU | ThresholdedGate):
            raise ValueError(
                f"{type(mlp.act).__name__} shuts no gate entirely, so that nothing can be skipped "
                "exactly. Set small gates to zero first, at some loss (minillm.sparsity.cats; "
                "CATS, arXiv 2404.08763), or train the model on with a relu "
                "(relufication, arXiv 2310.04564)"
            )
    twin: Any = swapped(model, {mlp: SkippingMLP(mlp) for mlp in mlps})
    if kernel in (None, ONE_CALL) and Layers.skips(model):
        twin = for_inference(twin)
        readings = [block.mlp.reading for block in twin.blocks]
        return FastTransformer(twin, Layers(model, readings))
    fast = optimized(twin, kernel)
    for index, block in enumerate(fast.blocks):
        if SkippingBlock.fits(block):
            fast.blocks[index] = SkippingBlock(block)
    return fast
