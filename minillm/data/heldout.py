"""Text the shipped models never saw: sixty little stories, written for this project.

They are what notebooks evaluate on, benchmarks decode from, and identity tests cut their prompts
out of.
"""

from functools import cache
from pathlib import Path

from tokenizers import Tokenizer

from minillm.tokens import END_OF_TEXT, encode
from minillm.whole import whole

__all__ = ["bench_prompts", "openings", "stories"]

_DATA = Path(__file__).parent


@cache
def stories() -> list[str]:
    """The held-out stories."""
    text = (_DATA / "heldout_stories.txt").read_text(encoding="utf-8")
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
