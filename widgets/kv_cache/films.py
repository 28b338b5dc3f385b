"""The films of the KV cache: how it grows, and what ended rows cost."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from minillm import ModelConfig
from minillm.decoding import Step
from minillm.roofline import work
from widgets.common.drawing.film import (
    Bar,
    Cell,
    Change,
    Film,
    Heat,
    Lane,
    Lanes,
    Number,
    Patch,
    Rect,
)

__all__ = ["batch_film", "growth_film"]


def growth_film(
    plain: Sequence[Step], cached: Sequence[Step], pieces: Sequence[str], config: ModelConfig
) -> Film:
    """One more token, without and with a cache, from a real run of both decoders.

    Args:
        plain, cached: the Steps of `decode_recomputed` and `decode_cached`, one row, same prompt.
        pieces: the text of each forwarded token: the prompt and all but the last new one.
        config: the model's.

    Raises:
        ValueError: not one row each, run without and with a cache, of these `pieces`.
    """
    count = len(cached)
    prompt = len(pieces) - count + 1
    held = [(n,) for n in range(prompt, prompt + count)]  # tokens forwarded by the end of a step
    recomputed = [(step.computed,) for step in plain]
    if not cached or held != recomputed or held != [step.cached for step in cached]:
        raise ValueError(
            f"{len(plain)} and {count} steps do not fit {len(pieces)} forwarded tokens of one row, "
            "without and with a cache"
        )
    births = [max(0, i - prompt + 1) for i in range(len(pieces))]  # step that first forwards i
    return Film(
        title="KV-cache growth",
        hint="One more token, without and with a cache. "
        "Hover a slot: which token wrote it, and when.",
        captions=tuple(_growth_caption(step, prompt, pieces, config) for step in range(count)),
        panels=(
            Lanes((_lane_without(plain, pieces, births), _lane_with(cached, pieces, births))),
            Lanes(
                (
                    Lane("without", bars=_time_bars(plain, "baseline"), baseline=True),
                    Lane("with cache", bars=_time_bars(cached, "trick")),
                ),
                title="Time so far, both on one axis",
                unit="ms",
            ),
            _slots(births, config),
        ),
        numbers=_growth_numbers(plain, cached, config),
    )


def _lane_without(steps: Sequence[Step], pieces: Sequence[str], births: Sequence[int]) -> Lane:
    cells = tuple(
        Cell(text, _born(born, text, "computed"), link=f"token {i}", tip=f"token {i}: “{text}”")
        for i, (text, born) in enumerate(zip(pieces, births, strict=True))
    )
    notes = tuple(f"computes {step.computed} of {step.computed}" for step in steps)
    return Lane("without", cells, notes=notes, baseline=True)


def _lane_with(steps: Sequence[Step], pieces: Sequence[str], births: Sequence[int]) -> Lane:
    cells = []
    for i, (text, born) in enumerate(zip(pieces, births, strict=True)):
        history = _born(born, text, "computed")
        if born + 1 < len(steps):
            history += (Change(born + 1, "read"),)
        cells.append(Cell(text, history, link=f"token {i}", tip=f"token {i}: “{text}”"))
    notes = tuple(
        f"computes {step.computed}, reads {step.cached[0] - step.computed}" for step in steps
    )
    return Lane("with cache", tuple(cells), notes=notes)


def _born(step: int, text: str, state: str) -> tuple[Change, ...]:
    """Free and empty until `step`, then there."""
    there = Change(step, state, text)
    return (there,) if step == 0 else (Change(0, "free", ""), there)


def _time_bars(steps: Sequence[Step], series: str) -> tuple[Bar, ...]:
    ends = [1e3 * seconds for seconds in accumulate(step.seconds for step in steps)]
    starts = [0.0, *ends[:-1]]
    return tuple(
        Bar(i, start, end, series) for i, (start, end) in enumerate(zip(starts, ends, strict=True))
    )


def _slots(births: Sequence[int], config: ModelConfig) -> Heat:
    """The cache itself: a row per layer and key/value head, a column per position."""
    layers, heads = config.num_hidden_layers, config.num_key_value_heads
    columns = {step: [i for i, born in enumerate(births) if born == step] for step in births}
    patches = []
    for step, new in sorted(columns.items()):
        if step > 0:
            old = columns[step - 1]
            patches.append(Patch(step, Rect(0, old[0], layers * heads, len(old)), 1))
        patches.append(Patch(step, Rect(0, new[0], layers * heads, len(new)), 0))
    return Heat(
        layers * heads,
        len(births),
        tuple(patches),
        states=("computed", "read"),
        row_labels=tuple(
            f"layer {layer} head {head}" for layer in range(layers) for head in range(heads)
        ),
        column_links=tuple(f"token {i}" for i in range(len(births))),
        column_title="position",
        title=f"The cache: a key and a value of {config.head_dim} numbers in every slot",
        sweep=True,
    )


def _growth_caption(step: int, prompt: int, pieces: Sequence[str], config: ModelConfig) -> str:
    per_token = config.kv_elements_per_token * 4
    if step == 0:
        return (
            f"Prefill: the prompt's {prompt} tokens go through the layers in one pass, with or "
            f"without a cache. {prompt * per_token:,} bytes of keys and values are kept."
        )
    held = prompt + step
    without = work(config, new=held, logits="last").flops
    ratio = without / work(config, new=1, cached=held - 1).flops
    return (
        f"“{pieces[held - 1]}”: its query meets {held - 1} stored keys. Only its own key and value "
        f"are new: {per_token:,} bytes written, {(held - 1) * per_token:,} read. Without the "
        f"cache this step takes {without / 1e6:,.0f} MFLOP, {ratio:.0f} times as many."
    )


def _growth_numbers(
    plain: Sequence[Step], cached: Sequence[Step], config: ModelConfig
) -> tuple[Number, ...]:
    per_token = config.kv_elements_per_token * 4
    slow, fast = (list(accumulate(step.seconds for step in steps)) for steps in (plain, cached))
    rows, few = (list(accumulate(step.computed for step in steps)) for steps in (plain, cached))
    return (
        Number("bytes cached", tuple(f"{s.cached[0] * per_token:,}" for s in cached), "computed"),
        Number(
            f"bytes a token: 2 x {config.num_hidden_layers} layers x "
            f"{config.num_key_value_heads} heads x {config.head_dim} x 4",
            f"{per_token:,}",
            "computed",
        ),
        Number(
            "tokens through the layers",
            tuple(f"{a:,} → {b:,}" for a, b in zip(rows, few, strict=True)),
            "computed",
        ),
        Number(
            "this step, without → with",
            tuple(
                f"{1e3 * a.seconds:.1f} → {1e3 * b.seconds:.1f} ms"
                for a, b in zip(plain, cached, strict=True)
            ),
            "measured",
        ),
        Number(
            "faster so far",
            tuple(f"{a / b:.1f}×" for a, b in zip(slow, fast, strict=True)),
            "measured",
        ),
    )


def batch_film(
    steps: Sequence[Step], prompts: Sequence[Sequence[str]], new: Sequence[Sequence[str]]
) -> Film:
    """Rows of one batch that end at different times: their places are computed to the end.

    Args:
        steps: of `decode_cached` on the batch.
        prompts, new: the text of each row's prompt and new tokens.
    """
    lanes = tuple(_batch_lane(steps, row, prompts[row], new[row]) for row in range(len(prompts)))
    computed = list(accumulate(step.computed for step in steps))
    useful = [sum(step.cached) for step in steps]
    return Film(
        title="One batch, rows of different lengths",
        hint="A batch runs until its last row ends. Grey places are computed and thrown away.",
        captions=tuple(_batch_caption(step, len(prompts)) for step in steps),
        panels=(Lanes(lanes),),
        numbers=(
            Number("tokens through the layers", tuple(f"{n:,}" for n in computed), "computed"),
            Number("of them kept", tuple(f"{n:,}" for n in useful), "computed"),
            Number(
                "thrown away",
                tuple(f"{1 - u / c:.0%}" for u, c in zip(useful, computed, strict=True)),
                "computed",
            ),
        ),
    )


def _batch_lane(steps: Sequence[Step], row: int, prompt: Sequence[str], new: Sequence[str]) -> Lane:
    longest = steps[0].computed // len(steps[0].rows)
    cells = [Cell(text, (Change(0, "computed"), Change(1, "read"))) for text in prompt]
    cells += [Cell("", (Change(0, "wasted"),), tip="padding")] * (longest - len(prompt))
    for step in range(1, len(steps)):
        if steps[step - 1].rows[row].ended:
            cells.append(Cell("", (Change(step, "wasted"),), tip="computed after the row's end"))
        else:
            history = (Change(step, "computed"), Change(step + 1, "read"))
            cells.append(Cell(new[step - 1], history[: len(steps) - step]))
    notes = tuple(
        "ended" if step.rows[row].ended else f"{step.cached[row]} cached" for step in steps
    )
    return Lane(f"row {row}", tuple(cells), notes=notes)


def _batch_caption(step: Step, rows: int) -> str:
    ended = sum(row.ended for row in step.rows)
    return f"{rows - ended} of {rows} rows still write; this pass computed {step.computed} places."
