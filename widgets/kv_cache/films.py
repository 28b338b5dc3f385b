"""The films of the KV cache: how it grows, and what ended rows cost."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

from minillm import ModelConfig
from minillm.data.hardware import ACCELERATORS
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
from widgets.common.drawing.page import heading, readable

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
    per_token = config.kv_elements_per_token * 4
    sizes = [step.cached[0] * per_token for step in cached]
    return Film(
        title="KV-cache growth",
        hint="A row of each picture is one step: the tokens that it computes, and those that it "
        "reads. Hover a place: which token it is.",
        captions=tuple(_growth_caption(step, prompt, pieces, config) for step in range(count)),
        panels=(
            Lanes((_text(pieces, births, count),)),
            _work("Without a cache, a step computes all tokens", pieces, held, "again"),
            _work("With a cache, a step computes one and reads the others", pieces, held, "read"),
            Lanes(
                (
                    Lane("without", bars=_stack([1e3 * s.seconds for s in plain], "baseline"),
                         baseline=True),
                    Lane("with cache", bars=_stack([1e3 * s.seconds for s in cached], "trick")),
                ),
                title="Time so far, both on one axis",
                unit="ms",
                share=6,
            ),
            Lanes(
                (
                    Lane(
                        "cached",
                        bars=_stack([b - a for a, b in pairwise([0, *sizes])], "trick"),
                        notes=tuple(f"{size:,} B" for size in sizes),
                    ),
                ),
                title=f"The cache, {_each(config)}",
                unit="bytes",
                share=6,
            ),
        ),
        numbers=_growth_numbers(plain, cached, sizes),
        opening=count // 2,
    )  # fmt: skip


def _each(config: ModelConfig) -> str:
    """What a token adds to the cache."""
    return (
        f"{config.kv_elements_per_token * 4:,} bytes a token: k and v × {config.num_hidden_layers} "
        f"layers × {config.num_key_value_heads} heads × {config.head_dim}"
    )


def _text(pieces: Sequence[str], births: Sequence[int], steps: int) -> Lane:
    """The text, as the step with a cache takes it: one token is new, the others are read."""
    cells = []
    for i, (text, born) in enumerate(zip(pieces, births, strict=True)):
        free = (Change(0, "free", ""),) if born else ()
        read = (Change(born + 1, "read"),) if born + 1 < steps else ()
        history = (*free, Change(born, "computed", readable(text)), *read)
        cells.append(Cell(readable(text), history, link=f"token {i}", tip=f"token {i}: “{text}”"))
    return Lane("text", tuple(cells), prose=True)


def _work(title: str, pieces: Sequence[str], held: Sequence[tuple[int]], old: str) -> Heat:
    """A row per step, a column per token; tokens of earlier steps are in state `old`."""
    patches = []
    for step, (now,) in enumerate(held):
        before = held[step - 1][0] if step else 0
        patches += [Patch(step, Rect(step, 0, 1, before), 1)] if step else []
        patches.append(Patch(step, Rect(step, before, 1, now - before), 0))
    return Heat(
        len(held),
        len(pieces),
        tuple(patches),
        states=("computed", old),
        marks=tuple((step, Rect(step, 0, 1, now)) for step, (now,) in enumerate(held)),
        row_labels=tuple(f"step {step + 1}" for step in range(len(held))),
        column_labels=tuple(map(heading, pieces)),
        column_links=tuple(f"token {i}" for i in range(len(pieces))),
        title=title,
        sweep="right",
        share=6,
    )


def _stack(parts: Sequence[float], series: str) -> tuple[Bar, ...]:
    """One part on the other, step by step."""
    sums = [0.0, *accumulate(parts)]
    return tuple(Bar(step, a, b, series) for step, (a, b) in enumerate(pairwise(sums)))


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
    plain: Sequence[Step], cached: Sequence[Step], sizes: Sequence[int]
) -> tuple[Number, ...]:
    slow, fast = (list(accumulate(step.seconds for step in steps)) for steps in (plain, cached))
    rows, few = (list(accumulate(step.computed for step in steps)) for steps in (plain, cached))
    card = ACCELERATORS["RTX 4090"]
    return (
        Number(
            "tokens through the layers",
            tuple(f"{a:,} → {b:,}" for a, b in zip(rows, few, strict=True)),
            "computed",
        ),
        Number(
            f"such caches fill {card.memory / 1e9:.0f} GB ({card.name})",
            tuple(f"{card.memory / size:,.0f}" for size in sizes),
            "computed",
        ),
        Number(
            "this step",
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
        opening=len(steps) - 1,  # where all that is thrown away is seen
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
