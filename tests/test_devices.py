"""Decoding on a device that has no float64, and a draft on another device than its target."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from devices import MPS, elsewhere, moved
from oracles import tiny

import minillm
from minillm import Sampler
from minillm.decoding import collect, decode_cached, decode_recomputed, generators
from minillm.fast.draft import Int8Draft
from minillm.jacobi import decode_jacobi
from minillm.lookahead.decode import decode_lookahead
from minillm.speculative.decode import decode_speculative
from minillm.speculative.drafters import DraftModel, early_exit
from minillm.speculative.prompt_lookup import PromptLookup
from minillm.speedup.acceptance import acceptance
from minillm.transformer import Transformer

PROMPTS = [[1, 2, 3, 1, 2], [4]]
SAMPLERS = [Sampler(0), Sampler(0.8, top_k=9, top_p=0.9)]


def model(seed: int = 0) -> Transformer:
    return tiny(minillm, dtype=torch.float32, hidden_act="relu", head_dim=32, seed=seed)


def texts(decode: Callable[..., Any], target: Transformer, sampler: Sampler) -> list[list[int]]:
    source = generators(0, len(PROMPTS))
    more: Any = {"max_new_tokens": 5, "sampler": sampler, "generators": source}
    return collect(decode(target, PROMPTS, **more))


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
@pytest.mark.parametrize(
    "decode",
    [decode_cached, decode_recomputed, decode_jacobi, decode_lookahead],
    ids=lambda decode: decode.__name__,
)
def test_texts_are_those_of_the_cpu(decode: Callable[..., Any], sampler: Sampler) -> None:
    expected, there = texts(decode, model(), sampler), moved(model())
    with elsewhere():
        assert there.device == MPS
        assert texts(decode, there, sampler) == expected


DRAFTERS: dict[str, Callable[[Any], Any]] = {
    "a draft beside the target": lambda there: DraftModel(moved(model(1))),
    "a draft on the CPU": lambda there: DraftModel(model(1)),
    "a fast draft": lambda there: Int8Draft(model(1)),
    "first layers": lambda there: DraftModel(early_exit(there, 1)),
    "copies": lambda there: PromptLookup(),
}


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
@pytest.mark.parametrize("drafter", DRAFTERS.values(), ids=DRAFTERS)
def test_a_draft_may_be_anywhere(drafter: Callable[[Any], Any], sampler: Sampler) -> None:
    there = moved(model())
    decode = partial(decode_speculative, drafter=drafter(there))
    with elsewhere():
        found = texts(decode, there, sampler)
    if sampler.temperature == 0:
        assert found == texts(decode_cached, model(), sampler)
    assert all(len(text) == 5 for text in found)


def test_a_target_on_the_cpu_takes_a_draft_of_the_other_device() -> None:
    decode = partial(decode_speculative, drafter=DraftModel(moved(model(1))))
    target, expected = model(), texts(decode_cached, model(), SAMPLERS[0])
    with elsewhere():
        assert texts(decode, target, SAMPLERS[0]) == expected
        assert texts(decode, target, SAMPLERS[1])


def test_acceptance_is_that_of_the_cpu() -> None:
    expected = acceptance(model(), model(1), PROMPTS, max_new_tokens=5)
    pair = moved(model()), moved(model(1))
    with elsewhere():
        found = inspect.unwrap(acceptance)(*pair, PROMPTS, max_new_tokens=5)
    assert found.sampled == pytest.approx(expected.sampled)


class Late:
    """A model whose passes take a second each, but only when somebody waits for the device."""

    def __init__(self, model: Transformer, clock: list[float], seconds: float):
        self.config, self.device, self.dtype, self.head = (
            model.config, model.device, model.dtype, model.head,
        )  # fmt: skip
        self._model, self._clock, self._seconds = model, clock, seconds

    def hidden(self, *given: Any, **more: Any) -> torch.Tensor:
        self._clock[1] += self._seconds
        return self._model.hidden(*given, **more)


def test_times_are_those_of_the_device_and_not_of_the_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0, 0.0]  # now, and what is still to be done

    def wait(device: torch.device) -> None:
        clock[:] = sum(clock), 0.0

    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    pair = moved(model()), moved(model(1))
    with elsewhere(wait):
        target, draft = (Late(x, clock, s) for x, s in zip(pair, (1.0, 0.25), strict=True))
        rounds = list(
            decode_speculative(
                target, [[1, 2]], drafter=DraftModel(draft), gamma=3, max_new_tokens=9
            )
        )
    assert {step.verify_seconds for step in rounds} == {1.0}
    for step in rounds:
        assert step.draft_seconds == 0.25 * len(step.rows[0].guesses)
        assert step.seconds == step.draft_seconds + step.verify_seconds
