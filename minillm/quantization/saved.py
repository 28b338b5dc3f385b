"""A model in few bits, saved and loaded.

A file is one safetensors: of each matrix its packed codes, scales and zero points, and in the
metadata the model's config and how each matrix is stored.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from minillm.checkpoint.tensors import read_file, refuse_infinite, refuse_types
from minillm.config import ModelConfig
from minillm.config_fields import checked
from minillm.files import parse_json, write_whole
from minillm.quantization.layers import QuantEmbedding, QuantLinear, unpacked
from minillm.quantization.model import QuantizedTransformer, matrices
from minillm.quantization.rounding import Quantized, dequantize
from minillm.quantization.spec import Spec
from minillm.transformer import Transformer

__all__ = ["load_quantized", "save_quantized"]


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
