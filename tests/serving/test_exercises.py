"""The exercises of lesson 14: right answers, and what is said of typical mistakes."""

from typing import Any

import pytest
import torch

from minillm.checkpoint import load
from minillm.serving import Engine
from minillm.serving.replay import one_each, serve, serve_in_batches
from minillm.serving.workload import Asked
from widgets.common.exercises import judge
from widgets.serving import exercises


@pytest.mark.parametrize(
    ("answer", "grade", "says"),
    [
        ((..., ...), "open", ""),
        ((483, 59), "right", "8.2 times"),
        ((491, 59), "wrong", "992 tokens only"),
        ((605, 59), "wrong", "weights need room"),
        ((30488, 59), "wrong", "number of blocks"),
        ((1, 59), "wrong", "bytes are left"),
        ((483, 74), "wrong", "8,192 tokens"),
    ],
)
def test_texts_on_a_card(answer: Any, grade: str, says: str) -> None:
    verdict = judge("14.1", answer)
    assert verdict.grade == grade
    assert says in f"{verdict.says} {verdict.look}"


GROUPED = [40] * 4 + [1] * 8
MIXED = [40, 1, 1, 1, 40, 1, 1, 1, 40, 40, 1, 1]


@pytest.mark.parametrize(
    ("answer", "grade", "says"),
    [
        ((..., ...), "open", ""),
        ((GROUPED, MIXED), "right", "42 and 42 steps grouped, 120 and 43 mixed"),
        ([torch.tensor(GROUPED), torch.tensor(MIXED)], "right", ""),
        ((GROUPED[::-1], MIXED[::-1]), "right", ""),
        ((MIXED, GROUPED), "wrong", "orders are exchanged"),
        (([40] * 12, [40] * 12), "wrong", "order changes nothing"),
        (([40] * 3 + [1] * 9, [40, 1, 1, 1] * 3), "wrong", "[40, 40, 40, 1] rows wait 39 steps"),
        ((GROUPED, GROUPED), "wrong", "1 of 3 batches have a wish above 20"),
        (([40] * 8 + [1] * 4, [40, 40, 40, 1] * 2 + [40, 40, 1, 1]), "wrong", "fewer of them long"),
        ((GROUPED, [40, 2, 1, 1] * 3), "wrong", "Only the order may differ"),
        ((GROUPED[1:], MIXED[1:]), "wrong", "expected 12 wishes"),
        (([99, *GROUPED[1:]], [99, *MIXED[1:]]), "wrong", "from 1 to 40"),
        (([0, *GROUPED[1:]], [0, *MIXED[1:]]), "wrong", "from 1 to 40"),
        ((GROUPED,), "wrong", "two lists"),
    ],
)
def test_two_orders(answer: Any, grade: str, says: str) -> None:
    verdict = judge("14.2", answer)
    assert verdict.grade == grade
    assert says in f"{verdict.says} {verdict.look}"


@pytest.mark.parametrize("wishes", [[4, 24, 4, 4, 4, 24, 4, 4], [3, 1, 2, 5, 1, 4, 2], GROUPED])
def test_the_steps_of_a_queue_are_those_of_the_engine(wishes: list[int]) -> None:
    model, _ = load("stories-draft")
    asked = [Asked(0, (5 + i,), more) for i, more in enumerate(wishes)]
    static = serve_in_batches(model, asked, rows=4, clock=one_each)
    continuous = serve(Engine(model, blocks=99, rows=4), asked, clock=one_each)
    assert exercises.steps(wishes) == (static.end, continuous.end)


@pytest.mark.parametrize(
    ("answer", "grade", "says"),
    [
        ((..., ...), "open", ""),
        ((22, 12), "right", "176 slots in blocks of 8, 192 in blocks of 16"),
        ((21, 12), "wrong", "1 preempted"),
        ((23, 12), "wrong", "not the fewest"),
        ((22, 13), "wrong", "not the fewest"),
        ((5, 12), "wrong", "longest text"),
        ((22, 12, 6), "wrong", "two numbers"),
    ],
)
def test_the_smallest_pools(answer: Any, grade: str, says: str) -> None:
    verdict = judge("14.3", answer)
    assert verdict.grade == grade
    assert says in f"{verdict.says} {verdict.look}"


def test_a_pool_that_holds_all_preempts_nobody() -> None:
    assert [exercises.preemptions(n, 8) > 0 for n in (6, 21, 22, 40)] == [True, True, False, False]
    with pytest.raises(ValueError, match="the pool has 5"):
        exercises.preemptions(5, 8)
