"""The tensors of safetensors files, and of a folder: one file, or shards that an index names.

What is read is either used or refused by name; nothing is followed out of the folder.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from minillm.config_fields import checked
from minillm.files import read_json

__all__ = ["FLOATS", "Stored", "read_file", "refuse_infinite", "refuse_types", "stored_tensors"]

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Stored:
    """A tensor on disk, which each call of `read` reads anew."""

    shape: tuple[int, ...]
    read: Callable[[], Tensor]


def read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, and its metadata.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is truncated or corrupted.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} has no {path.name}")
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path} is corrupted or truncated: {error}") from error


def stored_tensors(folder: Path) -> dict[str, Stored]:
    """The weights of a folder: of model.safetensors, or else of the shards of its index.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is truncated or corrupted, files and index do not fit, the index points
            out of the folder; when it is read, a tensor is not of `FLOATS`.
    """
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    whole = single.is_file() or not index.is_file()  # of both, transformers takes the file too
    return _weights(single) if whole else _of_shards(index)


def refuse_types(tensors: Mapping[str, Tensor], path: Path) -> None:
    """See that tensors are numbers that need no scale.

    Raises:
        ValueError: one is of another type than `FLOATS`; the message names file, tensor and type.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in FLOATS:
            known = ", ".join(map(str, FLOATS))
            raise ValueError(f"{path}: {name} is stored as {tensor.dtype}, not one of {known}")


def refuse_infinite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """See that all numbers are finite.

    Raises:
        ValueError: NaN or infinity; the message names file and tensor.
    """
    for name, tensor in tensors.items():
        if not torch.stack(tensor.aminmax()).isfinite().all():  # NaN is both
            raise ValueError(
                f"{path}: {name} has numbers that are NaN or infinite in {tensor.dtype}"
            )


def _is_weight(name: str) -> bool:
    """Whether a stored tensor is one; older folders hold rotary buffers, which follow from config.

    Source: transformers 5 ignores these too, `PreTrainedModel._adjust_missing_and_unexpected_keys`.
    """
    return not name.endswith("rotary_emb.inv_freq")


def _weights(path: Path) -> dict[str, Stored]:
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} has no {path.name}")
    try:
        file: Any = safe_open(path, "pt")
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is corrupted or truncated: {error}") from error

    def read(name: str) -> Tensor:
        try:
            tensor = file.get_tensor(name)
        except SafetensorError as error:
            raise ValueError(f"{path}: {name} cannot be read: {error}") from error
        refuse_types({name: tensor}, path)
        return tensor

    return {
        name: Stored(tuple(shape), partial(read, name))
        for name, shape in shapes.items()
        if _is_weight(name)
    }


def _of_shards(index: Path) -> dict[str, Stored]:
    """Every tensor from the shard that the index names; copies in other shards are stale."""
    weight_map = _weight_map(index)
    tensors: dict[str, Stored] = {}
    for shard in sorted(set(weight_map.values())):
        stored = _weights(index.parent / shard)
        if stray := stored.keys() - weight_map.keys():
            raise ValueError(f"{index} does not name tensors of {shard}: {_listed(stray)}")
        tensors |= {name: x for name, x in stored.items() if weight_map[name] == shard}
    if absent := weight_map.keys() - tensors.keys():
        raise ValueError(f"{index} names tensors that its files lack: {_listed(absent)}")
    return tensors


def _weight_map(index: Path) -> dict[str, str]:
    weight_map = checked(f"{index}: weight_map", read_json(index).get("weight_map"), dict)
    if not weight_map:
        raise ValueError(f"{index} must map tensors to files under 'weight_map'")
    inside = os.path.abspath(index.parent)
    for name, shard in weight_map.items():
        path = index.parent / checked(f"{index}: the file of {name}", shard, str)
        if not Path(os.path.abspath(path)).is_relative_to(inside):
            raise ValueError(f"{index}: the file of {name} is outside of the folder: {shard!r}")
    return {name: shard for name, shard in weight_map.items() if _is_weight(name)}


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))
