"""A model in few bits: every matrix rounded, norms and biases as they are."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from minillm.config import ModelConfig
from minillm.quantization.layers import QuantEmbedding, QuantLinear
from minillm.quantization.rounding import Quantized, quantize
from minillm.quantization.spec import Spec
from minillm.transformer import Transformer

__all__ = ["QuantizedTransformer", "matrices", "quantize_model"]


class QuantizedTransformer(Transformer):
    """A `Transformer` whose matrices are in few bits.

    Args:
        config: of the model.
        stored: the matrices by the name of their layer; a tied head is that of "embed".
        others: norms and biases, by their names in the plain model.
    """

    def __init__(
        self, config: ModelConfig, stored: Mapping[str, Quantized], others: Mapping[str, Tensor]
    ):
        with torch.device("meta"):
            super().__init__(config)
        matrices = {f"{name}.weight" for name in stored}
        wanted = {name: x.shape for name, x in self.named_parameters() if name not in matrices}
        given = {name: x.shape for name, x in others.items()}
        if wrong := sorted({name for name, _ in wanted.items() ^ given.items()}):
            raise ValueError(f"norms and biases do not fit: {', '.join(wrong)}")
        others = {name: tensor.float() for name, tensor in others.items()}
        for name, quantized in stored.items():
            bias = others.get(f"{name}.bias")
            layer = QuantLinear(quantized, bias) if name != "embed" else QuantEmbedding(quantized)
            self.set_submodule(name, layer)
        if config.tie_word_embeddings:
            self.set_submodule("head", QuantLinear(stored["embed"]))
        norms = {name: tensor for name, tensor in others.items() if not name.endswith(".bias")}
        self.load_state_dict(norms, strict=False, assign=True)
        self.to(self.device).eval().requires_grad_(False)

    def _apply(self, *args: Any, **kwargs: Any) -> "QuantizedTransformer":
        """What moves the model to a device, or to a dtype; a tied head stays tied."""
        super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]
        if self.config.tie_word_embeddings:
            for name, buffer in self.embed.named_buffers():
                self.head.register_buffer(name, buffer)
        return self

    @property
    def device(self) -> torch.device:
        embed: Any = self.embed
        return embed.packed.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the activations."""
        return torch.float32

    @property
    def nbytes(self) -> int:
        """Of everything that is stored; a matrix that serves twice counts once."""
        stored = [*self.parameters(), *self._packed_buffers()]
        return sum({tensor.data_ptr(): tensor.nbytes for tensor in stored}.values())

    def _packed_buffers(self) -> list[Tensor]:
        layers = [x for x in self.modules() if isinstance(x, QuantLinear | QuantEmbedding)]
        return [buffer for layer in layers for buffer in layer.buffers()]


def matrices(model: Transformer) -> dict[str, Tensor]:
    """A model's matrices by the names of their layers; a head tied to the embedding is not one."""
    layers = {
        name: module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Embedding)
    }
    if model.config.tie_word_embeddings:
        del layers["head"]
    return layers


def quantize_model(
    model: Transformer, spec: Spec, *, embed: Spec | None = None
) -> QuantizedTransformer:
    """Round all matrices to the nearest values; the naive twin is `model`.

    Args:
        model: stays as it is.
        spec: of every matrix.
        embed: of the embedding, and of a head tied to it, where it is another.

    Raises:
        ValueError: a matrix with weights that are not finite, or with rows that the group does
            not divide; the message names it.
    """
    with torch.device("meta"):
        plain = Transformer(model.config)
    if [type(x) for x in plain.modules()][1:] != [type(x) for x in model.modules()][1:]:
        raise ValueError("quantize the plain model, before other modules are put in its place")
    stored = {}
    for name, weight in matrices(model).items():
        try:
            stored[name] = quantize(weight.detach(), embed or spec if name == "embed" else spec)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return QuantizedTransformer(model.config, stored, _others(model))


def _others(model: Transformer) -> dict[str, Tensor]:
    return {
        name: tensor.detach().clone()
        for name, tensor in model.named_parameters()
        if tensor.ndim == 1  # norms and biases
    }
