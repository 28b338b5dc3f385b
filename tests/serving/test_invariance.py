"""Kernels with independent rows give the same bits in every batch; others are found out."""

from typing import Any

import pytest
import torch
from oracles import tiny
from torch import Tensor

import minillm
from minillm.fast.model import ONE_CALL, optimized
from minillm.serving.invariance import Tie, in_batches

PROMPT, BESIDE = [1, 2, 3], [[4, 5, 6], [7, 7, 7], [2, 2, 1]]


def test_rows_that_are_independent_give_the_same_bits_in_every_batch() -> None:
    model = tiny(minillm, head_dim=32, hidden_size=40, intermediate_size=72).float()
    found = in_batches(optimized(model, ONE_CALL), PROMPT, BESIDE, max_new_tokens=12)
    assert [run.size for run in found.runs] == [1, 2, 4]
    assert (found.texts, found.same_bits, found.largest_error) == (1, True, 0.0)
    assert found.first_parting is None
    assert all(len(run.text) == len(run.logits) == 12 for run in found.runs)
    assert all(run.seconds > 0 for run in found.runs)


class Scripted:
    """Token 1 leads by a margin of its place; beside one other the third place tips over."""

    config = tiny(minillm).config
    device, dtype = torch.device("cpu"), torch.float32

    def hidden(self, tokens: Tensor, cache: Any, **_: Any) -> Tensor:
        B, T = tokens.shape
        self.place = cache.lengths[0] + T - len(PROMPT)
        cache.advance(T)
        return torch.zeros(B, T, 1)

    def head(self, hidden: Tensor) -> Tensor:
        logits = torch.zeros(len(hidden), self.config.vocab_size)
        logits[:, 1] = (1.0, 0.5, 0.25, 2.0, 0.125, 1.0)[self.place]
        if len(hidden) == 2:
            logits[:, 2] = 0.375 if self.place == 2 else 0.0625
        return logits


def test_a_text_that_parts_is_found_with_its_place_and_margin() -> None:
    model: Any = Scripted()
    found = in_batches(model, PROMPT, BESIDE, max_new_tokens=6)
    assert found.texts == 2
    assert [run.text for run in found.runs][1] == (1, 1, 2, 1, 1, 1)
    assert not found.same_bits
    assert found.first_parting == Tie(2, 0.25)
    assert found.nearest_tie == Tie(4, 0.125)
    assert found.largest_error == 0.375  # behind the parting other texts are compared


def test_all_rows_are_the_last_batch_whatever_their_number() -> None:
    found = in_batches(tiny(minillm), PROMPT, BESIDE[:2], max_new_tokens=2)
    assert [run.size for run in found.runs] == [1, 2, 3]


def test_one_new_token_is_no_step_of_decoding() -> None:
    with pytest.raises(ValueError, match="a step of decoding needs two new tokens, got 1"):
        in_batches(tiny(minillm), PROMPT, BESIDE, max_new_tokens=1)
