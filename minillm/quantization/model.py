"""A model in few bits: every matrix rounded, norms and biases as they are; saved and loaded.

A file is one safetensors: of each matrix its packed codes, scales and zero points, and in the
metadata the model's config and how each matrix is stored.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from minillm.checkpoint.tensors import read_file, refuse_infinite, refuse_types
from minillm.config import ModelConfig
from minillm.config_fields import checked
from minillm.files import parse_json, write_whole
from minillm.quantization.layers import QuantEmbedding, QuantLinear, unpacked
from minillm.quantization.rounding import Quantized, dequantize, quantize
from minillm.quantization.spec import Spec
from minillm.transformer import Transformer

__all__ = ["QuantizedTransformer", "load_quantized", "matrices", "quantize_model", "save_quantized"]


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


def save_quantized(path: str | Path, model: QuantizedTransformer) -> None:
    """Write a file that `load_quantized` reads; it appears whole or not at all."""
    tensors = {name: tensor.contiguous() for name, tensor in model.named_parameters()}
    if not isinstance(model.embed, QuantEmbedding):
        raise ValueError("save the quantized model itself, not a twin of it")
    specs = {}
    for name, layer in _layers(model).items():
        specs[name] = asdict(layer.spec)
        tensors |= {f"{name}.{part}": buffer for part, buffer in layer.named_buffers()}
    metadata = {"config": json.dumps(model.config.to_dict()), "specs": json.dumps(specs)}
    write_whole(Path(path), lambda f: save_file(tensors, f, metadata=metadata))


def _layers(model: QuantizedTransformer) -> dict[str, Any]:
    layers = {
        name: x for name, x in model.named_modules() if isinstance(x, QuantLinear | QuantEmbedding)
    }
    if model.config.tie_word_embeddings:
        del layers["head"]
    return layers


def load_quantized(path: str | Path) -> QuantizedTransformer:
    """A model that `save_quantized` wrote.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is truncated, corrupted, not finite, or no quantized model.
    """
    path = Path(path)
    tensors, metadata = read_file(path)
    if not {"config", "specs"} <= metadata.keys():
        raise ValueError(f"{path} is not a quantized model: its metadata has no config and specs")
    config = ModelConfig.from_dict(parse_json(metadata["config"], path))
    specs = parse_json(metadata["specs"], path)
    with torch.device("meta"):
        shapes = {name: weight.shape for name, weight in matrices(Transformer(config)).items()}
    try:
        stored = {n: _stored(tensors, n, _spec(n, specs[n]), x) for n, x in shapes.items()}
    except KeyError as error:
        raise ValueError(f"{path} lacks {error}") from error
    refuse_types(tensors, path)  # what is left: norms and biases
    refuse_infinite(tensors, path)
    for name, quantized in stored.items():
        refuse_infinite({f"{name}.scales": quantized.grid.steps}, path)
        refuse_infinite({f"{name}.weight": dequantize(quantized)}, path)  # a code may be NaN
    return QuantizedTransformer(config, stored, tensors)


def _spec(name: str, fields: Any) -> Spec:
    """How a matrix is stored, as `save_quantized` notes it."""
    group = checked(f"the spec of {name}", fields, dict).get("group")
    return Spec(
        checked(f"the format of {name}", fields.get("format"), str),
        checked(f"the group of {name}", group, str if isinstance(group, str) else int),
        checked(f"the symmetry of {name}", fields.get("symmetric"), bool),
    )


def _stored(tensors: dict[str, Tensor], name: str, spec: Spec, shape: torch.Size) -> Quantized:
    """Take a matrix out of the tensors of a file."""
    buffers = {}
    for part, expected in spec.buffers(*shape).items():
        buffers[part] = found = tensors.pop(f"{name}.{part}")
        if (found.shape, found.dtype) != expected:
            raise ValueError(f"{name}.{part}: {found.dtype}, {tuple(found.shape)} does not fit")
    return unpacked(spec, shape[1], buffers)
