"""Load and save weights: a shipped model, a Hugging Face folder or id, a GGUF file.

A folder holds config.json, model.safetensors (or its shards) and tokenizer.json; a `.gguf` file is
all of these in one. `opened` reads what is small, `Checkpoint.model` the weights.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from minillm.checkpoint import gguf
from minillm.checkpoint.chat import ChatTemplate, template_of
from minillm.checkpoint.hub import hub_id, pinned
from minillm.checkpoint.names import fuse, split
from minillm.checkpoint.published import PUBLISHED
from minillm.checkpoint.tensors import FLOATS, Stored, stored_tensors
from minillm.config import ModelConfig
from minillm.files import read_json, write_whole
from minillm.gemma import transformer_of
from minillm.tokens import END_OF_TEXT, for_family
from minillm.transformer import Transformer

__all__ = [
    "Checkpoint",
    "folder",
    "load",
    "opened",
    "read_tokenizer",
    "save",
    "shipped",
]

_SHIPPED = Path(__file__).parents[1] / "weights"


@dataclass(frozen=True)
class Checkpoint:
    """A model on disk: all of it but the weights, which are read when they are asked for.

    Attributes:
        path: the folder, or the file.
        ends: the tokens that end a text.
        template: of conversations, if it was taught any.
        stored: the weights under Hugging Face's names.
    """

    path: Path
    config: ModelConfig
    tokenizer: Tokenizer
    ends: list[int]
    template: ChatTemplate | None
    stored: Mapping[str, Stored]

    def chat(self, message: str) -> list[int]:
        """The tokens of a conversation that begins with a user's message, up to the answer.

        Raises:
            ValueError: the model has no template, or its template is broken.
        """
        if self.template is None:
            raise ValueError(f"{self.path} was not taught to chat: it has no chat template")
        text = self.template.rendered([{"role": "user", "content": message}])
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def model(
        self, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> Transformer:
        """The model, ready for inference; see `load` for the errors."""
        if dtype not in FLOATS:
            raise ValueError(f"dtype must be one of {', '.join(map(str, FLOATS))}, got {dtype}")
        device, config = _device(device), self.config
        tensors = fuse(config, self.stored, self.path, device, dtype)
        with torch.device("meta"):
            model = transformer_of(config)
        model.load_state_dict(tensors, assign=True, strict=not config.tie_word_embeddings)
        if config.tie_word_embeddings:
            model.head.weight = model.embed.weight
        return model.to(device, dtype).eval().requires_grad_(False)


def shipped() -> list[str]:
    """Names of the models inside the package."""
    return sorted(path.parent.name for path in _SHIPPED.glob("*/config.json"))


def folder(name: str | Path) -> Path:
    """The folder of a shipped model, `name` itself where that is one, or that of a Hub id.

    Raises:
        FileNotFoundError: it is none; the message lists the shipped models, or says how to fetch.
    """
    for candidate in (_SHIPPED / name, Path(name)):
        if (candidate / "config.json").is_file():
            return candidate
    text = Path(name).as_posix()
    if hub_id(text) == (text, None) and not Path(name).exists():
        if fetched := pinned(text):
            return fetched
        raise FileNotFoundError(
            f"{text} is neither a folder nor on this machine yet: minillm fetch {text}"
        )
    raise FileNotFoundError(
        f"no model named {str(name)!r}: the shipped ones are {', '.join(shipped())}; any other "
        f"name must be that of a fetched one ({', '.join(PUBLISHED)}, or OWNER/NAME of the Hugging "
        "Face Hub), a .gguf file or a folder that holds a config.json"
    )


def opened(name: str | Path) -> Checkpoint:
    """A model without its weights; see `load` for the names.

    Raises:
        FileNotFoundError: no such model, or a file of it is missing.
        ValueError: a file that is corrupted, truncated or contradicts itself, a config or a format
            that is not supported.
    """
    path = Path(name)
    if str(name) in PUBLISHED:
        path = PUBLISHED[str(name)].path
        if not path.is_file():
            raise FileNotFoundError(f"{name} is not on this machine yet: minillm fetch {name}")
    return _of_file(path) if path.suffix == ".gguf" else _of_folder(folder(name))


def load(
    name: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[Transformer, Tokenizer]:
    """A shipped or fetched model, a local Hugging Face folder or a GGUF file, ready for inference.

    Nothing is downloaded: that is what `minillm fetch` is for.

    Args:
        name: one of `shipped()` or of `PUBLISHED`, a folder, a file that ends in .gguf, or the
            OWNER/NAME of what `minillm fetch` downloaded from the Hugging Face Hub.
        device: where the weights go.
        dtype: what they are widened or narrowed to, one of `FLOATS`.

    Raises:
        FileNotFoundError: no such model, or a file of it is missing.
        ValueError: a config that is not supported, weights that are corrupted, truncated, of a
            type that needs scales, not finite in `dtype` or do not fit the config, an unreadable
            tokenizer, an unknown device or dtype.
    """
    checkpoint = opened(name)
    model = checkpoint.model(device, dtype)
    model.name = str(name)
    return model, checkpoint.tokenizer


def _of_folder(path: Path) -> Checkpoint:
    config = ModelConfig.from_file(path / "config.json")
    tokenizer = read_tokenizer(path / "tokenizer.json")
    ends, template = _ends(path, tokenizer), template_of(path)
    return Checkpoint(path, config, tokenizer, ends, template, stored_tensors(path))


def _of_file(path: Path) -> Checkpoint:
    file = gguf.read_gguf(path)
    try:
        fields = gguf.config_fields(file)
        config = ModelConfig.from_dict(fields)
        tokenizer = gguf.read_tokenizer(file.metadata)
        stored = gguf.hugging_face_tensors(file, fields)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    special = gguf.special_tokens(file.metadata)
    ends = [special["eos_token"]] if "eos_token" in special else []
    text = file.metadata.get("tokenizer.chat_template")
    texts = {name: str(tokenizer.id_to_token(number)) for name, number in special.items()}
    template = ChatTemplate(text, texts) if isinstance(text, str) else None
    return Checkpoint(path, config, tokenizer, ends, template, stored)


def _ends(path: Path, tokenizer: Tokenizer) -> list[int]:
    """The tokens that end a text: those that the folder names, or end-of-text, or none."""
    for file in (path / "generation_config.json", path / "config.json"):
        named = read_json(file).get("eos_token_id") if file.is_file() else None
        if named is not None:
            ends: list[Any] = named if isinstance(named, list) else [named]
            if not all(isinstance(end, int) for end in ends):
                raise ValueError(f"{file}: eos_token_id must be whole numbers, got {named!r}")
            return ends
    end = tokenizer.token_to_id(END_OF_TEXT)
    return [] if end is None else [end]


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
