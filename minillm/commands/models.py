"""`minillm models`: the shipped models, their sizes and what a cached token costs."""

import argparse

import torch

from minillm.checkpoint import folder, shipped
from minillm.commands.table import table
from minillm.config import ModelConfig
from minillm.kv_cache import kv_bytes
from minillm.transformer import Transformer

__all__ = ["add_arguments", "run"]

_HEAD = [
    "model",
    "parameters",
    "layers",
    "width",
    "heads/kv",
    "context",
    "bytes on disk",
    "cache bytes/token (fp32)",
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(arguments: argparse.Namespace) -> None:
    print(table(_HEAD, [_describe(name) for name in shipped()]))


def _describe(name: str) -> list[str]:
    path = folder(name)
    config = ModelConfig.from_file(path / "config.json")
    with torch.device("meta"):  # shapes, no memory
        parameters = sum(p.numel() for p in Transformer(config).parameters())
    return [
        name,
        f"{parameters:,}",
        str(config.num_hidden_layers),
        str(config.hidden_size),
        f"{config.num_attention_heads}/{config.num_key_value_heads}",
        str(config.max_position_embeddings),
        f"{sum(file.stat().st_size for file in path.glob('*.safetensors')):,}",
        f"{kv_bytes(config, 1, torch.float32):,}",
    ]
