"""What lookahead decoding gains, over its window and the length of its n-grams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from minillm import decode_cached
from minillm.decoding import Model
from minillm.lookahead.decode import decode_lookahead
from minillm.whole import wholes
from widgets.jacobi.gain import GainExplorer, Passes, measure_passes

__all__ = ["LookaheadGainExplorer", "measure_settings"]


def measure_settings(
    model: Model,
    prompts: Sequence[Sequence[int]],
    widths: Sequence[int],
    lengths: Sequence[int],
    *,
    max_new_tokens: int = 48,
) -> tuple[Passes, dict[int, dict[int, Passes]]]:
    """Plain decoding, and lookahead by N of `lengths` and W = G of `widths`.

    Raises:
        ValueError: widths that are no whole numbers from 1, or lengths that are none from 2.
    """
    widths, lengths = wholes("widths", widths, least=1), wholes("lengths", lengths, least=2)
    common: dict[str, Any] = {"max_new_tokens": max_new_tokens}
    decoders: dict[Any, Any] = {"plain": partial(decode_cached, model, **common)} | {
        (N, W): partial(decode_lookahead, model, W=W, N=N, G=W, **common)
        for N in lengths
        for W in widths
    }
    found = measure_passes(decoders, prompts)
    return found["plain"], {N: {W: found[N, W] for W in widths} for N in lengths}


class LookaheadGainExplorer(GainExplorer):
    """Lookahead decoding by N and by W = G: compression, cost, and what is left.

    Args:
        plain, runs: from `measure_settings`.
        V: from `minillm.measure.machine.measure_tokens`.
    """

    def __init__(
        self, plain: Passes, runs: Mapping[int, Mapping[int, Passes]], V: Mapping[int, float]
    ):
        lengths, widths = sorted(runs), sorted(next(iter(runs.values()), {}))
        super().__init__(
            plain,
            {f"N = {N}": [runs[N][W] for W in sorted(runs[N])] for N in lengths},
            V,
            [f"{W}" for W in widths],
            x_title="tokens that a pass reads, on average: at most (W + G)(N - 1)",
            names=("N", "W = G"),
            first=(f"N = {lengths[-1]}" if runs else "", len(widths) // 2),
        )
