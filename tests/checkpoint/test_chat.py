"""Chat templates: as transformers renders them, and nothing but text."""

import json
import shutil
from pathlib import Path

import pytest

from minillm.checkpoint import folder, opened
from minillm.checkpoint.chat import ChatTemplate, template_of
from minillm.commands.main import main

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are helpful<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA = (
    "{{ bos_token }}\n{%- for m in messages %}\n    {%- if m.role not in ['user', 'assistant'] %}\n"
    "{{ raise_exception('only user and assistant') }}\n    {%- endif %}\n    "
    "{{- '[' + m.role + '] ' + m.content | trim + eos_token }}{{ m | tojson }}\n"
    "{%- if loop.index > 5 %}{% break %}{% endif %}\n{%- endfor %}\n"
)
MARKED = (
    "{% set name = 'a' %}{% for m in messages %}{% if m.role == 'assistant' %}\n"
    "    {% generation %}\n{% set name = 'b' %}{{ m.content }}{{ name }}{% endgeneration %}"
    "{{ name }}\n"
    "{% else %}{{ m.content }}{% endif %}{% endfor %}{{ name }}"
)
TALK = [{"role": "user", "content": " hi <é>&'\"\n"}, {"role": "assistant", "content": "Hello."}]
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


@pytest.mark.parametrize("text", [CHATML, LLAMA, MARKED])
def test_a_conversation_is_rendered_as_in_transformers(text: str) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    theirs, _ = render_jinja_template(
        [TALK], chat_template=text, add_generation_prompt=True, **TOKENS
    )
    assert [ChatTemplate(text, TOKENS).rendered(TALK)] == theirs


@pytest.mark.parametrize(
    "text",
    [
        "{{ raise_exception('no system') }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{% for i in range(10**9) %}{% endfor %}",
        "{% include '/etc/passwd' %}",
        "{{ messages[7].content + 1 }}",
        "{{ 1 / 0 }}",
        "{% if %}",
        "{{ 'a' * 'b' }}",
    ],
)
def test_a_template_that_breaks_or_leaves_its_sandbox_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="the chat template does not take this"):
        ChatTemplate(text).rendered(TALK)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder("stories-draft"), tmp_path / "copy"))


@pytest.mark.parametrize("spelling", ["text", "list", "file"])
def test_a_folder_names_its_template(copy: Path, spelling: str) -> None:
    fields: dict[str, object] = {"bos_token": {"content": "<s>"}, "eos_token": "</s>"}
    if spelling == "file":
        (copy / "chat_template.jinja").write_text(LLAMA)
    else:
        several = [{"name": "tool", "template": "x"}, {"name": "default", "template": LLAMA}]
        fields["chat_template"] = LLAMA if spelling == "text" else several
    (copy / "tokenizer_config.json").write_text(json.dumps(fields))
    assert template_of(copy) == ChatTemplate(LLAMA, TOKENS)


def test_special_tokens_of_a_template_are_tokens(copy: Path) -> None:
    (copy / "chat_template.jinja").write_text("<|endoftext|>{{ messages[0].content }}")
    checkpoint = opened(copy)
    end = checkpoint.tokenizer.token_to_id("<|endoftext|>")
    words = checkpoint.tokenizer.encode("a dog", add_special_tokens=False).ids
    assert checkpoint.chat("a dog") == [end, *words]


def test_a_model_that_cannot_chat_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "--model", "stories-draft", "--chat", "hi"]) == 2
    assert "was not taught to chat" in capsys.readouterr().err


def test_an_answer_is_shown_without_the_question(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copy / "chat_template.jinja").write_text("<|endoftext|>Q: {{ messages[0].content }} A:")
    command = ["generate", "--model", str(copy), "--max-new-tokens", "3", "--temperature", "0"]
    assert main([*command, "--readable", "--chat", "the zebra"]) == 0
    answer = capsys.readouterr().out
    assert main([*command, "--readable", "Q: the zebra A:"]) == 0
    assert "zebra" not in answer
    assert capsys.readouterr().out.endswith(answer)
