"""The simulated card: one request by hand, many at once against one after another."""

import pytest
from oracles import tiny

import minillm
from minillm.data.hardware import ACCELERATORS
from minillm.data.public_models import LLAMA_3_8B
from minillm.roofline import seconds, work
from minillm.serving.blocks import Blocks
from minillm.serving.record import Served
from minillm.serving.scheduler import Scheduler
from minillm.serving.simulate import Load, curve, simulate
from minillm.serving.workload import Asked

CONFIG = tiny(minillm).config
CARD = {"flops": 1e9, "bandwidth": 1e6}


def run(asked: list[Asked], rows: int = 8, blocks: int = 100) -> list[Served]:
    scheduler = Scheduler(Blocks(blocks, 4), budget=64, rows=rows, share=False)
    return list(simulate(CONFIG, asked, scheduler, **CARD).requests.values())


def test_a_single_request_takes_what_the_roofline_says() -> None:
    [served] = run([Asked(2.0, (0,) * 6, more=3)])
    more = {"weight_bytes": 2, "cache_bytes": 2, "logits": "last"}
    passes = [
        seconds(work(CONFIG, new=new, cached=cached, **more), CARD["flops"], CARD["bandwidth"])
        for new, cached in ((6, 0), (1, 6), (1, 7))
    ]
    assert served.ttft == pytest.approx(passes[0])
    assert served.tpot == pytest.approx(sum(passes[1:]) / 2)


def test_requests_share_the_reading_of_the_weights() -> None:
    asked = [Asked(0.0, (0,) * 4, more=9)] * 6
    together, one_by_one = run(asked), run(asked, rows=1)
    assert max(s.times[-1] for s in together) < max(s.times[-1] for s in one_by_one) / 2
    assert [s.ttft for s in one_by_one] == sorted(s.ttft for s in one_by_one)


def test_everyone_is_served_from_the_smallest_pool() -> None:
    asked = [Asked(0.001 * i, (0,) * (5 + i), more=7) for i in range(6)]
    for served in run(asked, blocks=-(-(5 + 5 + 7) // 4)):
        assert served.ttft > 0
        assert len(served.times) == 7


def test_what_could_never_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="the pool has 2"):
        run([Asked(0.0, (0,) * 9, more=2)], blocks=2)


H100 = ACCELERATORS["H100 SXM"]
WEIGHTS = 2 * (8_030_261_248 - 128_256 * 4096)  # bytes that a step reads: rows of the embedding not
PER_TOKEN = 2 * 2 * 32 * 8 * 128  # bytes of the cache


def loads(*rates: float, **more: int) -> list[Load]:
    return curve("Llama-3-8B", LLAMA_3_8B, H100, rates, **{"requests": 60, "rows": 64} | more)


def test_a_card_with_little_to_do_reads_its_weights_for_each_token() -> None:
    [load] = loads(0.01, requests=12, longest=60)
    assert load.tpot == pytest.approx(WEIGHTS / H100.bandwidth, rel=0.01)  # 4.5 ms


def test_a_full_card_reads_its_weights_once_for_all_rows() -> None:
    [load] = loads(1e9, requests=64, shortest=80, longest=80)
    step = (WEIGHTS + 64 * 120 * PER_TOKEN) / H100.bandwidth  # 120 tokens cached on average
    prefill = 64 * 80 * 2 * 6.98e9 / H100.flops  # of the layers' weights
    assert load.throughput == pytest.approx(64 * 80 / (80 * step + prefill), rel=0.05)


def test_beyond_what_a_card_can_do_more_requests_wait_and_write_no_faster() -> None:
    few, many, more = loads(20, 2000, 20000, requests=40, longest=80)
    assert few.throughput < many.throughput
    assert more.throughput == pytest.approx(many.throughput, rel=0.1)
    assert few.ttft_p95 < many.ttft_p95 < more.ttft_p95
    assert few.tpot < many.tpot
    assert all(load.ttft <= load.ttft_p95 for load in (few, many, more))


def test_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="count must be at least 1"):
        curve("Llama-3-8B", LLAMA_3_8B, ACCELERATORS["RTX 4090"], [1], size=10**6)
