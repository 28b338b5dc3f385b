"""The prompt of an explorer: whose text is in force, and what is said of a cut."""

import pytest
from tokenizers import Tokenizer

from minillm import load
from minillm.tokens import encode
from widgets.common.controls import Prompt

EXAMPLES = ["Once upon a time", "The cat sat on the mat. The cat"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load("stories-draft")[1]


def shown(prompt: Prompt) -> tuple[str, str]:
    """What stands in the field, and what the list says that it is."""
    return prompt.text.value, prompt.example.label


def test_the_field_and_the_list_show_what_is_in_force() -> None:
    prompt = Prompt(EXAMPLES)
    assert (prompt.value, *shown(prompt)) == (EXAMPLES[0],) * 3
    prompt.text.value = "My dog"
    assert (prompt.value, *shown(prompt)) == ("My dog", "My dog", "your own text")
    prompt.example.value = EXAMPLES[1]
    assert (prompt.value, *shown(prompt)) == (EXAMPLES[1],) * 3
    prompt.text.value = EXAMPLES[0]
    assert prompt.example.label == EXAMPLES[0]


def test_nothing_is_the_first_example_and_no_choice_changes_nothing() -> None:
    prompt = Prompt(EXAMPLES)
    prompt.text.value = "My dog"
    prompt.example.value = prompt.example.options[0][1]
    assert prompt.value == "My dog"
    prompt.text.value = ""
    assert (prompt.value, *shown(prompt)) == (EXAMPLES[0],) * 3
    prompt.value = ""
    assert prompt.value == EXAMPLES[0]


def test_a_change_is_told_once() -> None:
    prompt, told = Prompt(EXAMPLES), list[str]()
    prompt.observe(lambda change: told.append(change["new"]), "value")
    prompt.text.value = "My dog"
    prompt.example.value = EXAMPLES[1]
    assert told == ["My dog", EXAMPLES[1]]


@pytest.mark.parametrize(("end", "part"), [(True, "last"), (False, "first")])
def test_a_cut_is_told(tokenizer: Tokenizer, end: bool, part: str) -> None:
    prompt = Prompt(["one two three " * 200])
    every = encode(tokenizer, prompt.value)
    note = prompt.children[2]
    assert prompt.read(tokenizer, 24, end=end) == (every[-24:] if end else every[:24])
    assert note.value == f"Cut: the {part} 24 of its {len(every)} tokens are read."
    assert note.layout.display == "flex"
    assert prompt.read(tokenizer, len(every), end=end) == every
    assert note.layout.display == "none"
