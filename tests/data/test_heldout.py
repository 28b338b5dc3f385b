"""The held-out text: enough of it, in fixed pieces, that the tokenizer takes whole."""

import re

import pytest

import minillm
from minillm.data.heldout import bench_prompts, in_domain_stories, openings, stories
from minillm.measure.repetition import distinct
from minillm.tokens import END_OF_TEXT, encode, encode_all, pieces

TOKENIZER = minillm.load("stories-draft")[1]


def test_sixty_different_stories() -> None:
    assert len(set(stories())) == len(stories()) == 60
    assert all(len(story.split()) >= 60 for story in stories())


def test_the_in_domain_stories_are_enough_tokens_in_few_bytes() -> None:
    assert len(encode_all(TOKENIZER, in_domain_stories())) >= 20_000
    assert sum(len(story.encode()) for story in in_domain_stories()) < 100_000


def test_no_two_held_out_stories_share_twelve_words_and_none_repeats_itself() -> None:
    every = [*stories(), *in_domain_stories()]
    seen: dict[tuple[str, ...], int] = {}
    for place, story in enumerate(every):
        words = re.findall(r"[a-z']+", story.lower())
        assert 130 <= len(words) <= 190
        for run in zip(*(words[i:] for i in range(12)), strict=False):
            assert seen.setdefault(run, place) == place, f"{place} says {' '.join(run)} again"
        assert distinct(encode(TOKENIZER, story)) > 0.9


def test_thirty_different_bench_prompts_that_leave_room() -> None:
    assert len(set(bench_prompts())) == len(bench_prompts()) == 30
    assert all(1 < len(encode(TOKENIZER, prompt)) < 256 for prompt in bench_prompts())


def test_openings_are_200_different_pieces_of_8_to_40_tokens() -> None:
    cut = openings(TOKENIZER)
    assert len({tuple(prompt) for prompt in cut}) == len(cut) == 200
    assert {len(prompt) for prompt in cut} == set(range(8, 41))


def test_openings_are_the_same_at_every_call_and_cut_from_the_stories() -> None:
    text = " ".join(story.replace("\n", " ") for story in stories())
    assert openings(TOKENIZER, 70) == openings(TOKENIZER)[:70]
    for prompt in openings(TOKENIZER):
        assert pieces(TOKENIZER, prompt[:1]) == [END_OF_TEXT]
        assert TOKENIZER.decode(prompt) in text


@pytest.mark.parametrize("count", [0, -1, 201])
def test_a_count_out_of_range_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"count must be from 1 to 200, got {count}"):
        openings(TOKENIZER, count)


@pytest.mark.parametrize("name", minillm.shipped())
def test_shipped_tokenizers_are_one_and_lose_nothing(name: str) -> None:
    tokenizer = minillm.load(name)[1]
    assert tokenizer.to_str() == TOKENIZER.to_str()
    for text in (*stories(), *in_domain_stories(), "naïve façade, 日本 🙂\t\x00", ""):
        tokens = encode(tokenizer, text)
        assert tokens[0] == tokenizer.token_to_id(END_OF_TEXT)
        assert tokenizer.decode(tokens) == text
        assert max(tokens) < 2048
    assert "".join(pieces(tokenizer, encode(tokenizer, stories()[0])[1:])) == stories()[0]
