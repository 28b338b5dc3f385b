"""What a model was taught a conversation looks like: its own template, filled in.

A template comes with the weights and is a program; it runs in jinja's sandbox, which has no files,
no network and none of Python's insides.

Source: transformers' `chat_template_utils.py`, which renders the same.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from minillm.files import read_json

__all__ = ["ChatTemplate", "template_of"]


@dataclass(frozen=True)
class ChatTemplate:
    """A template, and the texts of the special tokens that it may name, such as `bos_token`."""

    text: str
    tokens: Mapping[str, str] = field(default_factory=dict)

    def rendered(self, messages: Sequence[Mapping[str, str]]) -> str:
        """A conversation up to where the model answers, special tokens included.

        Args:
            messages: each with a `role` (system, user, assistant) and its `content`.

        Raises:
            ValueError: the template is broken, leaves the sandbox or refuses the messages.
        """
        sandbox = ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", _Answer],
        )
        sandbox.filters["tojson"] = _to_json
        sandbox.globals |= {"raise_exception": _refuse, "strftime_now": datetime.now().strftime}
        try:
            return sandbox.from_string(self.text).render(
                messages=messages, add_generation_prompt=True, tools=None, **self.tokens
            )
        except Exception as error:  # the template is a program of others
            raise ValueError(f"the chat template does not take this: {error}") from error


def template_of(folder: Path) -> ChatTemplate | None:
    """The template of a Hugging Face folder, or none.

    Raises:
        ValueError: tokenizer_config.json is not JSON.
    """
    config, own = folder / "tokenizer_config.json", folder / "chat_template.jinja"
    fields = read_json(config) if config.is_file() else {}
    text = own.read_text(encoding="utf-8") if own.is_file() else fields.get("chat_template")
    if isinstance(text, list):  # several, by name
        named_texts = [x for x in text if isinstance(x, dict) and x.get("name") == "default"]
        text = named_texts[0].get("template") if named_texts else None
    if not isinstance(text, str):
        return None
    named = {name: fields.get(name) for name in ("bos_token", "eos_token", "unk_token")}
    texts = {name: x.get("content") if isinstance(x, dict) else x for name, x in named.items()}
    return ChatTemplate(text, {name: x for name, x in texts.items() if isinstance(x, str)})


class _Answer(Extension):
    """`{% generation %}` marks what the model wrote, for training; here it is text as any other."""

    tags = {"generation"}  # noqa: RUF012 (jinja declares it so)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)
