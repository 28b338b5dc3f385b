"""The meter passes our own serving and sees each bug of the gallery, in company and not alone."""

from typing import Any

import pytest
import torch
from oracles import tiny

import minillm
from minillm.decoding import collect, decode_cached
from minillm.serving.bug_gallery import GALLERY, ORDER
from minillm.serving.exactness import Exactness
from minillm.serving.workload import Asked
from minillm.speculative.bug_gallery import Bug, library, patched

MODEL = tiny(minillm, dtype=torch.float64)
ASKED = [
    Asked(0, (1, 2, 3, 4, 5), 19),
    Asked(0, (1, 2, 3, 4, 6), 19),
    Asked(0, (7, 7, 1, 2, 3, 4, 1), 17),
    Asked(30, (1, 2, 3, 4, 3), 6),
]


def alone(one: Asked) -> list[int]:
    [text] = collect(decode_cached(MODEL, [one.prompt], max_new_tokens=one.more))
    return text


def examined(space: Any, asked: list[Asked], blocks: int) -> list[Exactness]:
    """With shared beginnings and without."""
    return [
        space.examine(space.Engine(MODEL, blocks=blocks, size=2, share=share), asked, alone)
        for share in (True, False)
    ]


def test_our_own_serving_is_exact() -> None:
    found = examined(library(ORDER), ASKED, 12)
    assert all(each.exact and each.steps > 30 for each in found)


@pytest.mark.parametrize("bug", GALLERY, ids=str)
def test_the_meter_sees_each_bug(bug: Bug) -> None:
    assert not all(each.exact for each in examined(patched(bug, ORDER), ASKED, 12))


@pytest.mark.parametrize("bug", GALLERY, ids=str)
def test_one_request_by_itself_shows_none(bug: Bug) -> None:
    for found in examined(patched(bug, ORDER), ASKED[:1], 30):
        assert (found.equal, found.stopped) == (1, None)
