"""A text box that names an explorer's model: what `minillm.load` takes, loaded on Enter.

One model that a reader has named is in memory, for all boxes together: a box that shows an earlier
one loads it again when it needs it. The model that an explorer was made with is its maker's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ipywidgets
import torch
import traitlets
from tokenizers import Tokenizer

from minillm import Transformer
from minillm.checkpoint import opened
from widgets.common.controls import Explorer
from widgets.common.program import Program, program
from widgets.common.strings import say

__all__ = ["ModelBox", "OfModel", "offer"]

_LINE = 100  # letters of what is said of a model
_kept: dict[tuple[str, torch.device], tuple[Transformer, Tokenizer]] = {}  # one at most


def _named(name: str, device: torch.device) -> tuple[Transformer, Tokenizer]:
    """A model in 32 bits. What was kept goes before its weights are read; see `load` for errors."""
    if (name, device) not in _kept:
        checkpoint = opened(name)
        _kept.clear()
        _kept[name, device] = checkpoint.model(device), checkpoint.tokenizer
    return _kept[name, device]


class ModelBox(Program):
    """The name of a model, and the model; `value` is the name in force.

    Args:
        model, tokenizer: which are in force at first, and where the reader leaves nothing.
    """

    _esm = program(Path(__file__).with_suffix(".js"))

    label = traitlets.Unicode(say("model.name")).tag(sync=True)
    help = traitlets.Unicode(say("model.help")).tag(sync=True)
    value = traitlets.Unicode().tag(sync=True)
    said = traitlets.Unicode().tag(sync=True)
    refused = traitlets.Bool(False).tag(sync=True)

    def __init__(self, model: Transformer, tokenizer: Tokenizer):
        self._own, self._own_name = (model, tokenizer), model.name
        self.note = ""
        super().__init__(value=model.name)
        self.add_class("named")
        self.on_msg(lambda _, asked, __: self.take(asked["name"]))

    @property
    def is_own(self) -> bool:
        """Whether the model in force is the one that the box was made with."""
        return self.value == self._own_name

    @property
    def model(self) -> Transformer:
        return self._both()[0]

    @property
    def tokenizer(self) -> Tokenizer:
        return self._both()[1]

    def take(self, name: str) -> None:
        """Put a model in force; of one that cannot be, the reader is told, and the old one stays.

        Who observes `value` may refuse it by a ValueError, or say something of it in `note`.
        """
        name, before = name.strip() or self._own_name, self.value
        self.note, self.refused = "", False
        self.said = say("model.loading", name=_line(name))
        try:
            if name != self._own_name:
                _named(name, self._own[0].device)
            self.value = name
        except (OSError, ValueError, RuntimeError, MemoryError) as error:
            self.value, self.refused = before, True
            self.note = say(
                "model.refused", why=_line(str(error) or type(error).__name__), name=before
            )
        self.said = self.note

    def _both(self) -> tuple[Transformer, Tokenizer]:
        return self._own if self.is_own else _named(self.value, self._own[0].device)


def _line(text: str) -> str:
    text = " ".join(text.split()).rstrip(".")
    return text if len(text) <= _LINE else text[:_LINE] + "…"


class OfModel(Explorer):
    """Mixin: what an explorer shows of a model and a prompt, it shows of any model.

    It stands before the kind of explorer, which reads `self._model` and `self._tokenizer`.

    Args:
        model, tokenizer: as `minillm.load` gives them.
        controls: the first one is the prompt; the model's name stands beside it.
        folded: further ones.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        controls: Mapping[str, ipywidgets.ValueWidget],
        folded: Mapping[str, ipywidgets.ValueWidget] | None = None,
    ):
        self.named, self._fitting = ModelBox(model, tokenizer), False
        (prompt, text), *others = controls.items()
        super().__init__({prompt: text, "model": self.named, **dict(others)}, folded)

    @property
    def _model(self) -> Transformer:
        return self.named.model

    @property
    def _tokenizer(self) -> Tokenizer:
        return self.named.tokenizer

    def fit(self) -> None:
        """Make the controls those of another model; they draw nothing meanwhile.

        Raises:
            ValueError: a model of which there is nothing to show.
        """

    def _change(self, change: Any) -> None:
        if self._fitting:
            return
        if change["owner"] is self.named:
            self._fitting = True
            try:
                self.fit()
            finally:
                self._fitting = False
        super()._change(change)


def offer(control: Any, options: Iterable[Any]) -> None:
    """Give a list other options; the chosen one stays, where one of that label is among them."""
    chosen = control.label
    control.options = list(options)
    if chosen in control._options_labels:
        control.label = chosen
