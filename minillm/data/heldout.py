"""Text the shipped models never saw: two sets of little stories, written for this project.

`stories` are sixty, freer than what the models were trained on: what notebooks read, benchmarks
decode from, and identity tests cut their prompts out of. `in_domain_stories` are 114 in the manner
of TinyStories (arXiv 2305.07759), plain words and plain plots: what losses are compared on. They
were written by a language model, Claude, for this purpose alone: no story is copied, and of their
runs of twelve words 0.2 % occur in the 11 MB of TinyStories that a shipped model read, stock
phrases all. Both sets are under the licence of this package.
"""

from functools import cache
from pathlib import Path

from tokenizers import Tokenizer

from minillm.tokens import END_OF_TEXT, encode
from minillm.whole import whole

__all__ = ["bench_prompts", "in_domain_stories", "openings", "stories"]

_DATA = Path(__file__).parent


@cache
def stories() -> list[str]:
    """The sixty held-out stories."""
    return _stories("heldout_stories.txt")


@cache
def in_domain_stories() -> list[str]:
    """The 114 held-out stories in the manner of TinyStories."""
    return _stories("in_domain_stories.txt")


def _stories(name: str) -> list[str]:
    text = (_DATA / name).read_text(encoding="utf-8")
    return [story.strip() for story in text.split(END_OF_TEXT)]


@cache
def bench_prompts() -> list[str]:
    """The thirty prompts that `minillm bench` decodes from, in their fixed order."""
    return (_DATA / "bench_prompts.txt").read_text(encoding="utf-8").splitlines()


def openings(tokenizer: Tokenizer, count: int = 200) -> list[list[int]]:
    """Prompts of 8 to 40 tokens cut from the stories, the same ones at every call.

    Raises:
        ValueError: count is below 1 or above 200.
    """
    count = whole("count", count, least=1, most=200)
    cut = []
    for index in range(count):
        story = stories()[index % len(stories())]
        sentence = story.replace("\n", " ").split(". ")[2 * (index // len(stories())) :]
        cut.append(encode(tokenizer, ". ".join(sentence))[: 8 + index % 33])
    return cut
