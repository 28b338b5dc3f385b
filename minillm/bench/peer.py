"""transformers beside ours, in a process of its own.

There its threads wait for each other as its users have them wait. Those of our commands sleep early
(`minillm.threads`): of a library of many small calls, that may take a third of its speed.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from minillm.bench.rows import UnmeasuredError
from minillm.checkpoint import opened, save

__all__ = ["Peer", "peer"]

_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
_loaded: dict[str, Any] = {}  # in the peer's process


class Peer:
    """A model as transformers reads it, in float32. Its texts end nowhere."""

    def __init__(self, ask: Callable[..., Any]):
        self._ask = ask

    def greedy(self, prompt: list[int], count: int) -> list[int]:
        """The next `count` tokens, by `generate`."""
        tokens: list[int] = self._ask(_generate, prompt, count)
        return tokens

    def assisted(self, prompt: list[int], count: int, gamma: int) -> list[int]:
        """The same tokens, by assisted generation with `gamma` guesses a round."""
        tokens: list[int] = self._ask(_assisted, prompt, count, gamma)
        return tokens

    def prefill(self, tokens: Tensor) -> Tensor:
        """Fill a cache with tokens (B, S); the logits (B, V) of the last one."""
        return torch.tensor(self._ask(_prefill, tokens.tolist()))


@contextmanager
def peer(name: str, draft: str | None = None) -> Iterator[Peer]:
    """Start the process of a peer, with as many threads as ours; it ends with the block.

    Args:
        name: of the model, as `minillm.load` takes it.
        draft: of the one that guesses in `Peer.assisted`.

    Raises:
        UnmeasuredError: transformers is not installed, or does not read the model.
    """
    if find_spec("transformers") is None:
        raise UnmeasuredError("transformers is not installed: pip install 'minillm[bench]'")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:

        def ask(call: Callable[..., Any], *given: Any) -> Any:
            return process.submit(call, *given).result()

        ours = {key: os.environ.pop(key) for key in _WAITING if key in os.environ}
        try:
            ask(_load, name, draft, torch.get_num_threads())
        except Exception as error:  # whatever another version of it raises
            raise UnmeasuredError(f"transformers does not run: {error}") from error
        finally:
            os.environ.update(ours)
        yield Peer(ask)


def _load(name: str, draft: str | None, threads: int) -> None:
    torch.set_num_threads(threads)
    transformers: Any = import_module("transformers")
    logging = transformers.utils.logging
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    for role, named in (("model", name), ("draft", draft)):
        if named is None:
            continue
        with _folder(named) as path:
            read = transformers.AutoModelForCausalLM.from_pretrained(
                path, dtype=torch.float32, local_files_only=True
            ).eval()
        read.generation_config.eos_token_id = None  # min_new_tokens would ban the token
        read.generation_config.pad_token_id = 0
        _loaded[role] = read


@contextmanager
def _folder(name: str) -> Iterator[Path]:
    """The model's folder; that of a model from one file is there for a while."""
    checkpoint = opened(name)
    if checkpoint.path.is_dir():
        yield checkpoint.path
        return
    with TemporaryDirectory(ignore_cleanup_errors=True) as made:
        save(Path(made), checkpoint.model(), checkpoint.tokenizer, torch.float32)
        yield Path(made)


@torch.inference_mode()
def _generate(prompt: list[int], count: int, **more: Any) -> list[int]:
    tokens = torch.tensor([prompt])
    text: Tensor = _loaded["model"].generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        max_new_tokens=count,
        do_sample=False,
        **more,
    )
    return text[0, len(prompt) :].tolist()


def _assisted(prompt: list[int], count: int, gamma: int) -> list[int]:
    settings = _loaded["draft"].generation_config
    settings.num_assistant_tokens = gamma
    settings.num_assistant_tokens_schedule = "constant"
    settings.assistant_confidence_threshold = 0.0
    return _generate(prompt, count, assistant_model=_loaded["draft"])


@torch.inference_mode()
def _prefill(tokens: list[list[int]]) -> list[list[float]]:
    read = _loaded["model"](torch.tensor(tokens), use_cache=True, logits_to_keep=1)
    logits: list[list[float]] = read.logits[:, 0].tolist()
    return logits
