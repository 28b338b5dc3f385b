"""Load and save weights: Hugging Face folders of safetensors, nothing else.

A folder holds config.json, model.safetensors (or its shards) and tokenizer.json. The names inside
are Hugging Face's (`minillm.checkpoint.names`).
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from minillm.checkpoint.names import fuse, split
from minillm.checkpoint.tensors import FLOATS, read_tensors, refuse_infinite
from minillm.config import ModelConfig
from minillm.files import write_whole
from minillm.tokens import for_family
from minillm.transformer import Transformer

__all__ = [
    "folder",
    "load",
    "read_tokenizer",
    "save",
    "shipped",
]

_SHIPPED = Path(__file__).parents[1] / "weights"


def shipped() -> list[str]:
    """Names of the models inside the package."""
    return sorted(path.parent.name for path in _SHIPPED.glob("*/config.json"))


def folder(name: str | Path) -> Path:
    """The folder of a shipped model, or `name` itself where that is a checkpoint's folder.

    Raises:
        FileNotFoundError: it is neither; the message lists the shipped models.
    """
    for candidate in (_SHIPPED / name, Path(name)):
        if (candidate / "config.json").is_file():
            return candidate
    raise FileNotFoundError(
        f"no model named {str(name)!r}: the shipped ones are {', '.join(shipped())}; "
        "any other name must be a folder that holds a config.json"
    )


def load(
    name: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[Transformer, Tokenizer]:
    """A shipped model or a local Hugging Face folder, ready for inference.

    Args:
        name: one of `shipped()`, or a folder.
        device: where the weights go.
        dtype: what they are widened or narrowed to, one of `FLOATS`.

    Raises:
        FileNotFoundError: no such model, or a file of it is missing.
        ValueError: a config that is not supported, weights that are corrupted, truncated, of a
            type that needs scales, not finite in `dtype` or do not fit the config, an unreadable
            tokenizer, an unknown device or dtype.
    """
    path = folder(name)
    if dtype not in FLOATS:
        raise ValueError(f"dtype must be one of {', '.join(map(str, FLOATS))}, got {dtype}")
    device = _device(device)
    config = ModelConfig.from_file(path / "config.json")
    tokenizer = read_tokenizer(path / "tokenizer.json")
    stored = {name: tensor.to(device, dtype) for name, tensor in read_tensors(path).items()}
    refuse_infinite(stored, path)
    tensors = fuse(config, stored, path)
    with torch.device("meta"):
        model = Transformer(config)
    try:
        model.load_state_dict(tensors, assign=True, strict=not config.tie_word_embeddings)
    except RuntimeError as error:
        raise ValueError(f"{path}: a tensor's shape does not fit config.json: {error}") from error
    if config.tie_word_embeddings:
        model.head.weight = model.embed.weight
    return model.to(device, dtype).eval().requires_grad_(False), tokenizer


def save(path: Path, model: Transformer, tokenizer: Tokenizer, dtype: torch.dtype) -> None:
    """Write a folder that `load` and transformers read; each file appears whole or not at all.

    Qwen begins no text with end-of-text: a tokenizer that does is written without
    (`minillm.tokens.for_family`).
    """
    path.mkdir(parents=True, exist_ok=True)
    config = model.config.to_dict() | {"dtype": str(dtype).removeprefix("torch.")}
    write_whole(path / "config.json", lambda f: f.write_text(json.dumps(config, indent=1) + "\n"))
    own = for_family(tokenizer, model.config.model_type)
    write_whole(path / "tokenizer.json", lambda f: own.save(str(f)))
    tensors = {name: tensor.to("cpu", dtype) for name, tensor in split(model)}
    write_whole(
        path / "model.safetensors", lambda f: save_file(tensors, f, metadata={"format": "pt"})
    )
    for stale in (*path.glob("model-*-of-*.safetensors"), path / "model.safetensors.index.json"):
        stale.unlink(missing_ok=True)  # shards of an older model, which some programs would prefer


def read_tokenizer(path: Path) -> Tokenizer:
    """A tokenizer.json; what it says of truncation and padding is not obeyed: texts stay whole.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} has no {path.name}")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise ValueError(f"{path} is not a tokenizer: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _device(device: torch.device | str) -> torch.device:
    try:
        device = torch.device(device)
        torch.empty(1, device=device).item()  # the meta device has no values
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ValueError(f"device {str(device)!r} is not available: {error}") from error
    return device
