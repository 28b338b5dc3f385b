"""The exactness meter: green only for what was compared, with scripted steps and the real model."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from xml.etree import ElementTree

import pytest
import torch
from torch import Tensor

from minillm.batch import Row
from minillm.checkpoint import load
from minillm.decoding import Step, decode_cached, decode_recomputed, generators
from minillm.fast.model import optimized
from minillm.fast.skipping_model import skipping
from minillm.kv_cache import KVCache
from minillm.sampling import Sampler
from minillm.speculative.decode import decode_speculative
from minillm.speculative.drafters import DraftModel, early_exit
from minillm.transformer import Transformer
from widgets.common.meter import Watched, compare_cache, measure, meter, watch
from widgets.common.meter.exactness import compare

PROMPTS = [[0, 5, 6, 7], [0, 9]]
TwinOf = Callable[[Transformer], Transformer]


def _steps(*rows: Sequence[tuple[int, Sequence[float]]], size: int = 1) -> Iterator[Step]:
    """Steps that commit `size` scripted (token, logits) a row each."""
    for start in range(0, max(map(len, rows)), size):
        parts = [row[start : start + size] for row in rows]
        made = tuple(
            Row(
                tuple(token for token, _ in part),
                torch.tensor([p for _, p in part], dtype=torch.float64).reshape(len(part), 3),
                ended=start + size >= len(row),
            )
            for part, row in zip(parts, rows, strict=True)
        )
        yield Step(made, (0,) * len(rows), start + 1, 1, 0.0)


A, B, C = (0, [2.0, 1.0, 0.0]), (1, [0.0, 1.0, 0.5]), (2, [0.0, 0.0, 3.0])


def test_equal_runs_are_identical_however_steps_are_cut() -> None:
    verdict = compare(_steps([A, B, C]), _steps([A, B, C], size=2))
    assert (verdict.grade, verdict.tokens, verdict.difference) == ("identical", 3, 0)
    assert verdict.note().text() == (
        "Exactness: identical on this run: all 3 tokens\nlogits equal within 1e-10"
    )


def test_a_tie_is_excused_by_rounding() -> None:
    one, other = (0, [1.0, 1.0 - 1e-12, 0.0]), (1, [1.0 - 1e-12, 1.0, 0.0])
    verdict = compare(_steps([A, one, C]), _steps([A, other, B]))
    assert (verdict.grade, verdict.first, verdict.tokens) == ("rounding", (0, 1), 1)
    text = verdict.note().text()
    assert "first different token: number 2" in text
    assert "less than 2e-10 apart" in text
    assert "1.0e-12" not in text
    assert "1.0e-12" in verdict.note().html()


def test_another_token_from_the_same_clear_logits_is_different() -> None:
    verdict = compare(_steps([A, B]), _steps([A, (2, [0.0, 1.0, 0.5])]))
    assert (verdict.grade, verdict.margin) == ("different", 0.5)
    assert "tokens differ: first at number 2" in verdict.note().text()


@pytest.mark.parametrize("wrong", [1.1, float("nan"), float("inf")])
def test_equal_tokens_do_not_excuse_other_logits(wrong: float) -> None:
    verdict = compare(_steps([A, B]), _steps([A, (1, [0.0, wrong, 0.5])]))
    assert verdict.grade == "different"
    assert verdict.note().text().endswith("logits differ by more than 1e-10")


def test_logits_after_the_first_difference_are_not_compared() -> None:
    verdict = compare(_steps([A, B, C]), _steps([A, (2, B[1]), A]))
    assert verdict.difference == 0


def test_a_run_that_ends_early_is_different() -> None:
    verdict = compare(_steps([A, B, C]), _steps([A, B]))
    assert (verdict.grade, verdict.first, verdict.margin) == ("different", (0, 2), None)
    assert "one run ends after 2 tokens" in verdict.note().text()


def test_the_row_of_a_difference_is_named() -> None:
    verdict = compare(_steps([A, B], [B, C]), _steps([A, B], [B, A]))
    assert verdict.first == (1, 1)
    assert "of row 1" in verdict.note().text()


def test_an_empty_run_proves_nothing() -> None:
    assert compare([], []).grade == "empty"
    assert "nothing to compare" in compare([], []).note().text()


def test_runs_of_other_batches_are_refused() -> None:
    with pytest.raises(ValueError, match="equally many rows, got 1 and 2"):
        compare(_steps([A]), _steps([A], [A]))


def test_sixteen_bits_need_a_stated_bound() -> None:
    def half() -> Iterator[Step]:
        for step in _steps([A, B]):
            rows = tuple(replace(row, logits=row.logits.half()) for row in step.rows)
            yield replace(step, rows=rows)

    with pytest.raises(ValueError, match=r"no bound is known for torch\.float16"):
        compare(half(), half())
    assert compare(half(), half(), bound=0.1).grade == "identical"


# the real model


@pytest.fixture(scope="module", params=[torch.float64, torch.float32], ids=str)
def model(request: pytest.FixtureRequest) -> Transformer:
    return load("stories-draft", dtype=request.param)[0]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_cache_equals_a_fresh_prefill(model: Transformer, temperature: float) -> None:
    def decode(decoder: object, prompts: Sequence[Sequence[int]]) -> Iterator[Step]:
        return decoder(  # type: ignore[operator]
            model,
            prompts,
            max_new_tokens=8,
            sampler=Sampler(temperature),
            generators=generators(7, len(prompts)),
        )

    naive, fast = partial(decode, decode_recomputed), partial(decode, decode_cached)
    verdict = measure(naive, fast, PROMPTS, cache_of=model)
    assert (verdict.grade, verdict.tokens, verdict.cached) == ("identical", 16, 11 + 9)
    assert verdict.bound == {torch.float64: 1e-10, torch.float32: 1e-4}[model.dtype]


def _decode(model: Transformer, prompts: Sequence[Sequence[int]]) -> Iterator[Step]:
    return decode_cached(model, prompts, max_new_tokens=8)


def test_a_decoder_without_a_cache_says_so(model: Transformer) -> None:
    naive = partial(decode_recomputed, model, max_new_tokens=4)
    verdict = measure(naive, naive, PROMPTS, cache_of=model)
    assert "keeps no cache" in verdict.note().text()


TWINS: dict[str, TwinOf] = {
    "itself": lambda model: model,
    "copy": copy.deepcopy,
    "optimized": partial(optimized, kernel="F.linear"),
    "skipping": partial(skipping, kernel="F.linear"),
}


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("when", [11, 10**6], ids=["late", "never"])
def test_a_spoiled_cache_is_caught_whatever_model_runs(
    model: Transformer, twin: str, when: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fused blocks too, whose cache `append` never sees."""
    runs, naive = TWINS[twin](model), list(_decode(model, PROMPTS))
    spoil_caches(monkeypatch, when)
    verdict = measure(lambda _: iter(naive), partial(_decode, runs), PROMPTS, cache_of=runs)
    assert verdict.first is None  # late: the tokens need not change any more
    assert verdict.grade == ("different" if when < 20 else "identical")
    assert ("the cache differs from a fresh prefill" in verdict.note().text()) == (when < 20)


def spoil_caches(monkeypatch: pytest.MonkeyPatch, when: int) -> None:
    """Once the longest row is to hold `when` tokens, one of them is off by 1e-3."""
    advance = KVCache.advance

    def spoiled(self: KVCache, count: int) -> None:
        advance(self, count)
        if max(self.lengths) == when:
            self.values[0, 0, 0, 2] += 1e-3

    monkeypatch.setattr(KVCache, "advance", spoiled)


def test_a_cache_that_spoils_everything_it_stores_does_not_spoil_the_truth(
    model: Transformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = KVCache.append

    def spoiled(self: KVCache, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return append(self, layer, k + 1e-3, v)

    twin = copy.deepcopy(model)
    monkeypatch.setattr(KVCache, "append", spoiled)
    naive = partial(decode_recomputed, model, max_new_tokens=8)
    assert measure(naive, partial(_decode, twin), PROMPTS, cache_of=twin).grade == "different"


@pytest.mark.parametrize("twin", list(TWINS)[1:])
def test_a_model_that_did_not_run_is_refused(model: Transformer, twin: str) -> None:
    fast = partial(_decode, TWINS[twin](model))
    with pytest.raises(ValueError, match="cache_of must be the model that runs: 0 of its 2 layers"):
        measure(partial(_decode, model), fast, PROMPTS, cache_of=model)


def test_a_model_of_which_only_some_layers_ran_is_refused(model: Transformer) -> None:
    drafter = DraftModel(early_exit(model, 1))  # shares the model's first block
    fast = partial(decode_speculative, copy.deepcopy(model), drafter=drafter, max_new_tokens=8)
    with pytest.raises(ValueError, match="1 of its 2 layers were seen"):
        measure(partial(_decode, model), fast, PROMPTS, cache_of=model)


def test_layers_with_caches_of_their_own_are_refused(model: Transformer) -> None:
    def fast(prompts: Sequence[Sequence[int]]) -> Iterator[Step]:
        yield from _decode(model, prompts)
        alone = early_exit(model, 1)
        alone.hidden(torch.tensor([[1]]), KVCache(alone.config, 1, 1, dtype=alone.dtype))

    with pytest.raises(ValueError, match="with 2 different caches"):
        measure(partial(_decode, model), fast, PROMPTS, cache_of=model)


def test_of_a_draft_that_shares_blocks_the_targets_cache_is_compared(model: Transformer) -> None:
    drafter = DraftModel(early_exit(model, 1))
    fast = partial(decode_speculative, model, drafter=drafter, max_new_tokens=8)
    verdict = measure(partial(_decode, model), fast, PROMPTS, cache_of=model)
    assert (verdict.grade, verdict.cached) == ("identical", 11 + 9)


def test_a_cache_that_holds_more_than_it_should_is_different(model: Transformer) -> None:
    cache = KVCache(model.config, 1, 8, dtype=model.dtype)
    with torch.inference_mode():
        model(torch.tensor([[0, 5, 6]]), cache)
    assert compare_cache(model, cache, [[0, 5, 6]], [3]) <= 1e-4
    assert compare_cache(model, cache, [[0, 5, 6]], [2]) == float("inf")
    assert compare_cache(model, None, [[0, 5, 6]], [3]) == float("inf")


def test_another_model_is_caught(model: Transformer) -> None:
    other = load("stories-draft", dtype=model.dtype)[0]
    with torch.no_grad():
        other.norm.weight.mul_(1.01)
    verdict = measure(partial(_decode, model), partial(_decode, other), PROMPTS)
    assert verdict.grade == "different"


def test_the_hooks_are_removed(model: Transformer) -> None:
    def interrupted() -> None:
        with watch(model.blocks) as watched:
            seen.append(watched)
            list(_decode(model, PROMPTS))
            raise ZeroDivisionError

    seen: list[Watched] = []
    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert len(seen[0]) == model.config.num_hidden_layers
    seen[0].clear()
    list(_decode(model, PROMPTS))
    assert seen[0] == {}


def test_the_card_keeps_raw_differences_to_the_live_view(model: Transformer) -> None:
    naive = partial(decode_recomputed, model, max_new_tokens=4)
    card = meter(naive, partial(_decode4, model), PROMPTS, cache_of=model)
    data, _ = card.outputs()
    ElementTree.fromstring(card.picture())
    assert "largest difference on this run" in card.html
    assert "largest difference" not in card.picture() + data["text/plain"]
    said = "Exactness: identical on this run: all 8 tokens\nlogits equal within 1e-"
    assert data["text/plain"].startswith(said)


def _decode4(model: Transformer, prompts: Sequence[Sequence[int]]) -> Iterator[Step]:
    return decode_cached(model, prompts, max_new_tokens=4)
