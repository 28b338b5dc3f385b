"""The films of zeros: the attention of a text under a threshold, and which neurons it opens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from minillm.sparsity.counting import Observed, keys_for, share_below
from minillm.whole import whole
from widgets.common.drawing.film import (
    Cell,
    Change,
    Film,
    Heat,
    Lane,
    Lanes,
    Number,
    Patch,
    Rect,
    quantize,
)
from widgets.common.drawing.page import heading, readable
from widgets.common.stable import verbatim

__all__ = ["LONGEST", "attention_film", "neuron_film"]

_MASS = "90 %"  # of a query's attention, as `keys_for` counts

LONGEST = 24  # tokens of the reader's text whose labels a heat map of half the width can show

_SHOWN = 512  # neurons of a layer, the hottest, that a heat map has room for


def attention_film(
    seen: Observed,
    names: list[str],
    layer: int,
    head: int,
    threshold: float,
    *,
    of_maximum: bool = False,
) -> Film:
    """One head's attention on a text, query by query, and what a threshold would leave of it.

    Args:
        seen: of one text.
        names: of its tokens.
        layer, head: which one.
        threshold: weights up to it count as zero.
        of_maximum: it is in units of the query's largest weight.

    Raises:
        ValueError: no such layer or head, or a threshold outside [0, 1].
    """
    T, (L, _, H, *_) = len(names), seen.weights.shape
    layer, head = whole("layer", layer, most=L - 1), whole("head", head, most=H - 1)
    weights, visible = seen.weights[layer, 0, head], seen.visible
    shares = share_below(seen.weights[:, 0], threshold, visible, of_maximum=of_maximum)
    outputs = share_below(seen.outputs[layer, 0, head], threshold, of_maximum=of_maximum)
    limit = threshold * weights.amax(-1, keepdim=True) if of_maximum else threshold
    small = (weights <= limit) & visible
    needed, every = keys_for(weights).tolist(), keys_for(seen.weights[:, 0])  # (T,), (L, H, T)
    needed_shares = every / visible.sum(-1)  # of the keys seen
    links, labels = tuple(f"token {t}" for t in range(T)), tuple(map(heading, names))
    square = Rect(0, 0, T, T)
    states = torch.where(visible, small.int(), 2).flatten().tolist()
    shown = weights.masked_fill(~visible, torch.nan).flatten().tolist()
    said = verbatim(f"{threshold:g}") + " of the query's largest" * of_maximum
    where = f"layer {layer}, head {head}"
    square_of: dict[str, Any] = {
        "rows": T,
        "columns": T,
        "marks": tuple((t, Rect(t, 0, 1, T)) for t in range(T)),
        "row_labels": labels,
        "column_labels": labels,
        "row_links": links,
        "column_links": links,
        "row_title": "query",
        "column_title": "key",
        "share": 5,
    }
    return Film(
        title=f"Keys that hold {_MASS} of attention, and zeros under a threshold: {where}",
        hint=f"A weight up to {said} counts as zero; hidden keys do not count at all.",
        captions=tuple(
            f"“{names[t]}” needs {needed[t]} of the {t + 1} key{'s' * (t > 0)} that it sees for "
            f"{_MASS} of its attention; {int(small[t].sum())} weights count as zero. Most goes to "
            f"“{names[int(weights[t].argmax())]}”: "
            f"{float(weights[t].max()):.0%}."
            for t in range(T)
        ),
        panels=(
            Lanes((_lane(names),)),
            Heat(
                patches=(Patch(0, square, quantize(shown, 0, 1)),),
                title=f"Weights · {where}",
                **square_of,
            ),
            Heat(
                patches=(Patch(0, square, bytes(states)),),
                states=("visible", "rejected", "masked"),
                title="What the threshold keeps and rejects",
                **square_of,
            ),
            _by_head(needed_shares),
        ),
        numbers=(
            Number(
                f"keys for {_MASS} of the mass",
                tuple(f"{n} of {t + 1}" for t, n in enumerate(needed)),
                "computed",
            ),
            Number("of keys seen, all heads and queries", _all(needed_shares), "computed"),
            Number("zeros among the keys seen", _percent(shares[layer, head]), "computed"),
            Number("zeros, all heads and queries", _all(shares), "computed"),
            Number("zeros among the head's outputs", _percent(outputs), "computed"),
            Number("mass on the first token", _percent(weights[:, 0]), "computed"),
        ),
        unit="query",
    )


def _by_head(shares: Tensor) -> Heat:
    """The mean over queries of every head, (L, H, T)."""
    L, H, _ = shares.shape
    means = shares.mean(-1).flatten().tolist()
    return Heat(
        rows=L,
        columns=H,
        patches=(Patch(0, Rect(0, 0, L, H), quantize(means, 0, 1)),),
        row_labels=tuple(f"layer {i}" for i in range(L)),
        column_labels=tuple(f"head {i}" for i in range(H)),
        title=f"Keys for {_MASS}",
        share=2,
    )


def neuron_film(seen: Observed, names: list[str], rates: Tensor) -> Film:
    """Which neurons each token of a text opens, layer by layer.

    Args:
        seen: of one text.
        names: of its tokens.
        rates: (L, F), how often each neuron is open elsewhere; the hottest stand on the left.
    """
    opened = seen.gates[:, 0] != 0  # (L, T, F)
    L, T, F = opened.shape
    order = rates.argsort(dim=-1, descending=True)[:, None]  # (L, 1, F)
    shown = opened.gather(2, order.expand(L, T, F))[..., :_SHOWN]
    before = opened.cumsum(1) > 0  # by any token up to here
    area = Rect(0, 0, L, shown.shape[-1])
    shut = (~opened).double().mean((0, 2))
    used = before.double().mean((0, 2))
    return Film(
        title="Neurons that a token opens",
        hint="Each column is a neuron, dark where its gate is open; the hottest of every layer "
        "stand on the left. Step on: another token opens others.",
        captions=tuple(
            f"“{names[t]}” opens {int(opened[:, t].sum()):,} of {L * F:,} neurons. The tokens up "
            f"to here have opened {int(before[:, t].sum()):,} different ones."
            for t in range(T)
        ),
        panels=(
            Lanes((_lane(names),)),
            Heat(
                rows=L,
                columns=area.columns,
                patches=tuple(
                    Patch(t, area, bytes((~shown[:, t]).int().flatten().tolist())) for t in range(T)
                ),
                states=("computed", "shut"),
                row_labels=tuple(f"layer {i}" for i in range(L)),
                column_title=f"the {area.columns} hottest neurons of each layer, of {F}",
                title="Open and shut gates",
            ),
        ),
        numbers=(
            Number("shut for this token", _percent(shut), "computed"),
            Number("shut for all tokens up to here", _percent(1 - used), "computed"),
            Number(
                "X^N, with one X for all",
                _percent(shut.mean() ** torch.arange(1, T + 1)),
                "computed",
            ),
        ),
        unit="token",
    )


def _lane(names: list[str]) -> Lane:
    """The text; the token of the step is set off."""
    cells = [
        Cell(readable(name), _history(t, len(names)), link=f"token {t}")
        for t, name in enumerate(names)
    ]
    return Lane("text", tuple(cells), prose=True)


def _history(t: int, steps: int) -> tuple[Change, ...]:
    changes = (Change(0, "masked"), Change(t, "looking"), Change(t + 1, "visible"))
    return tuple(change for change in changes[t == 0 :] if change.step < steps)


def _percent(values: Tensor) -> tuple[str, ...]:
    return tuple(f"{value:.0%}" for value in values.tolist())


def _all(shares: Tensor) -> str:
    return f"{shares.mean().item():.0%}"
