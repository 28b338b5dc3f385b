"""Tensors that are made once: usable in any mode, whoever was first, and nobody's to change."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from minillm.fast import block
from minillm.kept import kept
from minillm.lookahead.mask import lookahead_layout
from minillm.quantization.formats import Format

HALVES = Format("of this test", (0.0, 0.5))
KEPT: dict[str, Callable[[], Tensor]] = {
    "mask": lambda: lookahead_layout((9, 8, 1), 2, 3).mask,
    "offset": lambda: lookahead_layout((9, 8, 1), 2, 3).offset,
    "levels": lambda: HALVES.levels,
    "table": lambda: HALVES.table,
}


@pytest.mark.parametrize("get", KEPT.values(), ids=KEPT)
def test_whoever_is_first_and_whatever_he_does_others_get_the_same(
    get: Callable[[], Tensor],
) -> None:
    with torch.inference_mode():
        before = get().clone()
        get().zero_()
    assert get().equal(before)
    get().fill_(1)  # which raises where it was made in inference mode
    assert get().equal(before)


def test_a_kept_tensor_is_made_once() -> None:
    made: list[int] = []
    make = kept(lambda n, by=1: made.append(n) or by * torch.ones(n))
    assert [make(n, by=2).tolist() for n in (2, 3, 2)] == [[2, 2], [2, 2, 2], [2, 2]]
    assert made == [2, 3]


def test_a_fused_blocks_bias_is_free_outside_inference_mode() -> None:
    block._causal_bias.cache_clear()
    with torch.inference_mode():
        block._causal_bias(2, 5, 2)
    assert not block._causal_bias(2, 5, 2).is_inference()
