"""Workloads arrive as they say, and the record tells what each request got, step by step."""

import pytest
from oracles import tiny

import minillm
from minillm.bench.serving import tokens_computed
from minillm.decoding import collect, decode_cached
from minillm.serving import Engine
from minillm.serving.record import Record, Served
from minillm.serving.replay import follow, one_each, serve, serve_in_batches
from minillm.serving.workload import Asked, spread, workload

MODEL = tiny(minillm)
ASKED = [Asked(0, (1, 2, 3, 4, 5), 4), Asked(0.5, (6, 7), 2), Asked(9, (1,), 3)]


def test_lengths_are_spread_from_end_to_end() -> None:
    assert sorted(spread(10, 250, 25, seed=3)) == list(range(10, 251, 10))
    assert spread(10, 250, 25, seed=3) != spread(10, 250, 25, seed=4)


def test_a_workload_is_the_same_for_the_same_seed_and_keeps_its_rate() -> None:
    text = [i % 8 for i in range(1000)]
    asked = workload(text, 400, shortest=2, longest=9, rate=2.0, seed=5)
    assert asked == workload(text, 400, shortest=2, longest=9, rate=2.0, seed=5)
    assert asked != workload(text, 400, shortest=2, longest=9, rate=2.0, seed=6)
    assert [one.at for one in asked] == sorted(one.at for one in asked)
    assert asked[-1].at == pytest.approx(200, rel=0.15)
    assert {len(one.prompt) for one in asked} == {one.more for one in asked} == set(range(2, 10))
    assert {one.at for one in workload(text, 4, longest=20)} == {0.0}
    with pytest.raises(ValueError, match="a text of 8 tokens holds no prompt of 9"):
        workload(text[:8], 4, longest=9)


def test_the_record_tells_who_read_and_wrote_in_each_step() -> None:
    record = serve(Engine(MODEL, blocks=20, size=2, budget=4, share=False), ASKED, one_each)
    assert [moment.prefill for moment in record.moments[:3]] == [{0: 4}, {0: 1, 1: 2}, {}]
    assert [moment.decode for moment in record.moments[:3]] == [set(), set(), {0, 1}]
    assert [moment.start for moment in record.moments[:6]] == [
        0,
        1,
        2,
        3,
        4,
        9,
    ]  # nobody in between
    first, second, third = (record.requests[number] for number in range(3))
    assert (first.times, first.ttft, first.tpot) == ([2, 3, 4, 5], 2, 1)
    assert (second.times, second.ttft, second.longest_gap) == ([2, 3], 1.5, 1)
    assert third.times == [10, 11, 12]
    assert (record.end, record.throughput) == (12, 9 / 12)
    for served in record.requests.values():
        prompt, more = served.asked.prompt, served.asked.more
        assert [served.tokens] == collect(decode_cached(MODEL, [prompt], max_new_tokens=more))


def test_the_record_tells_which_blocks_are_whose() -> None:
    record = serve(Engine(MODEL, blocks=20, size=2), ASKED[:1] * 2, one_each)
    for moment in record.moments:
        theirs = {block for blocks, _ in moment.tables.values() for block in blocks}
        assert len(theirs | moment.remembered) == moment.step.held
        assert all(length <= 2 * len(blocks) for blocks, length in moment.tables.values())
    assert record.moments[-1].tables == {}
    assert len(record.moments[-1].remembered) == record.moments[-1].step.held > 0


def test_who_reads_its_text_again_token_by_token_does_not_decode() -> None:
    engine = Engine(MODEL, blocks=12, size=1, budget=1, share=False)
    for record in follow(engine, [Asked(0, (1, 2), 4)], one_each):
        if len(record.moments) == 3:  # it has read its prompt and one token of its own
            engine.scheduler._preempt(engine.scheduler.running[0])
    decodes = [bool(moment.decode) for moment in record.moments]
    assert decodes == [False, False, True, False, False, False, True, True]
    assert record.requests[0].times == [2, 3, 7, 8]


def test_who_waits_is_named() -> None:
    record = serve(Engine(MODEL, blocks=20, size=2, rows=1), ASKED[:2], one_each)
    assert [moment.waiting for moment in record.moments[:4]] == [(), (1,), (1,), (1,)]


def test_a_static_batch_waits_for_its_last_request_and_ends_with_its_longest() -> None:
    record = serve_in_batches(MODEL, ASKED, 2, one_each)
    assert [served.times for served in record.requests.values()] == [
        [1.5, 2.5, 3.5, 4.5],
        [1.5, 2.5],
        [10, 11, 12],
    ]
    engine = serve(Engine(MODEL, blocks=20, size=2), ASKED, one_each)
    assert [one.tokens for one in record.requests.values()] == [
        one.tokens for one in engine.requests.values()
    ]


def test_the_95th_percentile_is_nearly_the_longest_wait() -> None:
    def waited(n: int) -> Served:
        return Served(Asked(0, (1,), 1), [1], [n])

    assert Record({n: waited(n) for n in range(101)}).ttft_p95 == 95
    assert Record({0: waited(7)}).ttft_p95 == 7


def test_static_batches_compute_what_nobody_wants() -> None:
    record = serve(Engine(MODEL, blocks=20, size=2), ASKED[:2], one_each)
    assert tokens_computed(record) == (5 + 3 + 2 + 1, 2 * (5 + 3))
