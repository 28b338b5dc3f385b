"""The bench: its statistics on given numbers, its rows' schema, its checks. No timing is judged."""

import gc
import json
import math
import re
import subprocess
from typing import Any

import pytest
import torch

from minillm.bench import machine, rows
from minillm.bench.greedy import equal_tokens
from minillm.bench.rows import CheckFailedError, Measured, UnmeasuredError, measure, row
from minillm.commands.main import main
from minillm.measure.noise import median_interval
from minillm.measure.timing import compare, interleave


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two instant rows in place of the real ones."""
    monkeypatch.setattr(rows, "ROWS", {})
    monkeypatch.setattr("minillm.commands.bench.ROWS", rows.ROWS)

    @row("fast/peer", against="a slow peer")
    def fast() -> Measured:
        return Measured([(0.001, 0.002)] * 9, "equal tokens in 9 of 9 texts", "F.linear")

    @row("absent/peer", against="an absent peer")
    def absent() -> Measured:
        raise UnmeasuredError("peer is not installed")

    @row("wrong/peer", against="a peer that disagrees")
    def wrong() -> Measured:
        raise CheckFailedError("token 3 differs")


# --- statistics ---


def test_the_ratio_is_the_median_of_paired_ratios():
    result = compare([(1.0, 2.0), (2.0, 4.2), (10.0, 19.0), (1.0, 2.0), (3.0, 6.0), (1.0, 2.1)])
    assert result.ratio == 2.0
    assert (result.low, result.high) == (1.9, 2.1)
    assert (result.our_seconds, result.their_seconds) == pytest.approx((1.5, 3.15))
    assert result.reason is None


def test_drift_that_slows_both_sides_does_not_move_the_ratio():
    drifting = [(1.0 * 1.5**i, 3.0 * 1.5**i) for i in range(9)]
    assert compare(drifting).ratio == pytest.approx(3.0)


def test_a_spread_too_wide_gives_a_reason_and_no_ratio():
    noisy = compare([(1.0, 1.0 + 0.1 * i) for i in range(9)])  # interval 1.1 to 1.7
    assert noisy.ratio is None
    assert (noisy.low, noisy.high) == pytest.approx((1.1, 1.7))
    assert noisy.reason == "too noisy: the median may be anywhere from 1.10 to 1.70"


def test_too_few_pairs_give_a_reason_and_no_ratio():
    assert compare([(1.0, 2.0)] * 5).reason == "5 rounds are too few for a 95 % interval"
    assert compare([(1.0, 2.0)] * 6).ratio == 2.0


@pytest.mark.parametrize("n", range(6, 40))
def test_the_interval_is_the_narrowest_that_holds_the_median_in_95_percent(n: int):
    low, high = median_interval(list(range(n))) or (0, 0)
    assert low + high == n - 1

    def misses(rank: int) -> float:  # the rank-th smallest lies above the median, or its mirror
        return 2 * sum(math.comb(n, heads) for heads in range(rank)) / 2**n

    assert misses(low + 1) <= 0.05 < misses(low + 2)


def test_runs_are_made_in_turn_in_both_orders_and_warmed_up():
    calls: list[str] = []

    def call(name: str) -> str:
        assert not gc.isenabled() or len(calls) < 2
        calls.append(name)
        return name

    runs = [(lambda: call("a"), lambda: call("b"))] * 3
    pairs = list(interleave(runs, warm_up=1))
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"
    assert gc.isenabled()
    assert [(pair.ours, pair.theirs) for pair in pairs] == [("a", "b")] * 3
    assert all(pair.our_seconds >= 0 and pair.their_seconds >= 0 for pair in pairs)


def test_no_pair_is_begun_when_the_budget_is_spent_and_an_interval_has_enough():
    runs = [(lambda: 1, lambda: 2)] * 9
    assert len(list(interleave(runs, budget=0.0))) == 6
    assert len(list(interleave(runs))) == 9
    assert len(list(interleave(runs[:3], budget=0.0))) == 3


# --- checks ---


def logits(best: int, margin: float) -> torch.Tensor:
    scores = torch.zeros(5, dtype=torch.float64)
    scores[best] = margin
    return scores


def test_equal_texts_pass():
    text = [(1, logits(1, 2.0)), (3, logits(3, 2.0))]
    assert equal_tokens([text, text], [[1, 3], [1, 3]]) == "equal tokens in 2 of 2 texts"


def test_a_tie_at_the_first_difference_passes_and_is_reported():
    text = [(1, logits(1, 2.0)), (3, logits(3, 1e-6)), (4, logits(4, 2.0))]
    assert equal_tokens([text, text], [[1, 2, 0], [1, 3, 4]]) == (
        "equal tokens in 1 of 2 texts, the others up to a tie of 1.0e-06 at most"
    )


def test_a_clear_difference_fails():
    text = [(1, logits(1, 2.0)), (3, logits(3, 2.0))]
    with pytest.raises(CheckFailedError, match=r"token 1 of text 0 is 3, theirs 2, .* 2\.0e\+00"):
        equal_tokens([text], [[1, 2]])


def test_texts_of_different_lengths_fail():
    with pytest.raises(CheckFailedError, match="text 0 has 1 and 2 tokens"):
        equal_tokens([[(1, logits(1, 2.0))]], [[1, 2]])


# --- the command ---


@pytest.mark.usefixtures("registry")
def test_json_is_a_list_of_rows(capsys: pytest.CaptureFixture[str]):
    assert main(["bench", "--json"]) == 1  # a check failed
    fast, absent, wrong = json.loads(capsys.readouterr().out)
    assert fast == {
        "name": "fast/peer",
        "against": "a slow peer",
        "ratio": 2.0,
        "low": 2.0,
        "high": 2.0,
        "unit": "ratio of times",
        "check": "equal tokens in 9 of 9 texts",
        "kernel": "F.linear",
        "threads": torch.get_num_threads(),
        "pairs": 9,
        "our_ms": 1.0,
        "their_ms": 2.0,
        "reason": None,
    }
    assert absent.keys() == wrong.keys() == fast.keys()
    assert (absent["ratio"], absent["reason"]) == (None, "peer is not installed")
    assert (wrong["ratio"], wrong["check"]) == (None, "failed")
    assert wrong["reason"] == "token 3 differs"


@pytest.mark.usefixtures("registry")
def test_only_runs_the_named_rows_once_each(capsys: pytest.CaptureFixture[str]):
    only = ["--only", "absent/peer", "--only", "fast/peer", "--only", "fast/peer"]
    assert main(["bench", "--json", *only]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in found] == ["absent/peer", "fast/peer"]


@pytest.mark.usefixtures("registry")
def test_an_interrupted_run_prints_what_it_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    @row("late/peer", against="nobody")
    def late() -> Measured:
        raise KeyboardInterrupt

    only = ["--only", "fast/peer", "--only", "late/peer", "--only", "absent/peer"]
    assert main(["bench", "--json", *only]) != 0
    assert [found["name"] for found in json.loads(capsys.readouterr().out)] == ["fast/peer"]


@pytest.mark.usefixtures("registry")
def test_the_table_states_interval_check_kernel_and_reason(capsys: pytest.CaptureFixture[str]):
    main(["bench"])
    out = capsys.readouterr().out
    assert re.search(r"fast/peer +2\.00 +2\.00 to 2\.00 +1\.00 +2\.00\n", out)
    assert "check: equal tokens in 9 of 9 texts; ratio of times" in out
    assert f"kernel: F.linear, {torch.get_num_threads()} threads" in out
    assert "no ratio: peer is not installed" in out


def test_the_rows_are_listed_and_an_unknown_one_is_refused(capsys: pytest.CaptureFixture[str]):
    assert main(["bench", "--list"]) == 0
    assert "kv_cache/step@500: against recomputing 501 tokens\n" in capsys.readouterr().out
    assert main(["bench", "--only", "bogus"]) == 2
    assert "no row named 'bogus': the known ones are kv_cache/" in capsys.readouterr().err


def test_without_transformers_its_row_has_a_reason(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("minillm.bench.peer.find_spec", lambda name: None)
    found = measure("decoding/transformers")
    assert found.ratio is None
    assert found.reason == "transformers is not installed: pip install 'minillm[bench]'"


def test_every_row_names_its_kernel():
    assert re.fullmatch(r"F\.linear float32 \(BLAS \w+, .+\)", rows.stock_kernel())


def test_company_is_busy_while_the_block_runs_and_gone_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen

    def noted(*arguments: Any, **more: Any) -> Any:
        started.append(start(*arguments, **more))
        return started[-1]

    monkeypatch.setattr(machine.subprocess, "Popen", noted)
    with machine.others_busy(2):
        assert [process.poll() for process in started] == [None, None]
    with pytest.raises(KeyboardInterrupt), machine.others_busy(1):
        raise KeyboardInterrupt
    assert len(started) == 3
    assert all(process.poll() is not None for process in started)


def test_a_text_beside_others_is_the_text_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_MODEL", "stories-draft")
    monkeypatch.setattr(machine, "_NEW_TOKENS", 4)
    monkeypatch.setattr(machine, "_PAIRS", 1)
    monkeypatch.setattr(machine, "_STARTED", 0.0)
    found = measure("machine/busy")
    assert (found.check, found.pairs) == ("the same 4 tokens", 3)  # one is too few, and so are two


def test_each_setting_of_waiting_is_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")  # which the row leaves out
    policy = "os.environ.get('OMP_WAIT_POLICY')"
    one = f"print({{'PASSIVE': 1.0, None: 2.0}}[{policy}]);"
    monkeypatch.setattr(machine, "_DECODE", f"import os; {one * 9}")
    found = measure("machine/waiting")
    assert (found.ratio, found.pairs) == (0.5, 18)
    assert "the best was asleep at once" in found.check


def test_a_row_that_says_nothing_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    noisy, quiet = [(1.0, 1.0), (1.0, 3.0)] * 4, [(1.0, 2.0)] * 40
    runs = iter([noisy, quiet, noisy, noisy, noisy])
    entry = rows._Entry(
        "nothing", lambda: rows.Measured(next(runs), "none", "none"), any_model=False
    )
    monkeypatch.setitem(rows.ROWS, "test", entry)
    found = measure("test")
    assert (found.ratio, found.pairs) == (2.0, 48)
    found = measure("test")
    assert (found.ratio, found.pairs) == (None, 24)
    assert found.reason is not None
    assert "too noisy" in found.reason
