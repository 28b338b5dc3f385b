"""The film of one forward pass: a text's way from tokens to the next one, with every shape."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate

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
from widgets.common.drawing.page import bare, heading, readable, visible
from widgets.common.stable import digits
from widgets.transformer.watching import LONGEST, Pass

__all__ = ["forward_film", "logit_sum"]

_TEXT, _STREAM, _INSIDE = "text", "stream", "inside"

_NEXT = 2  # likeliest tokens at the end of the stream


@dataclass(frozen=True)
class Station:
    """A place that the vectors pass: one step of the film.

    Attributes:
        lane: where it stands.
        reading: which of `Pass.readings` and `Pass.parts` holds from here on, if a new one does.
    """

    name: str
    lane: str
    shape: str
    caption: str
    parameters: int = 0
    flops: int = 0
    reading: int | None = None

    @property
    def adds(self) -> bool:
        """Whether it brings what the station before it found to the stream."""
        return self.name.startswith("+")


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
        hint="The shape is below each station. Hover a token: arcs show whom it looks at."
        + (f" Only the first {LONGEST} tokens of your text are shown." if run.cut else ""),
        captions=tuple(station.caption for station in stations),
        panels=(
            Lanes(_lanes(run, stations, layer)),
            *_heats(run, stations, layer, head, weights),
            _added(run, stations),
        ),
        numbers=_numbers(run, stations),
        unit="station",
        aside=3,
    )


def logit_sum(run: Pass) -> str:
    """The likeliest next token's logit, and what it is the sum of."""
    embedding, attention, mlps = run.parts[0], sum(run.parts[1::2]), sum(run.parts[2::2])
    return (
        f"The logit of “{_winner(run)}” is {digits(sum(run.parts))}: {_signed(embedding)} from the "
        f"embedding, {_signed(attention)} from attention, {_signed(mlps)} from MLPs"
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
    winner = _winner(run)
    zeros = int((seen.gate[0, -1] == 0).sum())
    most = int(weights.argmax())
    start = "; the first marks the start of a text" * (run.pieces[0] == END_OF_TEXT)

    def added(part: int) -> str:
        before, after = map(digits, run.lengths[part - 1 : part + 1])
        return (
            f"The result is added to the stream: its length goes from {before} to {after}, the "
            f"logit of “{winner}” changes by {_signed(run.parts[part])}."
        )

    def others(lane: str, first: int, count: int) -> Station:
        name = f"layer {first}" if count == 1 else f"layers {first}–{first + count - 1}"
        caption = (
            f"{name.capitalize()}: attention and MLP each read the stream and add to it what they "
            "found. The shape stays as it is."
            if count
            else f"Layer {layer} is the {'last' if first else 'first'}: none is left on this side."
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
            _TEXT,
            f"{T}",
            f"The text becomes {T} tokens, each a number below {V:,}{start}. All go through side "
            f"by side. The captions follow the last one, {last}.",
        ),
        Station(
            "embed",
            _STREAM,
            f"{T}×{C}",
            f"Token {run.tokens[-1]} picks row {run.tokens[-1]} of a table: {C} numbers. This "
            "vector is its residual stream; every layer adds to it.",
            parameters=V * C,
            reading=0,
        ),
        others(_STREAM, 0, layer),
        Station(
            "norm",
            _INSIDE,
            f"{T}×{C}",
            "RMSNorm scales each vector to the same size for the matrices that read it. The "
            "stream itself goes on unchanged.",
            parameters=C,
        ),
        Station(
            "q k v",
            _INSIDE,
            f"{T}×{(H + 2 * G) * D}",
            f"One matrix makes {H} queries, {G} keys and {G} values of {D} numbers for each token. "
            f"Query heads {group * share} to {group * share + share - 1} share key/value head "
            f"{group}; head {head} is one of them.",
            parameters=C * (H + 2 * G) * D,
            flops=2 * T * C * (H + 2 * G) * D,
        ),
        Station(
            "rotate",
            _INSIDE,
            f"{H}×{T}×{D}",
            "Queries and keys are turned by angles that grow with the position, so that a score "
            "depends on how far two tokens are apart. Values are not turned.",
        ),
        Station(
            "scores",
            _INSIDE,
            f"{T}×{T}",
            f"Head {head}: each query meets each key in a dot product of {D} numbers, divided by "
            f"√{D}. The upper right half is the future; it is drawn here, and masked next.",
            flops=2 * H * D * pairs,
        ),
        Station(
            "softmax",
            _INSIDE,
            f"{T}×{T}",
            f"The future is masked, and each row becomes weights that sum to 1. {last} looks at "
            f"“{run.pieces[most]}” (token {most}) most: {float(weights[most]):.0%}.",
        ),
        Station(
            "mix",
            _INSIDE,
            f"{T}×{D}",
            f"Head {head} adds up the values of key/value head {group}, each times its weight: "
            f"{D} numbers a token.",
            flops=2 * H * D * pairs,
        ),
        Station(
            "+ attention",
            _STREAM,
            f"{T}×{C}",
            f"One matrix mixes the {H * D} numbers of all {H} heads. {added(2 * layer + 1)}",
            parameters=H * D * C,
            flops=2 * T * H * D * C,
            reading=2 * layer + 1,
        ),
        Station(
            "norm",
            _INSIDE,
            f"{T}×{C}",
            "The same kind of norm again, with its own scales. From here on no token sees "
            "another until the next layer.",
            parameters=C,
        ),
        Station(
            "gate, up",
            _INSIDE,
            f"{T}×{2 * F}",
            f"Two matrices, stored as one: {F:,} gates and {F:,} numbers to let through, "
            "for each token.",
            parameters=2 * C * F,
            flops=4 * T * C * F,
        ),
        Station(
            config.hidden_act,
            _INSIDE,
            f"{T}×{F}",
            f"For {last}, {zeros:,} of {F:,} gates are exactly 0. Each gate multiplies its number: "
            "where it is 0, nothing passes.",
        ),
        Station(
            "+ MLP",
            _STREAM,
            f"{T}×{C}",
            f"A matrix brings {F:,} numbers back to {C}. {added(2 * layer + 2)}",
            parameters=F * C,
            flops=2 * T * F * C,
            reading=2 * layer + 2,
        ),
        others(_STREAM, layer + 1, L - 1 - layer),
        Station("norm", _STREAM, f"{T}×{C}", "One last norm before the head.", parameters=C),
        Station(
            "logits",
            _STREAM,
            f"1×{V}",
            f"The head gives each of {V:,} tokens a score, here for the last position only, "
            "because the next token needs no other.",
            parameters=0 if config.tie_word_embeddings else V * C,
            flops=2 * C * V,
        ),
        Station(
            "next token",
            _STREAM,
            "1",
            "Softmax turns scores into probabilities: "
            + ", ".join(f"“{visible(piece)}” {p:.0%}" for piece, p in run.likeliest[:3])
            + ". Lesson 01 shows how one of them is chosen.",
        ),
    ]


def _lanes(run: Pass, stations: list[Station], layer: int) -> tuple[Lane, ...]:
    """The text; what one layer does aside; and the stream, to which it adds what it found."""
    last = len(stations) - 1
    text = tuple(
        Cell(readable(piece), _passed(0, last), f"token {i}", tip=f"token {i} of the text: {token}")
        for i, (piece, token) in enumerate(zip(run.pieces, run.tokens, strict=True))
    )
    lanes = [Lane(_TEXT, text, prose=True)]
    for name, note in ((_STREAM, ""), (_INSIDE, f"layer {layer}")):
        steps = [step for step, station in enumerate(stations) if station.lane == name]
        cells = [
            Cell(
                stations[step].name,
                _passed(step, last, f"station {step - 1}" if stations[step].adds else None),
                f"station {step}",
                detail=stations[step].shape,
            )
            for step in steps
            if step < last
        ]
        if last in steps:
            cells += [
                Cell(piece, _passed(last, last), detail=f"{p:.0%}")
                for piece, p in run.likeliest[:_NEXT]
            ]
        lanes.append(Lane(name, tuple(cells), notes=note, start=steps[0], line=True))
    return tuple(lanes)


def _passed(step: int, last: int, origin: str | None = None) -> tuple[Change, ...]:
    """Computed in one step, there ever after."""
    there = Change(step, "computed", origin=origin), Change(step + 1, "settled", origin=origin)
    return there[: last + 1 - step]


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
    low = -bound if float(scores.min()) < 0 else 0.0
    links = tuple(f"token {i}" for i in range(T))
    labels = tuple(map(heading, run.pieces))
    everything, last = Rect(0, 0, T, T), Rect(T - 1, 0, 1, T)

    def heat(
        title: str, low: float, patches: list[tuple[int, Tensor]], high: float, arcs: bool = False
    ) -> Heat:
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
            row_title="query",
            column_title="key",
            row_links=links,
            title=title,
            sweep="down",
            arcs=arcs,
            share=3,
        )

    visible = scores.masked_fill(hidden, torch.nan)
    return (
        heat("Scores", low, [(scored, scores), (masked, visible)], bound),
        heat(
            f"Weights · head {head}",
            0,
            [(masked, weights.masked_fill(hidden, torch.nan))],
            1,
            arcs=True,
        ),
    )


def _added(run: Pass, stations: list[Station]) -> Heat:
    """What the embedding and each half of each layer add to the likeliest next token's logit."""
    bound = max(1.0, math.ceil(max(map(abs, run.parts))))
    patches: list[Patch] = []
    marks: list[tuple[int, Rect | None]] = []
    done = 0
    for step, station in enumerate(stations):
        end = done if station.reading is None else station.reading + 1
        for part in range(done, end):
            patches.append(Patch(step, _place(part), quantize([run.parts[part]], -bound, bound)))
        marks.append((step, _place(done) if end == done + 1 else None))
        done = end
    layers = len(run.layers)
    return Heat(
        rows=3,
        columns=layers,
        patches=tuple(patches),
        low=-bound,
        high=bound,
        marks=tuple(marks),
        row_labels=("embedding", "attention", "MLP"),
        column_labels=tuple(map(str, range(layers))),
        column_title="layer",
        title=f"What adds to the logit of “{_winner(run)}”",
        share=3,
    )


def _winner(run: Pass) -> str:
    return visible(bare(run.likeliest[0][0]))


def _signed(x: float) -> str:
    return "+" * (x > 0) + digits(x)


def _place(part: int) -> Rect:
    """The cell of a part: the embedding stands in the first row, each half of a layer below."""
    return Rect(1 + (part - 1) % 2, (part - 1) // 2) if part else Rect(0, 0)


def _numbers(run: Pass, stations: list[Station]) -> tuple[Number, ...]:
    sums = list(accumulate(run.parts))
    readings, logits = ["–"], ["–"]
    for station in stations[1:]:
        if station.reading is None:
            readings.append(readings[-1])
            logits.append(logits[-1])
        else:
            piece, p = run.readings[station.reading]
            readings.append(f"“{visible(piece)}” {p:.0%}")
            logits.append(_signed(sums[station.reading]))
    return (
        Number("parameters here", tuple(f"{s.parameters:,}" for s in stations), "computed"),
        Number("FLOPs here, all heads", tuple(f"{s.flops:,}" for s in stations), "computed"),
        Number("next token, if read here", tuple(readings), "computed"),
        Number(f"logit of “{_winner(run)}” so far", tuple(logits), "computed"),
    )
