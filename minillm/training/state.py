"""The whole state of a training run in one file, so that an interruption loses nothing.

Weights and the optimizers' means are tensors, everything else (step, time, curve, recipe, and the
tokenizer as a note of the command) is JSON in the header of the same safetensors file. One file is
written beside the old one and renamed over it: there is always exactly one good state, and never a
weight of one step with a mean of another. Random numbers need no place: all of them follow from
the seed and the step.
"""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from minillm.files import write_whole
from minillm.training.trainer import Trainer

__all__ = ["read_state", "restore", "write_state"]


def write_state(path: Path, trainer: Trainer, notes: dict[str, Any]) -> None:
    """Write the trainer's state and `notes`, whole or not at all.

    Raises:
        ValueError: it cannot be written; what stood at `path` still does.
    """
    state = {"step": trainer.step, "seconds": trainer.seconds, "curve": trainer.curve}
    header = {"state": json.dumps(state | {"recipe": asdict(trainer.recipe)} | notes)}

    def write(beside: Path) -> None:
        save_file(_tensors(trainer), beside, metadata=header)
        with beside.open("rb+") as file:
            os.fsync(file.fileno())  # on the disk before the old one goes

    try:
        write_whole(path, write)
    except (OSError, SafetensorError) as error:  # full disk: either, by version of safetensors
        kept = "the one before is kept" if path.is_file() else "there is none before"
        raise ValueError(
            f"cannot write checkpoint {path} of step {trainer.step}: {error}; {kept}"
        ) from error


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the state, notes included, that `write_state` wrote.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: it is corrupted or truncated.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path} to resume")
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            return tensors, json.loads(file.metadata()["state"])
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"checkpoint {path} is corrupted or truncated: {error}") from error


@torch.no_grad()
def restore(trainer: Trainer, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Put a new trainer of the same recipe where `read_state`'s was."""
    for name, weight in trainer.model.named_parameters():
        weight.copy_(tensors[f"model.{name}"])
    for index, optimizer in enumerate(trainer.optimizers):
        means: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith(f"optimizer.{index}."):
                number, key = name.split(".")[2:]
                means.setdefault(int(number), {})[key] = tensor
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": means, "param_groups": groups})
    trainer.step, trainer.seconds, trainer.curve = state["step"], state["seconds"], state["curve"]


def _tensors(trainer: Trainer) -> dict[str, Tensor]:
    tensors = {f"model.{name}": w.detach() for name, w in trainer.model.named_parameters()}
    for index, optimizer in enumerate(trainer.optimizers):
        for number, means in optimizer.state_dict()["state"].items():
            for key, tensor in means.items():
                tensors[f"optimizer.{index}.{number}.{key}"] = tensor
    return tensors
