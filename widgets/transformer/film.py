"""The film of one forward pass: a text's way from tokens to the next one, with every shape."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from minillm import ModelConfig
from minillm.attention import attention_weights
from minillm.roofline import work
from minillm.tokens import END_OF_TEXT
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
from widgets.transformer.watching import LONGEST, Pass

__all__ = ["forward_film"]


@dataclass(frozen=True)
class Station:
    """A place that the vectors pass: one step of the film.

    Attributes:
        lane: where it stands.
        reading: which of `Pass.readings` holds from here on, if a new one does.
    """

    name: str
    lane: str
    shape: str
    caption: str
    parameters: int = 0
    flops: int = 0
    reading: int | None = None


def forward_film(run: Pass, config: ModelConfig, layer: int, head: int) -> Film:
    """The pass, station by station; inside of one layer for one of its heads.

    Raises:
        ValueError: no such layer or head.
    """
    layer = whole("layer", layer, most=config.num_hidden_layers - 1)
    head = whole("head", head, most=config.num_attention_heads - 1)
    seen = run.layers[layer]
    weights = attention_weights(seen.q, seen.k, None)[0, head]  # (T, T)
    stations = _stations(run, config, layer, head, weights[-1])
    return Film(
        title="One forward pass, from text to the next token",
        hint="Under each station stands its shape. Hover a token: its row shows whom it looks at."
        + (f" Only the first {LONGEST} tokens of your text are shown." if run.cut else ""),
        captions=tuple(station.caption for station in stations),
        panels=(Lanes(_lanes(run, stations, layer)), *_heats(run, stations, layer, head, weights)),
        numbers=_numbers(run, stations),
        unit="station",
    )


def _stations(
    run: Pass, config: ModelConfig, layer: int, head: int, weights: Tensor
) -> list[Station]:
    T, C, D = len(run.tokens), config.hidden_size, config.head_dim
    H, G, F = config.num_attention_heads, config.num_key_value_heads, config.intermediate_size
    V, L = config.vocab_size, config.num_hidden_layers
    last, seen = f"“{run.pieces[-1]}”", run.layers[layer]
    share, group = H // G, head // (H // G)
    pairs = T * (T + 1) // 2  # a query and a key that it sees
    block = 2 * C + C * (H + 2 * G) * D + H * D * C + 3 * C * F
    block_flops = (work(config, new=T, logits="last").flops - 2 * C * V) // L
    zeros = int((seen.gate[0, -1] == 0).sum())
    most = int(weights.argmax())

    def others(lane: str, first: int, count: int) -> Station:
        name = f"layer {first}" if count == 1 else f"layers {first} to {first + count - 1}"
        caption = (
            f"{name.capitalize()}: attention and MLP each read the stream and add to it what they "
            "found. The shape stays as it is."
            if count
            else f"Layer {layer} is the {'last' if first else 'first'}: no other stands here."
        )
        return Station(
            name if count else "no layer",
            lane,
            f"{T}×{C}",
            caption,
            parameters=count * block,
            flops=count * block_flops,
            reading=2 * (first + count),
        )

    return [
        Station(
            "tokens",
            "text",
            f"{T}",
            f"The text becomes {T} tokens, each a number below {V:,}; the first marks the start of "
            f"a text. All go through side by side. The captions follow the last one, {last}.",
        ),
        Station(
            "embed",
            "in",
            f"{T}×{C}",
            f"Token {run.tokens[-1]} picks row {run.tokens[-1]} of a table: {C} numbers. This "
            "vector is its residual stream; every layer adds to it.",
            parameters=V * C,
            reading=0,
        ),
        others("in", 0, layer),
        Station(
            "norm",
            "attention",
            f"{T}×{C}",
            "RMSNorm scales each vector to the same size for the matrices that read it. The "
            "stream itself goes on unchanged.",
            parameters=C,
        ),
        Station(
            "q k v",
            "attention",
            f"{T}×{(H + 2 * G) * D}",
            f"One matrix makes {H} queries, {G} keys and {G} values of {D} numbers for each token. "
            f"Query heads {group * share} to {group * share + share - 1} share key/value head "
            f"{group}; head {head} is one of them.",
            parameters=C * (H + 2 * G) * D,
            flops=2 * T * C * (H + 2 * G) * D,
        ),
        Station(
            "rotate",
            "attention",
            f"{H}×{T}×{D}",
            "Queries and keys are turned by angles that grow with the position, so that a score "
            "depends on how far two tokens are apart. Values are not turned.",
        ),
        Station(
            "scores",
            "attention",
            f"{T}×{T}",
            f"Head {head}: each query meets each key in a dot product of {D} numbers, divided by "
            f"√{D}. The upper right half is the future; it is drawn here, and masked next.",
            flops=2 * H * D * pairs,
        ),
        Station(
            "softmax",
            "attention",
            f"{T}×{T}",
            f"The future is masked, and each row becomes weights that sum to 1. {last} looks at "
            f"“{run.pieces[most]}” (token {most}) most: {float(weights[most]):.0%}.",
        ),
        Station(
            "mix",
            "attention",
            f"{T}×{D}",
            f"Head {head} adds up the values of key/value head {group}, each times its weight: "
            f"{D} numbers a token.",
            flops=2 * H * D * pairs,
        ),
        Station(
            "out, add",
            "attention",
            f"{T}×{C}",
            f"The {H} heads side by side are {H * D} numbers. One matrix mixes them, and the "
            "result is added to the residual stream.",
            parameters=H * D * C,
            flops=2 * T * H * D * C,
            reading=2 * layer + 1,
        ),
        Station(
            "norm",
            "MLP",
            f"{T}×{C}",
            "The same kind of norm again, with its own scales. From here on no token sees "
            "another until the next layer.",
            parameters=C,
        ),
        Station(
            "gate, up",
            "MLP",
            f"{T}×{2 * F}",
            f"Two matrices, stored as one: {F:,} gates and {F:,} numbers to let through, "
            "for each token.",
            parameters=2 * C * F,
            flops=4 * T * C * F,
        ),
        Station(
            config.hidden_act,
            "MLP",
            f"{T}×{F}",
            f"For {last}, {zeros:,} of {F:,} gates are exactly 0. Each gate multiplies its number: "
            "behind a 0 nothing passes.",
        ),
        Station(
            "down, add",
            "MLP",
            f"{T}×{C}",
            f"A matrix brings {F:,} numbers back to {C}, and they are added to the stream.",
            parameters=F * C,
            flops=2 * T * F * C,
            reading=2 * layer + 2,
        ),
        others("out", layer + 1, L - 1 - layer),
        Station("norm", "out", f"{T}×{C}", "One last norm before the head.", parameters=C),
        Station(
            "logits",
            "out",
            f"1×{V}",
            f"The head gives each of {V:,} tokens a score, here for the last position only, "
            "because the next token needs no other.",
            parameters=0 if config.tie_word_embeddings else V * C,
            flops=2 * C * V,
        ),
        Station(
            "next token",
            "out",
            "1",
            "Softmax turns scores into probabilities: "
            + ", ".join(f"“{piece}” {p:.0%}" for piece, p in run.likeliest[:3])
            + ". Which one is taken is the business of lesson 01.",
        ),
    ]


def _lanes(run: Pass, stations: list[Station], layer: int) -> tuple[Lane, ...]:
    """The text, then the stations; the last one of them is where the next tokens appear."""
    last = len(stations) - 1
    text = tuple(
        Cell(piece, _passed(0, last), f"token {i}", f"{token}", f"token {i} of the text")
        for i, (piece, token) in enumerate(zip(run.pieces, run.tokens, strict=True))
    )
    likeliest = [Cell(piece, _passed(last, last), detail=f"{p:.0%}") for piece, p in run.likeliest]
    lanes = [Lane("text", text, notes="token and its number")]
    for name, group in groupby(range(1, last + 1), lambda step: stations[step].lane):
        steps = list(group)
        cells = [
            Cell(stations[step].name, _passed(step, last), detail=stations[step].shape)
            for step in steps
            if step < last
        ]
        cells += likeliest if last in steps else []
        note = f"layer {layer}" if name in ("attention", "MLP") else ""
        lanes.append(Lane(name, tuple(cells), notes=note, start=steps[0]))
    return tuple(lanes)


def _passed(step: int, last: int) -> tuple[Change, ...]:
    """Computed in one step, there ever after."""
    return (Change(step, "computed"), Change(step + 1, "settled"))[: last + 1 - step]


def _heats(
    run: Pass, stations: list[Station], layer: int, head: int, weights: Tensor
) -> tuple[Heat, Heat]:
    """Scores and weights, a row for each query; what the mask hides goes blank."""
    seen, T = run.layers[layer], len(run.tokens)
    group = head // (seen.q.shape[1] // seen.k.shape[1])
    scores = seen.q[0, head] @ seen.k[0, group].T * seen.q.shape[-1] ** -0.5  # (T, T)
    hidden = torch.ones(T, T, dtype=torch.bool, device=scores.device).triu(1)
    names = [station.name for station in stations]
    scored, masked = names.index("scores"), names.index("softmax")
    bound = max(1.0, float(scores.abs().max().ceil()))
    links = tuple(f"token {i}" for i in range(T))
    labels = tuple("start" if piece == END_OF_TEXT else piece for piece in run.pieces)
    everything, last = Rect(0, 0, T, T), Rect(T - 1, 0, 1, T)

    def heat(title: str, low: float, patches: list[tuple[int, Tensor]], high: float) -> Heat:
        return Heat(
            rows=T,
            columns=T,
            patches=tuple(
                Patch(step, everything, quantize(values.flatten().tolist(), low, high))
                for step, values in patches
            ),
            low=low,
            high=high,
            marks=((0, None), (masked, last)),
            row_labels=labels,
            column_labels=labels,
            row_title="query (who asks)",
            column_title="key (who answers)",
            row_links=links,
            title=title,
            sweep=True,
            half=True,
        )

    visible = scores.masked_fill(hidden, torch.nan)
    where = f"layer {layer}, head {head}"
    return (
        heat(f"Scores · {where}", -bound, [(scored, scores), (masked, visible)], bound),
        heat(
            f"Attention weights · {where}", 0, [(masked, weights.masked_fill(hidden, torch.nan))], 1
        ),
    )


def _numbers(run: Pass, stations: list[Station]) -> tuple[Number, ...]:
    said, readings = "–", []
    for station in stations:
        if station.reading is not None:
            piece, p = run.readings[station.reading]
            said = f"“{piece}” {p:.0%}"
        readings.append(said)
    return (
        Number("parameters here", tuple(f"{s.parameters:,}" for s in stations), "computed"),
        Number("FLOPs here, all heads", tuple(f"{s.flops:,}" for s in stations), "computed"),
        Number("next token, if the logits were read here", tuple(readings), "computed"),
    )
