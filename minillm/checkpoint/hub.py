"""Models of the Hugging Face Hub by their id, OWNER/NAME: fetched on request, opened offline.

`huggingface_hub` keeps the files in its cache, where a folder holds a commit and bears its name. A
*pin* in our cache says which folder was fetched last: a model stays the same until it is fetched
again.
"""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from minillm.config import ModelConfig
from minillm.files import write_whole

__all__ = ["asked", "fetch_snapshot", "hub_id", "pinned"]

_ID = re.compile(r"(\w[\w.-]*/\w[\w.-]*)(?:@([^\s@]+))?", re.ASCII)
_FILES = [  # no pickles, and no second format of the same weights
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
]


def hub_id(text: str) -> tuple[str, str | None] | None:
    """OWNER/NAME and the revision of OWNER/NAME[@REVISION], or None where a text is no such id.

    >>> hub_id("Qwen/Qwen3-0.6B@v1.0"), hub_id("stories"), hub_id("../model")
    (('Qwen/Qwen3-0.6B', 'v1.0'), None, None)
    """
    match = _ID.fullmatch(text)
    return (match[1], match[2]) if match else None


def asked(function: str, *given: Any, **named: Any) -> Any:
    """What a function of `huggingface_hub` returns.

    Raises:
        OSError: the package is not installed, the Hub is not reached, or it refuses.
    """
    try:
        hub: Any = import_module("huggingface_hub")
    except ImportError as error:
        raise OSError(f"the Hugging Face Hub: pip install 'minillm[hub]' ({error})") from error
    try:
        return getattr(hub, function)(*given, **named)
    except Exception as error:  # those of its HTTP client, and its own
        raise OSError(f"the Hugging Face Hub: {error}") from error


def fetch_snapshot(name: str, revision: str | None = None) -> Path:
    """Download OWNER/NAME, and pin it: config and tokenizer, weights in safetensors, nothing else.

    A download that was broken off goes on where it stopped.

    Args:
        revision: a branch, a tag or a commit; the main branch by default.

    Returns:
        the folder, whose name is the commit.

    Raises:
        OSError: as `asked`.
        ValueError: the config is not supported; then no weights were downloaded.
    """
    commit = asked("model_info", name, revision=revision).sha
    ModelConfig.from_file(Path(asked("hf_hub_download", name, "config.json", revision=commit)))
    folder = asked("snapshot_download", name, revision=commit, allow_patterns=_FILES)
    pin = _pin(name)
    pin.parent.mkdir(parents=True, exist_ok=True)
    write_whole(pin, lambda file: file.write_text(folder, encoding="utf-8"))
    return Path(folder)


def pinned(name: str) -> Path | None:
    """The folder that was fetched of OWNER/NAME, if it is still there; no network is asked."""
    pin = _pin(name)
    folder = Path(pin.read_text(encoding="utf-8")) if pin.is_file() else None
    return folder if folder is not None and folder.is_dir() else None


def _pin(name: str) -> Path:
    return user_cache_path("minillm") / "hub" / name.replace("/", "--")
